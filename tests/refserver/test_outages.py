"""Redis or the database gone, refusing or hanging: what a node says meanwhile, and that it recovers by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from refserver.harness import Client, Cluster, Reply, until

pytestmark = pytest.mark.refserver
WARNING = {
    "status": "warning",
    "store": "redis",
    "degraded_capability": "long_poll_wake_acceleration",
    "correctness_substrate": "database",
}
FREEZE: dict[str, tuple[Callable[[Any], None], Callable[[Any], None]]] = {
    "hangs": (lambda container: container.pause(), lambda container: container.unpause()),
    "is gone": (lambda container: container.stop(timeout=3), lambda container: container.start()),
}


def ready(client: Client) -> Reply:
    started = time.monotonic()
    reply = client.get("/ready")
    assert time.monotonic() - started < 4, "the probe is bounded"
    return reply


def test_redis_and_the_database_out_one_after_the_other(fragile: Cluster) -> None:
    cluster = fragile
    a, b = cluster.serve("server-a", DW_WORKER_POLL_TIMEOUT="10"), cluster.serve("server-b")
    a.register("w", "q")
    cluster.serve("tight", DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE="5")
    for how in FREEZE:
        check_redis_out(cluster, a, b, how)
    for how in FREEZE:
        check_database_out(cluster, a, b, how)


def check_redis_out(cluster: Cluster, a: Client, b: Client, how: str) -> None:
    freeze, thaw = FREEZE[how]
    freeze(cluster.containers["redis"])
    try:
        reply = ready(a)
        assert (reply.status, reply.body["checks"]["cache"]) == (200, WARNING)
        check_without_redis(cluster, b)
        with ThreadPoolExecutor(1) as pool:
            poll = pool.submit(a.poll, "w", "q", poll_request_id=f"redis-{how}")
            time.sleep(0.2)  # let the poll wait first
            assert b.start("q").status == 201
            task = poll.result(10).body["task"]
        assert task, "the prober finds what no signal announced"
        assert Client(b.url).poll("w", "q", poll_request_id=f"redis-{how}").body["task"]["task_id"] == task["task_id"]
        assert b.complete(task).status == 200
    finally:
        thaw(cluster.containers["redis"])
    until(lambda: ready(a).body["checks"]["cache"] == {"status": "ok", "store": "redis"}, 10, "the cache to be well")
    check_answered(a, b)
    tight = Client(cluster.nodes["tight"].url)
    given = tight.poll("w", "q", timeout_seconds=0)
    assert (given.body["task"], given.body["poll_status"]) == (None, "empty"), "the lock is there again"
    said = cluster.nodes["tight"].log.read_text()
    assert said.count("admission_lock_lost") == said.count("admission_lock_recovered") == list(FREEZE).index(how) + 1


def check_without_redis(cluster: Cluster, client: Client) -> None:
    """What lives in Redis alone is refused or waits, and a budget hands nothing out."""
    workflow = client.start("q").body["workflow_id"]
    started = time.monotonic()
    asked = client.query(workflow)
    assert (asked.status, asked.body["reason"]) == (503, "query_task_queue_unavailable")
    polled = client.poll_query("w", "q", timeout_seconds=0)
    assert (polled.status, polled.body["task"], polled.body["poll_status"]) == (200, None, "unavailable")
    ended = client.end_query("complete", {"query_task_id": "x", "lease_owner": "w", "query_task_attempt": 1})
    assert (ended.status, ended.body["reason"]) == (503, "query_task_queue_unavailable")
    assert client.get("/task-queues/q").body["admission"]["query_tasks"]["status"] == "unavailable"
    tight = Client(cluster.nodes["tight"].url)
    throttled = tight.poll("w", "q", timeout_seconds=0).body
    assert (throttled["task"], throttled["poll_status"]) == (None, "throttled")
    assert tight.get("/task-queues/q").body["admission"]["workflow_tasks"]["status"] == "unavailable"
    assert time.monotonic() - started < 25, "each wait for Redis is bounded"
    client.complete(client.poll("w", "q").body["task"])  # a node without a budget needs no lock


def check_answered(a: Client, b: Client) -> None:
    """A query passes from node to node."""
    workflow = a.start("q").body["workflow_id"]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(Client(b.url).query, workflow)
        task = until(lambda: a.poll_query("w", "q").body["task"], 10, "the query")
        assert a.end_query("complete", task, result=1).status == 200
        assert (asked.result().status, asked.result().body["result"]) == (200, 1)
    a.complete(a.poll("w", "q").body["task"])


def check_database_out(cluster: Cluster, a: Client, b: Client, how: str) -> None:
    freeze, thaw = FREEZE[how]
    a.start("q")
    task = a.poll("w", "q").body["task"]
    leaving = cluster.serve(f"leaving-{how.replace(' ', '-')}")
    assert ready(leaving).status == 200
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Client(a.url).poll, "w", "q")
        time.sleep(0.2)  # let the poll wait first
        freeze(cluster.containers["database"])
        try:
            reply = ready(a)
            assert (reply.status, reply.body["status"]) == (503, "not_ready")
            assert reply.body["checks"]["database"]["status"] == "unavailable"
            assert cluster.nodes[f"leaving-{how.replace(' ', '-')}"].stop() < 6
            assert b.start("q").status == 503
            lost = waiting.result(15)
            assert (lost.status, lost.body["reason"], lost.body["poll_status"]) == (503, *["backend_unavailable"] * 2)
        finally:
            thaw(cluster.containers["database"])
    for client in (a, b):
        until(lambda client=client: ready(client).status == 200, 20, f"{client.url} to be ready again")  # type: ignore[misc]
    done = until(lambda: b.complete(task) if ready(b).status == 200 else None, 20, "the held task's completion")
    assert done.body["recorded"] is True
    assert b.complete(task).status == 409
    for leftover in range(20):  # a start that was answered 503 may have taken effect: unknown means unknown
        more = a.poll("w", "q", timeout_seconds=0).body["task"]
        if more is None:
            break
        assert leftover < 19
        a.complete(more)
