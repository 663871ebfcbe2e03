"""Does a poll that waits on one node hear of work that another node took in: the shared Redis' wake signals."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from statistics import median

from smallcluster.api import Exchange
from smallcluster.bodies import text
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.judging import lacking
from smallcluster.checks.worker import HOLD_SECONDS, Worker, finish, task_in
from smallcluster.verdicts import Judgement, broken, holds, unknown

TRIES = 10
"""Wakes tried for each ordered pair of nodes."""
LEAD_SECONDS = 0.1
"""How long a poll is on its way before the start is sent, so that it waits when the work comes."""
QUICK_SECONDS = 0.3
"""Far below the forced reprobe (1 s by default), which would find the work after half of that on average."""
BUSY_SECONDS = QUICK_SECONDS / 3
"""Where a node takes longer than this to wake its own polls, which needs no Redis, the machine is too busy to judge."""


@dataclass(frozen=True, kw_only=True)
class Wake:
    """One try: a poll held by `waiting`, a start through `starting`, and the seconds between the two answers."""

    waiting: str
    starting: str
    polled: Exchange
    started: Exchange
    seconds: float
    held: bool
    """Whether the poll was still unanswered when the start was sent."""

    @property
    def woken(self) -> bool:
        """Whether the poll came back with the started run's task."""
        run = text(self.started.body.get("run_id"))
        return bool(run) and task_in(self.polled).get("run_id") == run


def wakes(live: Live) -> tuple[Wake, ...]:
    """Try every ordered pair of nodes, and each node with itself as the measure of what this machine can do now.

    All pairs try at the same time, each pair's tries one after another.
    """
    pairs = list(product(live.nodes, repeat=2))
    with ThreadPoolExecutor(max_workers=len(pairs)) as pool:
        rounds = pool.map(lambda pair: list(_tries(live, *pair)), pairs)
        return tuple(wake for tries in rounds for wake in tries)


def _tries(live: Live, waiting: str, starting: str) -> Iterator[Wake]:
    """Try again and again; the first failure says enough, and a dead node must not cost a held poll for each try."""
    worker = Worker(live, "wake")
    registered = worker.register(waiting)
    if not registered.ok:
        yield Wake(waiting=waiting, starting=starting, polled=registered, started=registered, seconds=0.0, held=False)
        return
    for number in range(TRIES):
        wake = _wake(worker, number, waiting, starting)
        yield wake
        if not wake.woken:
            return


def _wake(worker: Worker, number: int, waiting: str, starting: str) -> Wake:
    answered: list[tuple[Exchange, float]] = []

    def poll() -> None:
        exchange = worker.poll(waiting, HOLD_SECONDS)
        answered.append((exchange, time.monotonic()))

    waiter = threading.Thread(target=poll, daemon=True)
    waiter.start()
    waiter.join(LEAD_SECONDS)
    held = waiter.is_alive()
    started = worker.start(starting, f"-{number}")
    told = time.monotonic()
    waiter.join()
    exchange, came = answered[0]
    wake = Wake(
        waiting=waiting,
        starting=starting,
        polled=exchange,
        started=started,
        seconds=max(came - told, 0.0),
        held=held,
    )
    if wake.woken:
        finish(worker.live.api(starting), task_in(exchange))
    return wake


@check("wakes-cross-nodes", "redis.wake-signals", probe=wakes, needs=[Need.NODES, Need.WRITES])
def wakes_cross_nodes(seen: tuple[Wake, ...]) -> Judgement:
    """A poll that waits on one node is woken by a start through another, long before any reprobe of the database"""
    across = [wake for wake in seen if wake.waiting != wake.starting]
    own = _seconds(wake for wake in seen if wake.waiting == wake.starting)
    pairs = [_Pair(across, *pair) for pair in dict.fromkeys((wake.starting, wake.waiting) for wake in across)]
    failed = [answer for pair in pairs for wake in pair.failed[:1] for answer in (wake.started, wake.polled)]
    evidence = [*(pair.told for pair in pairs), f"start and poll on one node: {len(own)} woken{_spread(own)}"]
    evidence += dict.fromkeys(answer.shown for answer in failed)
    if failed or (any(pair.slow for pair in pairs) and own and median(own) < BUSY_SECONDS):
        return broken(
            *evidence,
            expected=f"every poll woken, half of them within {QUICK_SECONDS * 1000:.0f} ms",
            cause=lacking(*failed)
            or "the nodes do not share one Redis (REDIS_HOST, REDIS_DB, prefix), or it is down; the database's "
            "reprobe finds the work, later.",
            then="invoke logs --service=server-a",
        )
    if any(pair.slow for pair in pairs):
        return unknown(*evidence, cause="the machine is too busy: a node is as slow to wake its own polls.")
    if any(pair.weak for pair in pairs):
        return unknown(*evidence, cause="too few polls were still waiting when the start was sent.")
    return holds(*evidence)


@dataclass(frozen=True)
class _Pair:
    """The tries of one ordered pair of nodes, out of all of them."""

    among: Sequence[Wake]
    starting: str
    waiting: str

    @property
    def tries(self) -> list[Wake]:
        return [wake for wake in self.among if (wake.starting, wake.waiting) == (self.starting, self.waiting)]

    @property
    def failed(self) -> list[Wake]:
        return [wake for wake in self.tries if not wake.woken]

    @property
    def slow(self) -> bool:
        good = _seconds(self.tries)
        return bool(good) and median(good) > QUICK_SECONDS

    @property
    def weak(self) -> bool:
        return len(_seconds(self.tries)) < TRIES // 2

    @property
    def told(self) -> str:
        good = _seconds(self.tries)
        woken = f"{len(good)} of {len(self.tries)} woken{_spread(good)}"
        return f"start on {self.starting}, poll on {self.waiting}: {woken}"


def _seconds(tries: Iterable[Wake]) -> list[float]:
    """What the good tries took, in order."""
    return sorted(wake.seconds for wake in tries if wake.woken and wake.held)


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return ""
    return f", median {median(seconds) * 1000:.0f} ms, slowest {seconds[-1] * 1000:.0f} ms after the start's answer"
