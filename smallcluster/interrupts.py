"""Turns SIGINT, SIGTERM and SIGHUP into one exception, and keeps a second one from cutting a teardown short."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from smallcluster.errors import InterruptedRunError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """How many signals came, and whether they must wait for a teardown."""

    shields = 0
    seen = 0


@contextmanager
def as_exceptions() -> Iterator[None]:
    """Raise InterruptedRunError in the main thread when the run is told to stop; SIGTERM alone skips `finally`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.seen = 0


@contextmanager
def shielded() -> Iterator[None]:
    """Let a teardown finish although one more signal comes; the second one during it breaks through."""
    _State.shields += 1
    _State.seen = 0
    try:
        yield
    finally:
        _State.shields -= 1


def _on_signal(number: int, _frame: FrameType | None) -> None:
    _State.seen += 1
    if _State.shields and _State.seen < 2:
        return
    raise InterruptedRunError(f"Stopped by {signal.Signals(number).name}.")
