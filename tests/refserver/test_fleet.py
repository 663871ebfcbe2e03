"""What operators read of workers and task queues, and the budgets that hold over all nodes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from refserver.harness import Client, Cluster, Reply, until

pytestmark = pytest.mark.refserver
LIMIT = {"DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "3"}


def fresh() -> str:
    return f"q-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def space(cluster: Cluster) -> str:
    """A namespace of the test's own."""
    name = f"ns-{uuid.uuid4().hex[:8]}"
    assert cluster.a.post("/namespaces", name=name).status == 201
    return name


def long_ago(cluster: Cluster, table: str, column: str, where: str) -> None:
    ago = "interval '1 hour'" if cluster.kind == "pgsql" else "interval 1 hour"
    cluster.execute(f"update {table} set {column} = {column} - {ago} where {where}")


def test_who_is_registered(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    for worker, queue in (("one", "x"), ("two", "y"), ("three", "x")):
        a.register(worker, queue, supported_workflow_types=["t"], build_id=f"b-{worker}")
    long_ago(
        cluster, "workflow_worker_registrations", "last_heartbeat_at", f"namespace = '{space}' and worker_id = 'one'"
    )
    everybody = b.get("/workers").body
    told = [(row["worker_id"], row["task_queue"], row["status"]) for row in everybody["workers"]]
    assert told == [("three", "x", "active"), ("two", "y", "active"), ("one", "x", "stale")]
    assert (everybody["namespace"], everybody["stale_after_seconds"]) == (space, 60)

    def found(**parameters: str) -> list[str]:
        return [row["worker_id"] for row in b.get("/workers", **parameters).body["workers"]]

    assert (found(task_queue="x"), found(status="stale")) == (["three", "one"], ["one"])
    assert (found(task_queue="x", status="active"), found(status="draining")) == (["three"], [])
    shown = b.get("/workers/two").body
    assert (shown["build_id"], shown["supported_workflow_types"], shown["status"]) == ("b-two", ["t"], "active")
    assert a.post("/worker/heartbeat", worker_id="one").status == 200
    assert b.get("/workers/one").body["status"] == "active"
    assert cluster.a.get("/workers/two").status == 404, "another namespace's"


def test_a_worker_that_is_put_away_is_told_so(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    a.register("w", "x")
    removed = b.delete("/workers/w")
    assert (removed.status, removed.body) == (200, {"worker_id": "w", "outcome": "deregistered"})
    again = a.delete("/workers/w")
    assert (again.status, again.body["reason"]) == (404, "worker_not_found")
    assert [reply.status for reply in (a.get("/workers/w"), b.poll("w", "x"))] == [404, 412]


def test_what_a_task_queue_holds(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    a.register("w", "x", max_concurrent_workflow_tasks=2)
    runs = [a.start("x").body for _ in range(4)]
    fresh_task, lapsed = (a.poll("w", "x").body["task"] for _ in range(2))
    long_ago(cluster, "workflow_tasks", "lease_expires_at", f"id = '{lapsed['task_id']}'")
    long_ago(cluster, "workflow_tasks", "available_at", f"workflow_run_id = '{runs[2]['run_id']}'")
    shown = b.get("/task-queues/x").body
    stats, admission = shown["stats"], shown["admission"]["workflow_tasks"]
    assert stats["workflow_tasks"] == {"ready_count": 2, "leased_count": 1, "expired_lease_count": 1}
    assert stats["activity_tasks"] == {"ready_count": 0, "leased_count": 0, "expired_lease_count": 0}
    assert stats["pollers"] == {"active_count": 1, "stale_count": 0, "stale_after_seconds": 60}
    assert stats["approximate_backlog_count"] == 2
    assert stats["approximate_backlog_age"].startswith("1h ")
    assert stats["oldest_ready_task"]["run_id"] == runs[2]["run_id"]
    leases = {lease["task_id"]: lease for lease in shown["current_leases"]}
    assert {task: lease["is_expired"] for task, lease in leases.items()} == {
        fresh_task["task_id"]: False, lapsed["task_id"]: True,
    }  # fmt: skip
    assert (leases[lapsed["task_id"]]["lease_owner"], leases[lapsed["task_id"]]["workflow_task_attempt"]) == ("w", 1)
    assert [(poller["worker_id"], poller["is_stale"]) for poller in shown["pollers"]] == [("w", False)]
    assert (admission["configured_slot_count"], admission["available_slot_count"], admission["status"]) == (
        2, 1, "accepting",
    )  # fmt: skip


def test_every_queue_with_tasks_or_workers_is_listed(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    assert a.get("/task-queues").body == {"namespace": space, "task_queues": []}
    a.register("w", "served")
    for queue in ("b", "a", "\u00fcber q", "a"):
        a.start(queue)
    listed = b.get("/task-queues").body["task_queues"]
    assert [queue["name"] for queue in listed] == ["a", "b", "served", "\u00fcber q"]
    assert [queue["stats"]["workflow_tasks"]["ready_count"] for queue in listed] == [2, 1, 0, 1]
    statuses = [queue["admission"]["workflow_tasks"]["status"] for queue in listed]
    assert statuses == ["no_active_workers", "no_active_workers", "accepting", "no_active_workers"]
    assert b.get("/task-queues/%C3%BCber%20q").body["stats"]["approximate_backlog_count"] == 1
    assert b.get("/task-queues/nobodys").body["current_leases"] == []


def race(clients: Sequence[Client], polls: int, ask: Any) -> list[Reply]:
    """So many polls at once, over the nodes in turn."""
    with ThreadPoolExecutor(polls) as pool:
        each = [pool.submit(ask, clients[number % len(clients)], number) for number in range(polls)]
        return [reply.result() for reply in each]


def test_racing_pollers_never_exceed_a_queues_budget(cluster: Cluster) -> None:
    queue = fresh()
    with cluster.extra("tight-a", **LIMIT) as a, cluster.extra("tight-b", **LIMIT) as b:
        a.register("w", queue)
        for _ in range(12):
            a.start(queue)
        replies = race([a, b], 12, lambda client, _: Client(client.url).poll("w", queue, timeout_seconds=1))
        tasks = [reply.body["task"] for reply in replies if reply.body["task"]]
        assert [reply.status for reply in replies] == [200] * 12
        assert len({task["task_id"] for task in tasks}) == len(tasks) == 3
        assert {reply.body["poll_status"] for reply in replies if not reply.body["task"]} == {"throttled"}
        seen = b.get(f"/task-queues/{queue}").body["admission"]["workflow_tasks"]
        told = {name: seen[f"server_{name}"] for name in (
            "max_active_leases_per_queue", "active_lease_count", "remaining_active_lease_capacity", "lock_required",
        )}  # fmt: skip
        assert list(told.values()) == [3, 3, 0, True]
        assert seen["status"] == "throttled"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(Client(b.url).poll, "w", queue)
            assert a.complete(tasks[0]).status == 200
            got = waiting.result().body["task"] or b.poll("w", queue).body["task"]
        assert got, "a poll that was throttled goes on waiting"
        assert a.poll("w", queue, timeout_seconds=0).body["poll_status"] == "throttled"


def test_a_repeated_poll_gets_its_task_again_at_the_limit(cluster: Cluster) -> None:
    queue = fresh()
    with cluster.extra("one-a", **LIMIT) as a, cluster.extra("one-b", **LIMIT) as b:
        a.register("w", queue)
        for _ in range(4):
            a.start(queue)
        tasks = [a.poll("w", queue, poll_request_id=f"{queue}-{number}").body["task"] for number in range(3)]
        assert a.poll("w", queue, timeout_seconds=0).body["poll_status"] == "throttled"
        again = b.poll("w", queue, poll_request_id=f"{queue}-2").body["task"]
        assert (again["task_id"], again["workflow_task_attempt"]) == (tasks[2]["task_id"], 1)


def test_a_namespaces_budget_holds_over_its_queues(cluster: Cluster, space: str) -> None:
    overrides = {f"{space}:*": {"activity_tasks": {"max_active_leases_per_namespace": 2}}}
    env = {"DW_TASK_QUEUE_ADMISSION_OVERRIDES": json.dumps(overrides)}
    with cluster.extra("wide-a", **env) as one, cluster.extra("wide-b", **env) as other:
        a, b = one.inside(space), other.inside(space)
        for number in range(6):
            a.schedule(f"w-{number}", f"{space}-{number}")

        def ask(client: Client, number: int) -> Reply:
            return client.inside(space).poll_activity(f"w-{number}", f"{space}-{number}", timeout_seconds=1)

        replies = race([a, b], 6, ask)
        tasks = [(number, reply.body["task"]) for number, reply in enumerate(replies) if reply.body["task"]]
        assert len(tasks) == 2
        seen = b.get(f"/task-queues/{space}-0").body["admission"]["activity_tasks"]
        assert (seen["server_max_active_leases_per_namespace"], seen["server_namespace_active_lease_count"]) == (2, 2)
        assert seen["server_remaining_namespace_active_lease_capacity"] == 0
        assert a.end_activity("complete", tasks[0][1], result=None).status == 200
        rest = [number for number in range(6) if number not in dict(tasks)]
        until(lambda: any(ask(b, number).body["task"] for number in rest), 10, "the budget's next task")
        assert not any(ask(a, number).body["task"] for number in rest)
