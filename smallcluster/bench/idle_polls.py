"""Thousands of polls that wait on one node, and how the node fares meanwhile: memory, and /api/health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from smallcluster.api import Api
from smallcluster.bench.client import RequestFailedError
from smallcluster.bench.figures import Latencies
from smallcluster.bench.plan import LOOK_SECONDS, SPARE_SECONDS, Plan
from smallcluster.bench.traffic import Ledger, Speaker, Worker, register, speaking
from smallcluster.bench.usage import Memory

WORKERS = 100
"""Workers, each on a queue of its own, among which the polls are spread."""
BATCH = 100
"""Polls that are sent at once."""
HEALTH_A_SECOND = 20
LATE_SECONDS = 30.0
"""How late an idle poll's answer may come: thousands end at the same time, and how late they are is measured."""


@dataclass(kw_only=True)
class IdlePolls:
    """What was asked of the node and how it fared; what was not reached is None."""

    route: str
    asked: int
    hold: int
    workers: int
    opened_within: float | None = None
    """Seconds until the node had taken in every poll."""
    held: int = 0
    """Polls that the node had taken in before the look at health and had not answered after it."""
    shortest: float | None = None
    longest: float | None = None
    """Seconds that a poll was held, from its sending to its answer."""
    health: Latencies | None = None
    before: Memory | None = None
    during: Memory | None = None
    """The larger of two looks, before and after the look at health."""
    after: Memory | None = None
    weak: list[str] = field(default_factory=list)


async def measure(
    node: Api, plan: Plan, ledger: Ledger, memory: Callable[[], Memory], say: Callable[[str], None]
) -> IdlePolls:
    """Have the node take the polls in, look at health while all are held, wait until all have come back empty."""
    count = min(WORKERS, plan.polls)
    found = IdlePolls(route=node.route, asked=plan.polls, hold=plan.hold, workers=count)
    crowd = _Crowd(node, plan.hold, ledger)
    try:
        workers = [await asyncio.to_thread(register, node, ledger, "idle") for _ in range(count)]
        found.before = await asyncio.to_thread(memory)
        found.opened_within = await crowd.open(workers, plan.polls, say)
        async with speaking(node, ledger) as speaker:
            await _look(speaker, memory, crowd, found)
        say(f"{found.held} polls were held meanwhile; waiting until they come back")
        found.shortest, found.longest = await crowd.all_back()
        found.after = await asyncio.to_thread(memory)
    except RequestFailedError as problem:
        found.weak.append(str(problem))
    finally:
        await crowd.end()
    if found.held < found.asked:
        found.weak.append(f"only {found.held} of {found.asked} polls were held during the look at health")
    return found


async def _look(speaker: Speaker, memory: Callable[[], Memory], crowd: _Crowd, found: IdlePolls) -> None:
    first = await asyncio.to_thread(memory)
    left = found.hold - (found.opened_within or 0) - SPARE_SECONDS
    if left < 1:
        raise RequestFailedError(
            f"taking in {found.asked} polls took {found.opened_within} s of the {found.hold} s hold"
        )
    found.health = Latencies.of(await _health(speaker, min(LOOK_SECONDS, left)))
    found.during = max(first, await asyncio.to_thread(memory), key=lambda one: one.used)
    found.held = crowd.unanswered


async def _health(speaker: Speaker, seconds: float) -> list[float]:
    """Ask at a steady rate, one question at a time; a question that had to wait for its turn began when it was due."""
    loop, took = asyncio.get_running_loop(), []
    first = loop.time()
    for number in range(int(seconds * HEALTH_A_SECOND)):
        began = due = first + number / HEALTH_A_SECOND
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
            began = loop.time()
        await speaker.health()
        took.append(speaker.answered_at - began)
    return took


class _Crowd:
    """The idle polls, each on a connection of its own."""

    def __init__(self, node: Api, hold: int, ledger: Ledger) -> None:
        self._node, self._hold, self._ledger = node, hold, ledger
        self._polls: list[asyncio.Task[float]] = []

    @property
    def unanswered(self) -> int:
        """How many are held now."""
        return sum(not poll.done() for poll in self._polls)

    async def open(self, workers: Sequence[Worker], polls: int, say: Callable[[str], None]) -> float:
        """Send the polls batch by batch, spread evenly among the workers; gives the seconds that it took.

        After each batch a poll that is not to be held is sent on a connection of its own: connections are accepted in
        turn, so its answer says that the node has taken the batch in. So there is no storm, and at the end all polls
        are held and none is still being looked into.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        for first in range(0, polls, BATCH):
            sent = [loop.create_future() for _ in range(first, min(first + BATCH, polls))]
            for number, one in enumerate(sent, first):
                self._polls.append(asyncio.create_task(self._poll(workers[number % len(workers)], one)))
            await asyncio.wait(sent)
            async with speaking(self._node, self._ledger) as gauge:
                await gauge.poll(workers[0], 0, LATE_SECONDS)
            if first % (10 * BATCH) == 0:
                say(f"{first + len(sent)} of {polls} polls are held")
        return round(loop.time() - began, 2)

    async def all_back(self) -> tuple[float, float]:
        """Wait for every answer; gives the shortest and longest hold in seconds. Raises RequestFailedError."""
        ended = await asyncio.gather(*self._polls, return_exceptions=True)
        failures = [one for one in ended if isinstance(one, BaseException)]
        if failures:
            raise RequestFailedError(f"{len(failures)} of {len(ended)} idle polls failed, the first: {failures[0]}")
        held = [round(one, 2) for one in ended if not isinstance(one, BaseException)]
        return min(held), max(held)

    async def end(self) -> None:
        """Hang up whatever is still held."""
        for poll in self._polls:
            poll.cancel()
        await asyncio.gather(*self._polls, return_exceptions=True)

    async def _poll(self, worker: Worker, sent: asyncio.Future[None]) -> float:
        try:
            async with speaking(self._node, self._ledger) as speaker:
                began = asyncio.get_running_loop().time()
                sent.set_result(None)  # heard only after the next line has written the request
                if await speaker.poll(worker, self._hold, LATE_SECONDS) is not None:
                    raise RequestFailedError("an idle poll was given a task")
                return speaker.answered_at - began
        finally:
            if not sent.done():
                sent.set_result(None)
