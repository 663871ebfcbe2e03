"""Who waits for work, and what wakes them.

A held poll is one `Waiter`: no database connection, no timer of its own. Three things wake it: a task created on this
node, a signal from another node through Redis, and the node's one prober, which asks the database once per interval
for all waited-on queues. The database is the truth; the other two only make it quick.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Queue(NamedTuple):
    """What a poll waits on."""

    namespace: str
    name: str
    task_type: str = "workflow"


class Closing(Exception):  # noqa: N818 - an order to go home, not a fault
    """The node is shutting down; held polls are answered empty."""


class NotNow(Exception):  # noqa: N818 - an answer, not a fault
    """Nothing may be handed out at the moment; the argument is the poll's status if that doesn't change in time."""


@dataclass(eq=False, slots=True)
class Waiter:
    """One held poll. `types` are the targets its worker can run; none means any."""

    types: frozenset[str] = frozenset()
    woken: asyncio.Future[str | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def wants(self, target_type: str | None) -> bool:
        """Whether a wake for this target is for it."""
        return not self.woken.done() and (target_type is None or not self.types or target_type in self.types)

    def rearm(self) -> None:
        """Act on the wake, so that nobody else needs it, and get ready for the next."""
        if self.woken.done():
            self.woken = asyncio.get_running_loop().create_future()


class Hub:
    """The waiters of one node, first come first woken."""

    def __init__(self) -> None:
        self.waiting: dict[Queue, deque[Waiter]] = {}
        self.closing = False

    @contextmanager
    def wait_on(self, queue: Queue) -> Iterator[Waiter]:
        """Stand in line for as long as the block runs; a wake that came too late goes to the next in line."""
        waiter = Waiter()
        line = self.waiting.setdefault(queue, deque())
        line.append(waiter)
        try:
            yield waiter
        finally:
            line.remove(waiter)
            if not line and self.waiting.get(queue) is line:
                del self.waiting[queue]
            if waiter.woken.done() and waiter.woken.exception() is None:
                self.wake(queue, waiter.woken.result())

    def wake(self, queue: Queue, target_type: str | None, count: int = 1) -> None:
        """Wake up to `count` waiters that can run the target."""
        for waiter in self.waiting.get(queue, ()):
            if count <= 0:
                return
            if waiter.wants(target_type):
                waiter.woken.set_result(target_type)
                count -= 1

    def interrupt(self, error: Exception) -> None:
        """End every wait with this error."""
        for line in self.waiting.values():
            for waiter in line:
                if not waiter.woken.done():
                    waiter.woken.set_exception(error)
                    waiter.woken.exception()  # seen: a waiter that left meanwhile need not look

    def close(self) -> None:
        """Send everybody home; later polls don't wait."""
        self.closing = True
        self.interrupt(Closing())

    async def woken(self, waiter: Waiter, seconds: float, gone: asyncio.Future[Any]) -> bool:
        """Wait for a wake; false when time is up or the caller is gone. Raises what `interrupt` was given."""
        if self.closing or seconds <= 0:  # a wake that came while time ran out is for the next in line
            return False
        await asyncio.wait({waiter.woken, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() or not waiter.woken.done():
            return False
        waiter.woken.result()
        return True
