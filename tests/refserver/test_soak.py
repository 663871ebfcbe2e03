"""Mixed work for a while, workers that vanish among it; afterwards nothing is left that a bound should have taken.

`SOAK_SECONDS=300 pytest tests/refserver/test_soak.py` goes on for some minutes instead of some seconds.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from dw_refserver.settings import load
from dw_refserver.store.database import opened
from dw_refserver.store.tables import metadata
from sqlalchemy import func, literal, select, union_all

from refserver.harness import OK, Client, Cluster, Containers, activity, bootstrapped, until
from refserver.test_timers import timer

SECONDS = float(os.environ.get("SOAK_SECONDS", "10"))
pytestmark = [pytest.mark.refserver, pytest.mark.timeout(240 + int(SECONDS))]

LEASE, LONGEST_TTL = 2, 600
SHORT = {
    "DW_WORKFLOW_TASK_TIMEOUT": str(LEASE), "DW_ACTIVITY_TASK_TIMEOUT": str(LEASE), "DW_QUERY_TASK_TIMEOUT": "1",
    "DW_QUERY_TASK_LEASE_TIMEOUT": "1", "DW_QUERY_TASK_TTL_SECONDS": "60", "DW_WORKER_POLL_INTERVAL_MS": "200",
    "DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "50",
}  # fmt: skip
"""Short bounds, and a budget so that its lock in Redis is used."""
WITHOUT_BOUND = {"workflow_namespaces", "workflow_worker_registrations"}
"""Rows that no pass takes: a namespace is for good, and so is a registration until somebody deregisters the worker."""


@pytest.fixture
def soaked(containers: Containers, database: str, tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes and a quick scheduler over a database and a Redis of their own."""
    with bootstrapped(containers, containers.pair(database), database, tmp_path) as cluster:
        cluster.serve("server-a", **SHORT)
        cluster.serve("server-b", **SHORT)
        process, _ = cluster.spawn("scheduler", "scheduler", DW_SCHEDULER_INTERVAL_SECONDS="0.1", **SHORT)
        try:
            yield cluster
        finally:
            process.kill()
            process.wait()


class Soaker:
    """One client that does one thing after the other, each on a queue of its own, through either node."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.nodes = [Client(node.url) for node in cluster.nodes.values()]
        self.dice, self.done = random.Random(seed), Counter[str]()

    @property
    def node(self) -> Client:
        """One of the nodes, by lot."""
        return self.dice.choice(self.nodes)

    def soak(self) -> Counter[str]:
        """Do things until time is up; how many of which."""
        until_then = time.monotonic() + SECONDS
        while time.monotonic() < until_then:
            thing = self.dice.choice(THINGS)
            name = f"soak-{uuid.uuid4().hex[:12]}"
            self.node.register(name, name, supported_activity_types=["a"])
            thing(self, name)
            if self.dice.random() < 0.9:  # the others vanish
                assert self.node.delete(f"/worker/registrations/{name}").status == 200
            self.done[thing.__name__] += 1
        return self.done

    def begun(self, name: str, *commands: dict[str, Any]) -> None:
        """Start a workflow and complete its first task with the commands; none complete the workflow."""
        self.node.start(name, workflow_id=name)
        task = self.node.poll(name, name, poll_request_id="first").body["task"]
        more = {"commands": list(commands)} if commands else {}
        assert self.node.complete(task, **more).status == 200

    def finished(self, name: str) -> None:
        """Complete the workflow with its next task, if there is one in time."""
        task = self.node.poll(name, name, timeout_seconds=1).body["task"]
        if task is not None:
            self.node.complete(task)


def cycle(soaker: Soaker, name: str) -> None:
    soaker.begun(name)


def timed(soaker: Soaker, name: str) -> None:
    soaker.begun(name, timer(1), timer(0))
    soaker.finished(name)


def signalled(soaker: Soaker, name: str) -> None:
    soaker.begun(name, {"type": "open_condition_wait", "condition_key": "k", "timeout_seconds": 1})
    soaker.node.post(f"/workflows/{name}/signal/go", input=OK, request_id="once")
    soaker.finished(name)


def active(soaker: Soaker, name: str) -> None:
    soaker.begun(name, activity(start_to_close_timeout=1, retry_policy={"max_attempts": 2}))
    task = soaker.node.poll_activity(name, name).body["task"]
    verb = soaker.dice.choice(["complete", "fail", "forget"])
    if verb != "forget":
        soaker.node.end_activity(verb, task, failure={"message": "no"}, result=OK)
    soaker.finished(name)


def abandoned(soaker: Soaker, name: str) -> None:
    soaker.node.start(name, workflow_id=name)
    assert soaker.node.poll(name, name).body["task"]


def asked(soaker: Soaker, name: str) -> None:
    soaker.node.start(name, workflow_id=name)
    assert soaker.node.query(name).status >= 400  # nobody answers


def stopped(soaker: Soaker, name: str) -> None:
    soaker.node.start(name, workflow_id=name)
    soaker.node.post(f"/workflows/{name}/{soaker.dice.choice(['cancel', 'terminate'])}", request_id="r")


def scheduled(soaker: Soaker, name: str) -> None:
    soaker.node.create_schedule(name, max_runs=1)
    soaker.node.post(f"/schedules/{name}/trigger")
    soaker.node.delete(f"/schedules/{name}")


THINGS: tuple[Callable[[Soaker, str], None], ...] = (
    cycle, timed, signalled, active, abandoned, asked, stopped, scheduled,
)  # fmt: skip


def test_what_is_over_leaves_nothing_behind(soaked: Cluster) -> None:
    with ThreadPoolExecutor(6) as pool:
        done = sum(pool.map(lambda seed: Soaker(soaked, seed).soak(), range(6)), Counter[str]())
    assert len(done) == len(THINGS), done
    end_what_runs(soaked)
    days = "interval '31 days'" if soaked.kind == "pgsql" else "interval 31 day"
    for table, moment in (("workflow_runs", "closed_at"), ("workflow_schedules", "deleted_at"),
                          ("workflow_schedule_history_events", "recorded_at")):  # fmt: skip
        soaked.execute(f"update {table} set {moment} = {moment} - {days}")
    until(lambda: not remaining(soaked), 60, f"every row past its bound is gone: {remaining(soaked)}")
    assert_every_key_has_its_end(soaked)


def end_what_runs(cluster: Cluster) -> None:
    """Terminate every run that is still open; vanished workers have left some."""
    while running := cluster.a.get("/workflows", status="running", page_size=200).body["workflows"]:
        for run in running:
            cluster.a.post(f"/workflows/{run['workflow_id']}/terminate")


def remaining(cluster: Cluster) -> dict[str, int]:
    """Rows by table, where there are any that a bound should take."""
    counts = (select(literal(name), func.count()).select_from(table) for name, table in metadata.tables.items())

    async def ask() -> dict[str, int]:
        async with opened(load(cluster.env).database, "test") as db:
            return {str(name): int(rows) for name, rows in await db.all(union_all(*counts))}

    return {name: rows for name, rows in asyncio.run(ask()).items() if rows and name not in WITHOUT_BOUND}


def assert_every_key_has_its_end(cluster: Cluster) -> None:
    """Whatever is in Redis will be gone by itself, soon."""
    where = load(cluster.env).redis
    with redis.Redis(where.host, where.port, where.number) as store:
        ends = {key: store.ttl(key) for key in store.scan_iter()}
    assert [key for key, seconds in ends.items() if not 0 <= seconds <= LONGEST_TTL] == []
