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
    if not _in_main_thread():
        yield
        return
    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
        _raise_waiting()
    finally:
        _State.waiting = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def shielded() -> Iterator[None]:
    """Let a teardown finish although a signal comes; it is raised afterwards. The second one breaks through."""
    if not _in_main_thread():  # no signal is ever raised elsewhere
        yield
        return
    if not _State.shields:
        _State.seen_while_shielded = 0
    _State.shields += 1
    try:
        yield
    finally:
        _State.shields -= 1
    _raise_waiting()


@contextmanager
def deferred() -> Iterator[None]:
    """Hold an interruption back until the block ends: for moments in which a thread or a child is being born.

    Keep such blocks short, and inside the `try` that ends what is born: the interruption is raised at their end. An
    exception out of the middle of `Thread.start` or `Popen` would leave a thread or a process that nobody knows of.
    """
    if not _in_main_thread():  # no signal is ever raised elsewhere
        yield
        return
    _State.deferrals += 1
    try:
        yield
    finally:
        _State.deferrals -= 1
    _raise_waiting()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _raise_waiting() -> None:
    """Raise what came in a quiet moment, once nobody asks for quiet any more."""
    if _State.waiting and not (_State.shields or _State.deferrals):
        waiting, _State.waiting = _State.waiting, None
        raise waiting


def _on_signal(number: int, _frame: FrameType | None) -> None:
    told = f"Stopped by {signal.Signals(number).name}."
    stop = Interruption(InterruptedRunError(told, then="repeat the command; `invoke status` shows what is there."))
    _State.seen_while_shielded += 1
    if _State.deferrals or (_State.shields and _State.seen_while_shielded < 2):
        _State.waiting = stop
        return
    _State.waiting = None
    raise stop
