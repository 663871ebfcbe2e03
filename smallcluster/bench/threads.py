"""Runs a coroutine to its end beside the main thread, which stays free to be interrupted.

A signal's exception inside an event loop's callback would be logged by the loop and lost. So the loop has a thread of
its own, and an interruption of the main thread's wait cancels the coroutine and waits for its cleaning up.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from smallcluster import interrupts

T = TypeVar("T")
CLEANUP_SECONDS = 10.0


def run_beside(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a thread with an event loop of its own; what it raises is raised here.

    Our own garbage collector rests meanwhile: its pauses would be measured as the cluster's.
    """
    gc.disable()
    try:
        return _run_beside(work)
    finally:
        gc.enable()


def _run_beside(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.new_event_loop()
    running = asyncio.run_coroutine_threadsafe(work, loop)
    thread = threading.Thread(target=loop.run_forever, name="bench", daemon=True)
    try:
        with interrupts.deferred():
            thread.start()
        return running.result()
    finally:
        with interrupts.shielded():
            running.cancel()
            if thread.is_alive():
                asyncio.run_coroutine_threadsafe(_others_end(), loop).result(CLEANUP_SECONDS)
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
            loop.close()


async def _others_end() -> None:
    """Wait until everything that was cancelled has cleaned up after itself."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
