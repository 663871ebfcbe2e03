"""Wake signals between nodes: one Redis channel that every node listens to, and the prober that makes up for losses.
The scheduler announces what it creates on the same channel, and listens to nothing.

Publishing never delays a request and never fails one: signals are queued and sent in the background, and one that
can't be sent is dropped, because the prober of the waiting node finds the task within its interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from sqlalchemy import Row

from dw_refserver.logs import log
from dw_refserver.settings import Redis as Where
from dw_refserver.store import runs, tasks
from dw_refserver.store.database import BackendUnavailableError, Database
from dw_refserver.ulid import new_ulid
from dw_refserver.wake import Hub, Queue

LOST = (RedisError, OSError, TimeoutError, RuntimeError)
"""How Redis out of reach shows: RuntimeError is uvloop's word for a connection that closed a moment ago."""

Wakes = Sequence[tuple[Queue, str | None, int]]
"""Whom to wake: queue, target type, how many."""

_MOST_PENDING = 10_000
_MOST_QUEUES_A_PROBE = 500
_PROBE_SECONDS = 2.0
_RETRY_SECONDS = 0.5
_MOST_DUE, _AT_ONCE = 100, 4


def connect(where: Where, seconds: float) -> Redis:
    """A client that gives up after `seconds` and leaves retrying to its caller."""
    return Redis(
        host=where.host, port=where.port, username=where.user or None, password=where.password or None,
        db=where.number, socket_connect_timeout=seconds, socket_timeout=seconds, retry=Retry(NoBackoff(), 0),
        protocol=2,
    )  # fmt: skip


class Announcer:
    """Publishes wake signals in the background."""

    def __init__(self, where: Where) -> None:
        self.channel = f"{where.prefix}wake"
        self.origin = new_ulid()
        self.redis = connect(where, 1.0)
        self.pending: deque[bytes] = deque(maxlen=_MOST_PENDING)
        self.unsent = asyncio.Event()
        self.troubles: set[str] = set()
        self.loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; the loops run until `stop`."""
        self.loops = [asyncio.create_task(self._keep(what, work)) for what, work in self._works().items()]

    def _works(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {"publish": self._publish}

    async def stop(self) -> None:
        """Send what is queued if that is quick, then end the loops."""
        with contextlib.suppress(*LOST):
            async with asyncio.timeout(0.3):
                await self._flush()
        for loop in self.loops:
            loop.cancel()
        await asyncio.gather(*self.loops, return_exceptions=True)
        await self.redis.aclose()

    def announce(self, queue: Queue, target_type: str | None) -> None:
        """A task became ready: wake a waiter on every other node; the database decides who gets it."""
        self.pending.append(orjson.dumps([self.origin, *queue, target_type]))
        self.unsent.set()

    def announce_later(self, queue: Queue, target_type: str | None, delay: float) -> None:
        """Announce a task that becomes ready after `delay` seconds."""
        if delay <= 0:
            self.announce(queue, target_type)
        else:
            asyncio.get_running_loop().call_later(delay, self.announce, queue, target_type)

    async def _keep(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work for ever. Trouble, whatever it is, is said once and the work begun again."""
        while True:
            try:
                await work()
            except Exception as error:
                if what not in self.troubles:
                    self.troubles.add(what)
                    log(f"wake_{what}_failing", "warning", error=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)

    def _well(self, what: str) -> None:
        if what in self.troubles:
            self.troubles.discard(what)
            log(f"wake_{what}_recovered")

    async def _publish(self) -> None:
        while True:
            await self.unsent.wait()
            self.unsent.clear()
            await self._flush()
            self._well("publish")

    async def _flush(self) -> None:
        pipeline = self.redis.pipeline(transaction=False)
        while self.pending:
            pipeline.publish(self.channel, self.pending.popleft())
        if len(pipeline):
            await pipeline.execute()


@asynccontextmanager
async def announcing(where: Where) -> AsyncIterator[Announcer]:
    """An announcer for as long as the block runs."""
    announcer = Announcer(where)
    announcer.start()
    try:
        yield announcer
    finally:
        await announcer.stop()


