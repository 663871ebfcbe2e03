"""Turns SIGINT, SIGTERM and SIGHUP into one exception, raised where it can do no harm."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from smallcluster.errors import InterruptedRunError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption(BaseException):
    """A person or a supervisor stops the run. Not an Exception: nothing on its way may mistake it for a failure."""

    def __init__(self, problem: InterruptedRunError) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _State:
    """What the handler has to know: who asked for quiet, and what came meanwhile."""

    shields = 0
    seen_while_shielded = 0
    deferrals = 0
    waiting: Interruption | None = None


@contextmanager
def as_exceptions() -> Iterator[None]:
    """Raise Interruption in the main thread when the run is told to stop; SIGTERM alone skips `finally`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Let a teardown finish although one more signal comes; the second one during it breaks through."""
    _State.shields += 1
    _State.seen_while_shielded = 0
    try:
        yield
    finally:
        _State.shields -= 1


@contextmanager
def deferred() -> Iterator[None]:
    """Hold an interruption back until the block ends: for moments in which a thread or a child is being born.

    Keep such blocks short. An exception out of the middle of `Thread.start` or `Popen` would leave a thread or a
    process that nobody knows of.
    """
    _State.deferrals += 1
    try:
        yield
    finally:
        _State.deferrals -= 1
    if _State.waiting and not _State.deferrals and threading.current_thread() is threading.main_thread():
        waiting, _State.waiting = _State.waiting, None
        raise waiting


def _on_signal(number: int, _frame: FrameType | None) -> None:
    if _State.shields:
        _State.seen_while_shielded += 1
        if _State.seen_while_shielded < 2:
            return
    stop = Interruption(InterruptedRunError(f"Stopped by {signal.Signals(number).name}."))
    if _State.deferrals:
        _State.waiting = stop
        return
    raise stop
