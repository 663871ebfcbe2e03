"""Is a task ever handed to two pollers that race for it on different nodes, and is any lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests

from smallcluster.checks.base import Live, check
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

TASKS = 200
"""Tasks that are raced for: every claim is contended by all pollers."""
POLLERS_PER_NODE = 2
DEADLINE_SECONDS = 30.0
"""How long the pollers may take for all of them, far beyond what they need."""


@dataclass
class Race:
    """What came of it: the runs that were started, and every task that a poll was handed, by whom."""

    started: set[str] = field(default_factory=set)
    handed: list[tuple[str, str, int]] = field(default_factory=list)
    """Node, run id and attempt of each task that was handed out, in order."""
    failures: list[str] = field(default_factory=list)

    @property
    def runs(self) -> Counter[str]:
        """How often each run's task was handed out."""
        return Counter(run for _, run, _ in self.handed)


def race(live: Live) -> Race:
    """Start many workflows on one queue, then let pollers on every node race for their tasks, and finish each."""
    worker, seen = Worker(live, "race"), Race()
    worker.register(BALANCER)
    _start_all(worker, seen)
    lock, deadline = threading.Lock(), time.monotonic() + DEADLINE_SECONDS

    def poll(node: str) -> None:
        with requests.Session() as session:
            while len(seen.handed) < len(seen.started) and time.monotonic() < deadline:
                if not _poll_once(worker, node, session, seen, lock):
                    return  # a node that refuses or hangs is left to its finding; the others go on

    with ThreadPoolExecutor(max_workers=POLLERS_PER_NODE * len(live.nodes)) as pool:
        list(pool.map(poll, live.nodes * POLLERS_PER_NODE))
    return seen


def _start_all(worker: Worker, seen: Race) -> None:
    """Start all of them through the balancer; the first failure ends it, or a hung node would cost minutes."""

    def start(number: int) -> None:
        if seen.failures:
            return
        exchange = worker.start(BALANCER, f"-{number}")
        if exchange.ok:
            seen.started.add(str(exchange.body.get("run_id")))
        else:
            seen.failures.append(exchange.shown)

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(start, range(TASKS)))


def _poll_once(worker: Worker, node: str, session: requests.Session, seen: Race, lock: threading.Lock) -> bool:
    """Poll, and finish what was handed out; tells whether the node answered as it should."""
    exchange = worker.poll(node, 0, session)
    task = task_in(exchange)
    if not task:
        if not exchange.ok:
            seen.failures.append(exchange.shown)
        return exchange.ok
    with lock:
        seen.handed.append((node, str(task.get("run_id")), int(task.get("workflow_task_attempt") or 0)))
    completed = finish(worker.live.api(node, session), task)
    if not completed.ok:
        seen.failures.append(completed.shown)
    return completed.ok


@check("racing-pollers-share-no-task", "api.leases-in-database", probe=race)
def racing_pollers_share_no_task(seen: Race) -> Judgement:
    """Pollers that race on all nodes never get the same task twice, and lose none"""
    doubled = [run for run, times in seen.runs.items() if times > 1]
    lost = seen.started - set(seen.runs)
    by_node = Counter(node for node, _, _ in seen.handed)
    evidence = [
        f"{len(seen.started)} tasks, {len(seen.handed)} handed out: "
        + ", ".join(f"{node} {times}" for node, times in sorted(by_node.items())),
        f"{len(doubled)} handed out twice, {len(lost)} never",
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
            expected="every start, poll and completion is answered with 2xx",
            cause="a node or the database can't stand a few pollers at once.",
            then="invoke logs --service=server-a",
        )
    if len(seen.started) < TASKS or len(by_node) < 2:
        return unknown(*evidence, cause="too few tasks, or one node alone handed them out: no race took place.")
    return holds(*evidence)
