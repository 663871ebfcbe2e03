"""Wake latency: a poll held by one node, a start through the other, and the time between their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import permutations

from smallcluster.api import Api
from smallcluster.bench.client import RequestFailedError
from smallcluster.bench.figures import Latencies
from smallcluster.bench.plan import WAKES_A_RUN, Plan
from smallcluster.bench.traffic import Ledger, Speaker, Worker, complete_rest, register, speaking

HOLD_SECONDS = 5
GAUGES = 20
"""Polls that may not be held at all, sent to learn how long a poll is on its way to its wait."""
LEAST_SETTLE = 0.05
SURELY_HELD = (
    "a poll is sent on a connection of its own; the start follows after twice the slowest of {gauges} polls with "
    "timeout_seconds 0 ({settle:.0f} ms); a poll that is answered by then would end the measurement as weak"
)


@dataclass
class Direction:
    """The tries of one ordered pair of nodes, in seconds."""

    waiting: str
    starting: str
    settle: float = LEAST_SETTLE
    seconds: list[float] = field(default_factory=list)

    @property
    def latencies(self) -> Latencies | None:
        """The direction's own figures."""
        return Latencies.of(self.seconds)

    @property
    def surely_held(self) -> str:
        """How it was ensured that a poll waited before the start."""
        return SURELY_HELD.format(gauges=GAUGES, settle=self.settle * 1000)


@dataclass(frozen=True)
class Wakes:
    """Both directions, and all of their tries together."""

    directions: tuple[Direction, ...]
    weak: tuple[str, ...] = ()

    @property
    def latencies(self) -> Latencies | None:
        """Every try that counts."""
        return Latencies.of([one for direction in self.directions for one in direction.seconds])


async def measure(nodes: Sequence[Api], plan: Plan, ledger: Ledger, say: Callable[[str], None]) -> Wakes:
    """Try every ordered pair of nodes, one try at a time. The first failure ends it."""
    directions, weak = [], []
    for waiting, starting in permutations(nodes, 2):
        direction = Direction(waiting.route, starting.route)
        directions.append(direction)
        try:
            await _tries(waiting, starting, direction, plan.runs * WAKES_A_RUN, ledger)
        except RequestFailedError as problem:
            weak.append(str(problem))
        say(f"start on {starting.route}, poll on {waiting.route}: {len(direction.seconds)} wakes")
    return Wakes(tuple(directions), tuple(weak))


async def _tries(waiting: Api, starting: Api, direction: Direction, tries: int, ledger: Ledger) -> None:
    worker = await asyncio.to_thread(register, waiting, ledger, "wakes")
    async with AsyncExitStack() as stack:
        poller = await stack.enter_async_context(speaking(waiting, ledger))
        starter = await stack.enter_async_context(speaking(starting, ledger))
        direction.settle = max(2 * await _slowest_empty_poll(poller, worker), LEAST_SETTLE)
        for _ in range(tries):
            await _try(poller, starter, worker, direction)
        await complete_rest(starter, worker)


async def _slowest_empty_poll(poller: Speaker, worker: Worker) -> float:
    """Seconds of a poll that does all that comes before the wait and then does not wait; the slowest of some."""
    slowest, now = 0.0, asyncio.get_running_loop().time
    for _ in range(GAUGES):
        began = now()
        await poller.poll(worker, 0)
        slowest = max(slowest, poller.answered_at - began)
    return slowest


async def _try(poller: Speaker, starter: Speaker, worker: Worker, direction: Direction) -> None:
    polling = asyncio.ensure_future(poller.poll(worker, HOLD_SECONDS))
    polling.add_done_callback(lambda late: late.cancelled() or late.exception())  # seen, also where the start fails
    try:
        await asyncio.wait({polling}, timeout=direction.settle)
        if polling.done():
            raise RequestFailedError(f"a poll was answered by {poller.route} although there was nothing yet")
        run_id = await starter.start(worker)
        task = await polling
    finally:
        polling.cancel()
    if task is None or task.get("run_id") != run_id:
        raise RequestFailedError(f"a poll held by {poller.route} did not get the task of the start that followed it")
    direction.seconds.append(max(poller.answered_at - starter.answered_at, 0.0))
    await starter.complete(task)