class Signals(Announcer):
    """The background work of one node: publish, listen, probe the database, and Redis for what is due in it alone; fire
    timers, and end runs past their deadline."""

    def __init__(
        self, where: Where, hub: Hub, db: Database, interval: float, due: Callable[[Iterable[Queue]], Awaitable[Wakes]]
    ) -> None:
        super().__init__(where)
        self.hub, self.db, self.interval, self.due = hub, db, interval, due
        self.probe_now, self.timer_due = asyncio.Event(), asyncio.Event()

    def _works(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {**super()._works(), "listen": self._listen, "probe": self._probe, "queries": self._reprobe,
                "timers": self._fire, "deadlines": self._end_overdue}  # fmt: skip

    def announce(self, queue: Queue, target_type: str | None) -> None:
        """Wake a waiter here too. A timer that is due now is nobody's to wait for: this node fires it."""
        if queue.task_type == "timer":
            self.timer_due.set()
            return
        self.hub.wake(queue, target_type)
        super().announce(queue, target_type)

    async def _listen(self) -> None:
        async with self.redis.pubsub() as pubsub:
            await pubsub.subscribe(self.channel)
            self._well("listen")
            self.probe_now.set()  # whatever was signalled while nobody listened
            silent = 0
            while silent < 2:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
                silent = silent + 1 if message is None else 0
                if message is None:
                    await pubsub.ping()
                elif message["type"] == "message":
                    self._hear(message["data"])
            raise TimeoutError("Redis does not answer")

    def _hear(self, data: bytes) -> None:
        origin, namespace, name, task_type, target_type = orjson.loads(data)
        if origin != self.origin:
            self.hub.wake(Queue(namespace, name, task_type), target_type)

    async def _probe(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if "probe" in self.troubles else self.interval):
                    await self.probe_now.wait()
            self.probe_now.clear()
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    await self._probe_once()
            except Exception:
                if "probe" in self.troubles:  # once may be a busy moment: nobody is sent home for that
                    self.hub.interrupt(BackendUnavailableError("probe"))
                raise

    async def _probe_once(self) -> None:
        queues = [queue for queue in self.hub.waiting if queue.task_type in ("workflow", "activity")]
        if not queues:
            return
        if len(queues) > _MOST_QUEUES_A_PROBE:  # by lot, so that each has its turn
            queues = random.sample(queues, _MOST_QUEUES_A_PROBE)
        due = await tasks.due(self.db, queues, self.interval)
        self._well("probe")
        for row in due:
            queue = Queue(row.namespace, row.queue, row.task_type)
            if row.due_in <= 0:
                self.hub.wake(queue, row.target_type, row.ready)
            else:
                asyncio.get_running_loop().call_later(float(row.due_in), self.hub.wake, queue, row.target_type)

    async def _reprobe(self) -> None:
        while True:
            await asyncio.sleep(self.interval)
            for queue, target_type, count in await self.due(list(self.hub.waiting)):
                self.hub.wake(queue, target_type, count)
            if "queries" in self.troubles:
                await self.redis.ping()  # it may be that nobody waits any longer, and nothing was asked
            self._well("queries")

    async def _fire(self) -> None:
        """Fire the timers that are due, then sleep until the next or for an interval, whichever is shorter.

        All nodes do this for all queues, so that no timer depends on one of them, or on anybody's polling.
        """
        while True:
            self.timer_due.clear()
            found = await runs.with_due_timers(self.db, _MOST_DUE)
            await _each(random.sample(found, len(found)), self._fire_timers)  # by lot: each node begins elsewhere
            self._well("timers")
            soon = await runs.next_timer(self.db, self.interval)
            pause = 0.0 if len(found) == _MOST_DUE else self.interval if soon is None else max(soon, 0.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.timer_due.wait()

    async def _fire_timers(self, due: Row[Any]) -> None:
        fired = await runs.fire_timers(self.db, due.workflow_run_id)
        if fired is not None:
            run, new_tasks = fired
            for task in new_tasks:
                self.announce(Queue(run.namespace, task.queue, task.task_type), task.target_type)

    async def _end_overdue(self) -> None:
        """End the runs that have passed a deadline, as all nodes do."""
        while True:
            await _each(await runs.overdue(self.db, _MOST_DUE), self._time_out)
            self._well("deadlines")
            await asyncio.sleep(self.interval)

    async def _time_out(self, run: Row[Any]) -> None:
        await runs.time_out_run(self.db, run.id, run.kind)


async def _each(rows: Sequence[Row[Any]], work: Callable[[Row[Any]], Awaitable[None]]) -> None:
    """Do the work for each, a few at a time. One that fails holds up no other, and is raised at the end."""
    left, failures = iter(rows), list[Exception]()

    async def in_turn() -> None:
        for row in left:
            try:
                await work(row)
            except Exception as error:  # raised below
                failures.append(error)

    await asyncio.gather(*(in_turn() for _ in range(_AT_ONCE)))
    if failures:
        raise failures[0]
