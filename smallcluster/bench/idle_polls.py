"""Thousands of polls that wait on one node, and how the node fares meanwhile: memory, and /api/health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from smallcluster.api import Api
from smallcluster.bench.client import RequestFailedError
from smallcluster.bench.figures import Latencies
from smallcluster.bench.plan import OPENED_A_SECOND, SETTLE_SECONDS, Plan
from smallcluster.bench.traffic import Ledger, Speaker, Worker, register, speaking
from smallcluster.bench.usage import Memory

WORKERS = 100
"""Workers, each on a queue of its own, among which the polls are spread."""
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
    held: int = 0
    """Polls that were sent before the look at health and unanswered after it."""
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
    """Open the polls at a steady rate, look at health while all are held, wait until all have come back empty."""
    count = min(WORKERS, plan.polls)
    found = IdlePolls(route=node.route, asked=plan.polls, hold=plan.hold, workers=count)
    crowd = _Crowd(node, plan.hold, ledger)
    try:
        workers = [await asyncio.to_thread(register, node, ledger, "idle") for _ in range(count)]
        found.before = await asyncio.to_thread(memory)
        await crowd.open(workers, plan.polls)
        say(f"{plan.polls} polls sent to {node.route} within {plan.opening:.1f} s")
        await asyncio.sleep(SETTLE_SECONDS)
        async with speaking(node, ledger) as speaker:
            await _look(speaker, plan.look, memory, crowd, found)
        say(f"{found.held} polls were held during {plan.look:.0f} s; waiting until they come back")
        found.shortest, found.longest = await crowd.all_back()
        found.after = await asyncio.to_thread(memory)
    except RequestFailedError as problem:
        found.weak.append(str(problem))
    finally:
        await crowd.end()
    if found.held < found.asked:
        found.weak.append(f"only {found.held} of {found.asked} polls were held during the look at health")
    return found


async def _look(
    speaker: Speaker, seconds: float, memory: Callable[[], Memory], crowd: _Crowd, found: IdlePolls
) -> None:
    sent, first = crowd.sent, await asyncio.to_thread(memory)
    found.health = Latencies.of(await _health(speaker, seconds))
    found.during = max(first, await asyncio.to_thread(memory), key=lambda one: one.used)
    found.held = sent - crowd.answered


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
        self.sent = 0

    @property
    def answered(self) -> int:
        """How many have ended, one way or another."""
        return sum(poll.done() for poll in self._polls)

    async def open(self, workers: Sequence[Worker], polls: int) -> None:
        """Send one poll after another at a steady rate, spread evenly among the workers."""
        loop = asyncio.get_running_loop()
        first = loop.time()
        for number in range(polls):
            await asyncio.sleep(max(first + number / OPENED_A_SECOND - loop.time(), 0))
            self._polls.append(asyncio.create_task(self._poll(workers[number % len(workers)])))

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

    async def _poll(self, worker: Worker) -> float:
        async with speaking(self._node, self._ledger) as speaker:
            began, self.sent = asyncio.get_running_loop().time(), self.sent + 1
            if await speaker.poll(worker, self._hold, LATE_SECONDS) is not None:
                raise RequestFailedError("an idle poll was given a task")
            return speaker.answered_at - began
