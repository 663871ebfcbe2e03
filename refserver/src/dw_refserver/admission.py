"""Admission: claims kept within their budgets, over all nodes. Where no budget is set, nothing of this runs.

Leases are counted in the database and claimed under one lock in Redis, so that no other node claims between the two.
Without the lock nothing is handed out: a budget that holds only in good times is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar
from weakref import WeakValueDictionary

from redis.asyncio.lock import Lock

from dw_refserver.budgets import Budget
from dw_refserver.logs import log
from dw_refserver.settings import Settings
from dw_refserver.signals import LOST, connect
from dw_refserver.store import queues
from dw_refserver.store.database import BackendUnavailableError, Database
from dw_refserver.store.tasks import Poll
from dw_refserver.wake import NotNow

T = TypeVar("T")
Claim = Callable[[Database, Poll], Awaitable[T | None]]

_LOCK_SECONDS = 5.0
_WORK_SECONDS = 4.0
"""What count and claim may take together: they end before the lock does."""
_WAIT_SECONDS = 1.0
_LOOK_SECONDS = 0.02


class Gate:
    """One node's way past the budgets."""

    def __init__(self, settings: Settings) -> None:
        self.budgets, self.prefix = settings.budgets, f"{settings.redis.prefix}admission:"
        self.redis = connect(settings.redis, _WAIT_SECONDS)
        self.turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.lost = False

    def within(self, claim: Claim[T]) -> Claim[T]:
        """The same claim, kept within the poll's budget if it has one."""

        async def admitted(db: Database, poll: Poll) -> T | None:
            budget = self.budgets.of(poll.task_type, poll.namespace, poll.queue)
            if not budget.limited:
                return await claim(db, poll)
            async with self._alone(scope_of(poll, budget)):
                if await _spent(db, poll, budget):
                    raise NotNow("throttled")
                return await claim(db, poll)

        return admitted

    @asynccontextmanager
    async def _alone(self, scope: str) -> AsyncIterator[None]:
        """Hold the scope's lock: first this node's polls in turn, then against the other nodes."""
        turn = self.turns.setdefault(scope, asyncio.Lock())
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await turn.acquire()
        except TimeoutError:
            raise NotNow("throttled") from None
        try:
            async with self._locked(scope), asyncio.timeout(_WORK_SECONDS):
                yield
        except TimeoutError:
            raise BackendUnavailableError("the admission lock would end before the claim") from None
        finally:
            turn.release()

    @asynccontextmanager
    async def _locked(self, scope: str) -> AsyncIterator[None]:
        lock = self.redis.lock(
            self.prefix + scope, timeout=_LOCK_SECONDS, sleep=_LOOK_SECONDS, blocking_timeout=_WAIT_SECONDS
        )
        if not await self._taken(lock):
            raise NotNow("throttled")
        try:
            yield
        finally:
            with suppress(*LOST):  # it ends by itself
                await lock.release()

    async def _taken(self, lock: Lock) -> bool:
        try:
            async with asyncio.timeout(2 * _WAIT_SECONDS):
                taken: bool = await lock.acquire()
        except LOST as error:
            if not self.lost:
                log("admission_lock_lost", "warning", error=type(error).__name__)
            self.lost = True
            return False
        if self.lost:
            log("admission_lock_recovered")
        self.lost = False
        return taken


def scope_of(poll: Poll, budget: Budget) -> str:
    """What one lock covers: the namespace if it has a limit, else the queue. No namespace holds a colon."""
    part = f"{poll.task_type}:{poll.namespace}"
    return part if budget.namespace is not None else f"{part}:{poll.queue}"


async def _spent(db: Database, poll: Poll, budget: Budget) -> bool:
    """Whether a limit is reached, without what this very poll holds: it gets that again."""
    names = [poll.queue] if budget.namespace is None else await queues.names(db, poll.namespace)
    held = await queues.leased(db, poll.namespace, poll.task_type, names, poll.key)
    return any((
        budget.queue is not None and held.get(poll.queue, 0) >= budget.queue,
        budget.namespace is not None and sum(held.values()) >= budget.namespace,
    ))  # fmt: skip
