"""Start, poll, complete: how many such cycles a second, and how long one takes when nobody else is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from smallcluster.api import Api
from smallcluster.bench.client import RequestFailedError
from smallcluster.bench.figures import Latencies, Spread
from smallcluster.bench.plan import CONNECTIONS, Plan
from smallcluster.bench.traffic import Ledger, Speaker, Worker, complete_rest, register, speaking

HOLD_SECONDS = 5
"""A cycle's poll finds its task ready; one that comes back empty after this long is a failed cycle."""
WARM_UP_SECONDS = 2.0
"""A run's length at most."""


@dataclass(frozen=True)
class Cycles:
    """Cycles a second by run, over all connections; milliseconds of whole cycles, crowded and alone."""

    rate: Spread | None
    crowded: Latencies | None
    alone: Latencies | None
    completed: int
    """Cycles in all, warm-up included."""
    weak: tuple[str, ...] = ()
    """Why the figures can't be trusted, where they can't."""


async def measure(api: Api, plan: Plan, ledger: Ledger, say: Callable[[str], None]) -> Cycles:
    """Warm up, run after run over all connections at once, then one connection alone. The first failure ends it."""
    worker = await asyncio.to_thread(register, api, ledger, "cycles")
    rates: list[float] = []
    crowded: list[float] = []
    alone: list[float] = []
    weak: list[str] = []
    async with AsyncExitStack() as stack:
        speakers = [await stack.enter_async_context(speaking(api, ledger)) for _ in range(CONNECTIONS)]
        try:
            await stretch(speakers, worker, min(WARM_UP_SECONDS, plan.seconds))
            for number in range(1, plan.runs + 1):
                took = await stretch(speakers, worker, plan.seconds)
                rates.append(len(took) / plan.seconds)
                crowded += took
                say(f"run {number} of {plan.runs}: {rates[-1]:.1f} cycles/s")
            alone = await stretch(speakers[:1], worker, plan.seconds)
        except RequestFailedError as problem:
            weak.append(str(problem))
        await _tidy(api, worker, ledger, weak)
    return Cycles(Spread.of(rates), Latencies.of(crowded), Latencies.of(alone), ledger.completed, tuple(weak))


async def stretch(speakers: list[Speaker], worker: Worker, seconds: float) -> list[float]:
    """Cycle on every connection for so long; gives the durations of the cycles that ended in time, in seconds."""
    until = asyncio.get_running_loop().time() + seconds
    loops = [asyncio.ensure_future(_loop(speaker, worker, until)) for speaker in speakers]
    ended = await asyncio.gather(*loops, return_exceptions=True)  # each ends its cycle, whatever becomes of the others
    took = []
    for one in ended:
        if isinstance(one, BaseException):
            raise one
        took += one
    return took


async def _loop(speaker: Speaker, worker: Worker, until: float) -> list[float]:
    took, now = [], asyncio.get_running_loop().time
    while (began := now()) < until:
        await speaker.start(worker)
        task = await speaker.poll(worker, HOLD_SECONDS)
        if task is None:
            raise RequestFailedError(f"a poll found no task within {HOLD_SECONDS} s of a start via {speaker.route}")
        await speaker.complete(task)
        if speaker.answered_at <= until:
            took.append(speaker.answered_at - began)
    return took


async def _tidy(api: Api, worker: Worker, ledger: Ledger, weak: list[str]) -> None:
    try:
        async with speaking(api, ledger) as speaker:
            await complete_rest(speaker, worker)
    except RequestFailedError as problem:
        weak.append(f"tidying up: {problem}")
