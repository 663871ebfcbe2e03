"""Query tasks, in Redis alone: a query is a question about the present, and is asked again if it gets lost.

Per namespace and queue there is one list, first in, first out, and per task one hash with its state; each key has an
end of life. What must not be torn apart is one script: Redis runs it while nothing else runs, for whichever node, so
the script is the lock. Redis's clock is the only one here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson

from dw_refserver.settings import Settings
from dw_refserver.signals import LOST, connect
from dw_refserver.store.tasks import Poll
from dw_refserver.wake import Queue

T = TypeVar("T")

TASK, RESULT = "query", "query-result"
"""What is waited on: a worker for the next task of its queue, a caller for the result of its own."""
OPEN = ("pending", "leased")
ATTEMPT = 1
"""The attempt of every claim: an expired lease is not given out again."""

_AT_ONCE = 32
_SECONDS = 2.0

_CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function at(seconds) return string.format('%.0f', now + seconds * 1000) end
"""

_OFFER = f"""{_CLOCK}
local queue, task = KEYS[1], KEYS[2]
local most, ttl, item, tasks = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
if redis.call('LLEN', queue) >= most then
  for _, old in ipairs(redis.call('LRANGE', queue, 0, -1)) do
    local ends = redis.call('HGET', tasks .. string.match(old, '^%w+'), 'until')
    if not ends or tonumber(ends) <= now then redis.call('LREM', queue, 1, old) end
  end
  if redis.call('LLEN', queue) >= most then return 0 end
end
redis.call('HSET', task, 'status', 'pending', 'namespace', ARGV[5], 'asked', ARGV[6], 'until', at(ARGV[7]))
redis.call('EXPIRE', task, ttl)
redis.call('RPUSH', queue, item)
redis.call('EXPIRE', queue, ttl)
return 1
"""
"""Queue a task, unless the queue is full of tasks that somebody still waits for."""

_CLAIM = f"""{_CLOCK}
local queue, poll = KEYS[1], KEYS[2]
local tasks, worker, lease = ARGV[1], ARGV[2], ARGV[3]
local function taken(id) return redis.call('HMGET', tasks .. id, 'asked', 'until') end
local held = poll ~= '' and redis.call('GET', poll)
if held and redis.call('HGET', tasks .. held, 'status') == 'leased' then return taken(held) end
local able = {{}}
for number = 4, #ARGV do able[ARGV[number]] = true end
for _, item in ipairs(redis.call('LRANGE', queue, 0, -1)) do
  local id, kind = string.match(item, '^(%w+) (.*)$')
  if #ARGV == 3 or able[kind] then
    redis.call('LREM', queue, 1, item)
    local ends = redis.call('HGET', tasks .. id, 'until')
    if ends and tonumber(ends) > now then
      redis.call('HSET', tasks .. id, 'status', 'leased', 'owner', worker, 'until', at(lease))
      if poll ~= '' then redis.call('SET', poll, id, 'PX', string.format('%.0f', lease * 1000)) end
      return taken(id)
    end
  end
end
"""
"""Lease the task that this very poll holds already, or else the first that the worker can run; what nobody waits for
any more goes, what the worker can't run stays.
"""

_END = """
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'leased' and status ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'result', ARGV[3])
redis.call('HDEL', KEYS[1], 'asked')
if KEYS[2] then redis.call('LREM', KEYS[2], 1, ARGV[4]) end
return 1
"""
"""Close a task that is leased, or in the status of the first argument."""


class BrokerLostError(Exception):
    """Redis can't be reached, doesn't answer, or has forgotten the task."""


class QueueFullError(Exception):
    """As many queries are pending on the queue as it takes."""


@dataclass(frozen=True)
class Query:
    """A question to a run. `arguments` is a payload's blob."""

    id: str
    namespace: str
    queue: str
    workflow_id: str
    run_id: str
    workflow_type: str
    name: str
    arguments: str | None


@dataclass(frozen=True)
class State:
    """Where a task stands. `ends` and `now` are Redis's milliseconds."""

    namespace: str
    status: str
    owner: str | None
    ends: int
    now: int


def refusal(task: State | None, namespace: str, owner: str, attempt: int) -> tuple[str, str] | None:
    """Why a worker may not end the task: reason and sentence; None if it may."""
    if task is None or task.namespace != namespace:
        return "query_task_not_found", "Query task not found."
    if task.status != "leased":
        return "query_task_not_leased", "Query task is not currently leased."
    if task.owner != owner:
        return "lease_owner_mismatch", "Query task lease is owned by another worker."
    if attempt != ATTEMPT:
        return "query_task_attempt_mismatch", "Query task attempt does not match the current lease."
    if task.ends <= task.now:
        return "lease_expired", "Query task lease has expired."
    return None


