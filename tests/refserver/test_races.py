"""Many pollers over two nodes: no task is claimed twice, none is lost, and each run is finished once."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from threading import Event

import pytest

from refserver.harness import Client, Cluster

pytestmark = [pytest.mark.refserver, pytest.mark.timeout(300)]

TASKS, POLLERS, STARTERS = 2000, 16, 4
Claimed = tuple[str, str, int]
"""Task, run, attempt."""


def both(cluster: Cluster, turn: int) -> tuple[Client, Client]:
    """Two clients of one's own: of one node, and of the other."""
    names = ("server-a", "server-b") if turn % 2 else ("server-b", "server-a")
    first, second = (Client(cluster.nodes[name].url) for name in names)
    return first, second


def start_share(cluster: Cluster, queue: str, turn: int) -> list[str]:
    """Start a share of the workflows, through both nodes in turn."""
    clients = both(cluster, turn)
    replies = [clients[number % 2].start(queue) for number in range(TASKS // STARTERS)]
    assert {reply.status for reply in replies} == {201}
    return [reply.body["run_id"] for reply in replies]


def work(cluster: Cluster, queue: str, turn: int, all_started: Event) -> list[Claimed]:
    """Poll one node and complete through the other, until all is started and a poll finds nothing."""
    polled, other = both(cluster, turn)
    claimed = []
    while True:
        last = all_started.is_set()
        task = polled.poll(f"w{turn}", queue, timeout_seconds=1).body["task"]
        if task is None and last:
            return claimed
        if task is not None:
            claimed.append((task["task_id"], task["run_id"], task["workflow_task_attempt"]))
            done = other.complete(task)
            assert (done.status, done.body["outcome"]) == (200, "completed"), done.body


def test_two_thousand_tasks_and_sixteen_pollers(cluster: Cluster) -> None:
    queue, all_started = f"race-{uuid.uuid4().hex[:8]}", Event()
    for turn in range(POLLERS):
        cluster.a.register(f"w{turn}", queue)
    with ThreadPoolExecutor(POLLERS + STARTERS) as pool:
        working = [pool.submit(work, cluster, queue, turn, all_started) for turn in range(POLLERS)]
        starting = [pool.submit(start_share, cluster, queue, turn) for turn in range(STARTERS)]
        try:
            started = list(chain.from_iterable(one.result() for one in starting))
        finally:
            all_started.set()
        claimed = list(chain.from_iterable(one.result() for one in working))
    assert_each_once(claimed, started)
    assert cluster.count("workflow_runs", f"queue = '{queue}' and status = 'completed'") == TASKS
    mine = f"workflow_run_id in (select id from workflow_runs where queue = '{queue}')"
    assert cluster.count("workflow_history_events", f"event_type = 'WorkflowCompleted' and {mine}") == TASKS
    assert cluster.count("workflow_tasks", f"queue = '{queue}' and status <> 'completed'") == 0


def assert_each_once(claimed: Sequence[Claimed], started: Sequence[str]) -> None:
    """Every started run's task was claimed, by one poller, as its first attempt."""
    twice = [task for task, times in Counter(task for task, _, _ in claimed).items() if times > 1]
    assert (twice, {attempt for _, _, attempt in claimed}) == ([], {1})
    assert sorted(run for _, run, _ in claimed) == sorted(started)
    assert len(started) == TASKS
