"""Is a task ever handed to two pollers that race for it on different nodes, and is any lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests

from smallcluster.api import Exchange, JsonBody
from smallcluster.bodies import text, whole
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.judging import lacking
from smallcluster.checks.wakes import wakes
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

TASKS = 200
"""Tasks that are raced for: every claim is contended by all pollers."""
ENOUGH = 20
"""With fewer tasks than this the pollers have hardly met."""
POLLERS_PER_NODE = 2
STARTERS = 4
START_SECONDS = 8.0
"""How long starting them may take; a slow server is raced for those that it took in by then."""
DEADLINE_SECONDS = 30.0
"""How long the pollers may take for all of them, far beyond what they need."""
QUIET_SECONDS = 10.0
"""Once no poll has been handed a task for this long, and the longest hold, what is left over counts as lost."""
RELEASE = "-release-"
"""The mark in the workflow ids of tasks that are no part of the race: each ends a poll that waits after it."""


@dataclass
class Race:
    """What came of it: the runs that were started, and every task that a poll was handed, by whom."""

    started: set[str] = field(default_factory=set)
    handed: list[tuple[str, str, int]] = field(default_factory=list)
    """Node, run id and attempt of each task that was handed out, in order."""
    failures: list[str] = field(default_factory=list)
    cut_short: bool = False
    """Whether time was up while tasks were still being handed out."""
    lack: str = ""
    """What the server lacks, by the first failure that shows it."""

    def failed(self, exchange: Exchange) -> None:
        """Note a request that was not answered as it should be."""
        self.failures.append(exchange.shown)
        self.lack = self.lack or lacking(exchange)

    @property
    def runs(self) -> Counter[str]:
        """How often each run's task was handed out."""
        return Counter(run for _, run, _ in self.handed)


class Course:
    """A race on its way: which polls wait, and when it is over. Pollers on all nodes share it."""

    def __init__(self, seen: Race, quiet: float) -> None:
        self.seen = seen
        self._quiet = quiet
        self._lock = threading.Lock()
        self._left = set(seen.started)
        self._waiting = 0
        self._last = time.monotonic()
        self._deadline = self._last + DEADLINE_SECONDS

    def enter(self) -> bool:
        """Whether another poll is to be sent; it counts as waiting from now on."""
        with self._lock:
            now = time.monotonic()
            quiet = now > self._last + self._quiet
            if not self._left or quiet or now > self._deadline:
                self.seen.cut_short = bool(self._left) and bool(self.seen.handed) and not quiet
                return False
            self._waiting += 1
            return True

    def leave(self, node: str, task: JsonBody) -> int:
        """Note what a poll was handed. The last task of all ends the race: gives how many polls still wait then."""
        with self._lock:
            self._waiting -= 1
            if not task or RELEASE in text(task.get("workflow_id")):
                return 0
            run, over = text(task.get("run_id")), not self._left
            self.seen.handed.append((node, run, whole(task.get("workflow_task_attempt"))))
            self._left.discard(run)
            self._last = time.monotonic()
            return 0 if over or self._left else self._waiting


def race(live: Live) -> Race:
    """Start many workflows on one queue, then let pollers on every node race for their tasks, and finish each."""
    live.facts(wakes)  # a race keeps every node busy: it must not slow the wakes that are timed
    worker, seen = Worker(live, "race"), Race()
    worker.register(BALANCER)
    _start_all(worker, seen)
    course = Course(seen, QUIET_SECONDS + live.speech.hold(0))

    def poll(node: str) -> None:
        with requests.Session() as session:
            while course.enter() and _poll_once(worker, node, session, course):
                pass  # a node that refuses or hangs is left to its finding; the others go on

    with ThreadPoolExecutor(max_workers=POLLERS_PER_NODE * len(live.nodes)) as pool:
        list(pool.map(poll, live.nodes * POLLERS_PER_NODE))
    return seen


def _start_all(worker: Worker, seen: Race) -> None:
    """Start all of them through the balancer; the first failure ends it, or a hung node would cost minutes."""
    deadline = time.monotonic() + START_SECONDS

    def start(first: int) -> None:
        with requests.Session() as session:
            for number in range(first, TASKS, STARTERS):
                if seen.failures or time.monotonic() > deadline:
                    return
                exchange = worker.start(BALANCER, f"-{number}", session)
                if exchange.ok and text(exchange.body.get("run_id")):
                    seen.started.add(exchange.body["run_id"])
                else:
                    seen.failed(exchange)

    with ThreadPoolExecutor(max_workers=STARTERS) as pool:
        list(pool.map(start, range(STARTERS)))


def _poll_once(worker: Worker, node: str, session: requests.Session, course: Course) -> bool:
    """Poll, and finish what was handed out; tells whether the node answered as it should."""
    exchange = worker.poll(node, 0, session)
    task = task_in(exchange)
    waiting = course.leave(node, task)
    completed = finish(worker.live.api(node, session), task) if task else exchange
    if not completed.ok:
        course.seen.failed(completed)
    if not worker.live.speech.honours_timeouts:  # such a server holds the polls that came too late for a task
        for number in range(waiting):
            worker.start(node, f"{RELEASE}{number}")
    return completed.ok


@check(
    "racing-pollers-share-no-task",
    "api.leases-in-database",
    "api.one-owner",
    probe=race,
    needs=[Need.NODES, Need.WRITES],
)
def racing_pollers_share_no_task(seen: Race) -> Judgement:
    """Pollers that race on all nodes never get the same task twice, and lose none"""
    doubled = [run for run, times in seen.runs.items() if times > 1]
    left = seen.started - set(seen.runs)
    lost = set() if seen.cut_short or seen.failures else left
    by_node = Counter(node for node, _, _ in seen.handed)
    evidence = [
        f"{len(seen.started)} tasks, {len(seen.handed)} handed out: "
        + ", ".join(f"{node} {times}" for node, times in sorted(by_node.items())),
        f"{len(doubled)} handed out twice, {len(left)} never",
        *seen.failures[:3],
    ]
    if doubled or lost:
        return broken(
            *evidence,
            *[f"twice: run {run}" for run in doubled[:3]],
            *[f"never: run {run}" for run in sorted(lost)[:3]],
            expected="each task handed out exactly once",
            cause="nodes claim without one row lock in the shared database, or polls are cut before their answer.",
            then="invoke logs --service=server-a",
        )
    if seen.failures:
        return broken(
            *evidence,
            expected="every start, poll and completion is answered with 2xx, and each start names its run",
            cause=seen.lack or "a node or the database can't stand a few pollers at once.",
            then="invoke logs --service=server-a",
        )
    if left:
        return unknown(*evidence, cause=f"{DEADLINE_SECONDS:.0f} s were too short for this server to hand out all.")
    if len(seen.started) < ENOUGH or len(by_node) < 2:
        return unknown(*evidence, cause="too few tasks, or one node alone handed them out: no race took place.")
    return holds(*evidence)