class Broker:
    """One node's hand on the query tasks of all nodes."""

    def __init__(self, settings: Settings) -> None:
        self.limits, self.prefix = settings.queries, f"{settings.redis.prefix}query:"
        self.redis = connect(settings.redis, 1.0)
        self.turns = asyncio.Semaphore(_AT_ONCE)
        self.scripts = {text: self.redis.register_script(text) for text in (_OFFER, _CLAIM, _END)}

    def _queue(self, namespace: str, queue: str) -> str:
        return f"{self.prefix}queue:{namespace}:{queue}"  # no namespace holds a colon

    def _task(self, task_id: str) -> str:
        return f"{self.prefix}task:{task_id}"

    async def _bounded(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(_SECONDS), self.turns:
                return await work()
        except LOST as error:
            raise BrokerLostError(type(error).__name__) from error

    async def _script(self, text: str, keys: Sequence[str], *values: str | bytes | float) -> Any:
        return await self._bounded(lambda: self.scripts[text](keys=list(keys), args=list(values)))

    async def offer(self, query: Query) -> None:
        """Queue a query; its caller waits for as long as the settings say."""
        keys = self._queue(query.namespace, query.queue), self._task(query.id)
        asked, item = orjson.dumps(asdict(query)), _item(query)
        limits = self.limits
        fits = await self._script(
            _OFFER, keys, limits.most_pending, limits.ttl, item, self._task(""), query.namespace, asked, limits.timeout
        )
        if not fits:
            raise QueueFullError

    async def claim(self, poll: Poll, types: Iterable[str]) -> tuple[Query, datetime] | None:
        """The next query that a worker of these types (none means any) can answer, and the end of its lease."""
        keys = self._queue(poll.namespace, poll.queue), f"{self.prefix}poll:{poll.key}" if poll.key else ""
        found = await self._script(_CLAIM, keys, self._task(""), poll.worker_id, poll.lease, *types)
        if not found:
            return None
        asked, ends = found
        return Query(**orjson.loads(asked)), datetime.fromtimestamp(int(ends) / 1000, UTC)

    async def state(self, task_id: str) -> State | None:
        """Where the task stands; None once its time is over."""

        async def look() -> list[Any]:
            pipeline = self.redis.pipeline(transaction=True)
            pipeline.hmget(self._task(task_id), ["namespace", "status", "owner", "until"])
            pipeline.time()
            return await pipeline.execute()

        (namespace, status, owner, ends), (seconds, micros) = await self._bounded(look)
        if namespace is None:
            return None
        now = seconds * 1000 + micros // 1000
        return State(namespace.decode(), status.decode(), owner and owner.decode(), int(ends), now)

    async def settle(self, task_id: str, status: str, result: Any) -> bool:
        """Close a leased task with what its worker says; false if somebody has closed it meanwhile."""
        return bool(await self._script(_END, [self._task(task_id)], "leased", status, orjson.dumps(result)))

    async def abandon(self, query: Query) -> bool:
        """Close a task that nobody waits for any longer; false if it is closed already."""
        keys = self._task(query.id), self._queue(query.namespace, query.queue)
        return bool(await self._script(_END, keys, "pending", "timed_out", "null", _item(query)))

    async def outcome(self, query: Query) -> tuple[str, Any]:
        """The task's status and, taken out of Redis, its result."""

        async def take() -> list[Any]:
            pipeline = self.redis.pipeline(transaction=True)
            pipeline.hmget(self._task(query.id), ["status", "result"])
            pipeline.hdel(self._task(query.id), "result")
            return await pipeline.execute()

        (status, result), _ = await self._bounded(take)
        if status is None:
            raise BrokerLostError("forgotten")
        return status.decode(), result and orjson.loads(result)

    async def pending(self, namespace: str, queues: Sequence[str]) -> list[int]:
        """How many queries each queue holds, about: some may be waited for no longer."""

        async def count() -> list[int]:
            pipeline = self.redis.pipeline(transaction=False)
            for queue in queues:
                pipeline.llen(self._queue(namespace, queue))
            return await pipeline.execute()

        return await self._bounded(count) if queues else []

    async def due(self, waiting: Iterable[Queue]) -> list[tuple[Queue, str | None, int]]:
        """Whom a lost signal should have woken: queue, target type, how many. One round trip for all."""
        asked = [queue for queue in waiting if queue.task_type in (TASK, RESULT)]

        async def look() -> list[Any]:
            pipeline = self.redis.pipeline(transaction=False)
            for queue in asked:
                if queue.task_type == TASK:
                    pipeline.lrange(self._queue(queue.namespace, queue.name), 0, -1)
                else:
                    pipeline.hget(self._task(queue.name), "status")
            return await pipeline.execute()

        seen = await self._bounded(look) if asked else []
        return [wake for queue, found in zip(asked, seen, strict=True) for wake in _wakes(queue, found)]


def _item(query: Query) -> str:
    return f"{query.id} {query.workflow_type}"


def _wakes(queue: Queue, found: Any) -> list[tuple[Queue, str | None, int]]:
    if queue.task_type == TASK:
        kinds = Counter(item.decode().split(" ", 1)[1] for item in found)
        return [(queue, kind, count) for kind, count in kinds.items()]
    return [] if found is not None and found.decode() in OPEN else [(queue, None, 1)]
