"""The one scheduler: the three passes in turn, a pause, and again, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from dw_refserver.maintenance import PASSES, lines_of
from dw_refserver.settings import Settings
from dw_refserver.store.database import BackendUnavailableError, Database, cause_of, opened


def run_pass(settings: Settings, name: str, limit: int) -> int:
    """Run one pass once. 0 if all items went well, else 1."""

    async def once() -> int:
        async with opened(settings.database, name) as db:
            return 0 if await _pass(db, name, limit) else 1

    return asyncio.run(once())


def run_loop(settings: Settings, limit: int) -> int:
    """Loop until SIGTERM or SIGINT. Trouble with the database is said and tried again, never fatal."""
    return asyncio.run(_loop(settings, limit))


async def _loop(settings: Settings, limit: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    async with opened(settings.database, "scheduler") as db:
        while not stop.is_set():
            await _until(stopping, _all_passes(db, settings, limit))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.scheduler_interval):
                    await stop.wait()
    _say("scheduler: stopped")
    return 0


async def _until(stopping: asyncio.Task[Any], work: Coroutine[Any, Any, None]) -> None:
    """Do the work, but drop it when it is time to stop: every item is a transaction of its own."""
    task = asyncio.create_task(work)
    await asyncio.wait({stopping, task}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
    await asyncio.wait({task}, timeout=0.5)


async def _all_passes(db: Database, settings: Settings, limit: int) -> None:
    answered = [await _pass(db, name, limit) is not None for name in PASSES]
    if all(answered):
        Path(settings.scheduler_beat_file).touch()


async def _pass(db: Database, name: str, limit: int) -> bool | None:
    """Run a pass and print its lines. True if all went well, False if items failed, None if it could not run."""
    work, _, _ = PASSES[name]
    try:
        tally = await work(db, limit)
    except (BackendUnavailableError, DBAPIError) as error:
        _say(f"{name}: could not run: {cause_of(error)}")
        return None
    for line in lines_of(tally):
        _say(line)
    return not tally.failures


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what a person reads in the scheduler's log
