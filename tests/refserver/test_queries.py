"""Queries over two nodes: the caller's and the worker's need not be the same, and nobody's question is left lying."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from refserver.harness import OK, Client, Cluster, Reply, until

pytestmark = pytest.mark.refserver
STATE = {"result": {"n": 1}, "result_envelope": OK}
ASKED = {"codec": "avro", "blob": "AApbImEiXQI="}
UNPROBED = {"DW_WORKER_POLL_INTERVAL_MS": "60000", "DW_WORKER_POLL_TIMEOUT": "20", "DW_QUERY_TASK_TIMEOUT": "20"}
"""On such a node only a signal wakes in time."""


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(12) as made:
        yield made


@pytest.fixture
def queue(cluster: Cluster) -> str:
    """A queue with a worker `w` and, of the same id, a workflow of type `t` that has just begun."""
    name = f"q-{uuid.uuid4().hex[:8]}"
    cluster.a.register("w", name)
    assert cluster.b.start(name, workflow_id=name, input=["Ada"]).status == 201
    return name


def ask(pool: ThreadPoolExecutor, client: Client, workflow_id: str, *more: str, **body: Any) -> Future[Reply]:
    """Ask from a connection of its own."""
    return pool.submit(Client(client.url).query, workflow_id, *more, **body)


def in_line(cluster: Cluster, queue: str, count: int) -> None:
    """Wait until so many queries wait on the queue."""
    until(lambda: cluster.a.pending_queries(queue) == count, 5, f"{count} queries waiting on {queue}")


@pytest.fixture(scope="module")
def unprobed(cluster: Cluster) -> Iterator[list[Client]]:
    """Two more nodes that depend on wake signals."""
    with cluster.extra("unprobed-a", **UNPROBED) as one, cluster.extra("unprobed-b", **UNPROBED) as other:
        until(lambda: cluster.hearing(4), 10, "all nodes listening")
        yield [one, other]


@pytest.mark.parametrize("callers", [0, 1])
def test_asked_on_one_node_answered_through_the_other(
    cluster: Cluster, pool: ThreadPoolExecutor, queue: str, unprobed: list[Client], callers: int
) -> None:
    one, other = unprobed[callers], unprobed[1 - callers]
    run_id = one.get(f"/workflows/{queue}").body["run_id"]
    other.register("w2", queue)
    polled = pool.submit(Client(other.url).poll_query, "w2", queue)
    time.sleep(0.3)  # let the poll wait first
    started = time.monotonic()
    asked = ask(pool, one, queue, input=ASKED)
    task = polled.result().body["task"]
    assert not asked.done()
    ended = other.end_query("complete", task, **STATE)
    assert (ended.status, ended.body["outcome"], ended.body["query_task_attempt"]) == (200, "completed", 1)
    events = task.pop("history_events")
    assert [event["event_type"] for event in events] == ["StartAccepted", "WorkflowStarted"]
    assert datetime.fromisoformat(task.pop("lease_expires_at")) > datetime.now(UTC)
    assert task.pop("query_task_id")
    assert task == {
        "query_task_attempt": 1, "workflow_id": queue, "run_id": run_id, "workflow_type": "t", "query_name": "state",
        "payload_codec": "avro", "workflow_arguments": {"codec": "avro", "blob": "wwHioz3/VYAiNwwCCgZBZGEA"},
        "query_arguments": ASKED, "run_status": "pending", "last_history_sequence": 2, "task_queue": queue,
        "lease_owner": "w2",
    }  # fmt: skip
    answer = asked.result()
    assert time.monotonic() - started < 10, "both were woken"
    control = answer.body.pop("control_plane")
    assert (answer.status, answer.body) == (200, {
        "workflow_id": queue, "run_id": run_id, "target_scope": "instance", "query_name": "state", "reason": None,
        **STATE,
    })  # fmt: skip
    assert (control["operation_name"], control["operation_name_field"]) == ("state", "query_name")
    assert cluster.count("workflow_history_events", f"workflow_run_id = '{run_id}'") == 2, "a query adds no history"


def test_a_closed_run_is_asked_by_its_id(cluster: Cluster, pool: ThreadPoolExecutor, queue: str) -> None:
    run_id = cluster.a.complete(cluster.a.poll("w", queue).body["task"]).body["run_id"]
    asked = pool.submit(Client(cluster.b.url).post, f"/workflows/{queue}/runs/{run_id}/query/state")
    task = until(lambda: cluster.a.poll_query("w", queue).body["task"], 5, "the query")
    assert (task["run_status"], task["last_history_sequence"], len(task["history_events"])) == ("completed", 3, 3)
    assert task["query_arguments"] is None
    cluster.b.end_query("complete", task, **STATE)
    assert (asked.result().status, asked.result().body["target_scope"]) == (200, "run")
    missing = cluster.a.post(f"/workflows/{queue}/runs/nobodys/query/state")
    assert (missing.status, missing.body["reason"]) == (404, "run_not_found")
    elsewhere = cluster.a.inside("elsewhere").query(queue)
    assert (elsewhere.status, elsewhere.body["reason"]) == (404, "namespace_not_found")


def test_first_in_first_out_over_both_nodes(cluster: Cluster, pool: ThreadPoolExecutor, queue: str) -> None:
    asked = []
    for number, client in enumerate([cluster.a, cluster.b, cluster.a, cluster.b]):
        asked.append(ask(pool, client, queue, f"nth-{number}"))
        in_line(cluster, queue, number + 1)
    for number in range(4):
        task = cluster.b.poll_query("w", queue).body["task"]
        assert task["query_name"] == f"nth-{number}"
        cluster.a.end_query("complete", task, result=number)
    assert [reply.result().body["result"] for reply in asked] == [0, 1, 2, 3]


def test_what_a_worker_can_not_run_waits_for_one_that_can(
    cluster: Cluster, pool: ThreadPoolExecutor, queue: str
) -> None:
    cluster.a.start(queue, workflow_id=f"{queue}-u", workflow_type="u v")
    cluster.a.register("only-t", queue, supported_workflow_types=["t"])
    cluster.a.register("only-u", queue, supported_workflow_types=["u v", "x"])
    first = ask(pool, cluster.a, f"{queue}-u")
    in_line(cluster, queue, 1)
    second = ask(pool, cluster.b, queue)
    in_line(cluster, queue, 2)
    task = cluster.b.poll_query("only-t", queue).body["task"]
    assert task["workflow_id"] == queue
    empty = cluster.b.poll_query("only-t", queue, timeout_seconds=0).body
    assert (empty["task"], empty["poll_status"]) == (None, "empty")
    cluster.a.end_query("complete", task)
    other = cluster.a.poll_query("only-u", queue).body["task"]
    assert other["workflow_type"] == "u v"
    cluster.b.end_query("complete", other)
    assert (first.result().status, second.result().status) == (200, 200)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ({"message": "unknown", "reason": "rejected_unknown_query"}, (404, "rejected_unknown_query")),
        ({"message": "no", "type": "ValueError", "stack_trace": "x"}, (409, "query_rejected")),
        ({"message": "\0 \U0001f4a9", "reason": "query_worker_incompatible"}, (409, "query_worker_incompatible")),
    ],
)
def test_a_workers_no(
    cluster: Cluster, pool: ThreadPoolExecutor, queue: str, failure: dict[str, str], expected: tuple[int, str]
) -> None:
    asked = ask(pool, cluster.a, queue)
    task = until(lambda: cluster.b.poll_query("w", queue).body["task"], 5, "the query")
    told = cluster.b.end_query("fail", task, failure=failure)
    assert (told.status, told.body["outcome"]) == (200, "failed")
    answer = asked.result()
    assert (answer.status, answer.body["reason"], answer.body["message"]) == (*expected, failure["message"])
    assert (answer.body["query_name"], answer.body["control_plane"]["reason"]) == ("state", expected[1])


def test_nobody_else_ends_a_query(cluster: Cluster, pool: ThreadPoolExecutor, queue: str) -> None:
    asked = ask(pool, cluster.a, queue)
    task = until(lambda: cluster.b.poll_query("w", queue).body["task"], 5, "the query")
    refusals = [
        cluster.a.end_query("complete", {**task, "query_task_id": "nobodys"}),
        cluster.b.end_query("fail", task, lease_owner="thief", failure={"message": "m"}),
        cluster.a.end_query("complete", task, query_task_attempt=2),
    ]
    assert [(reply.status, reply.body["reason"]) for reply in refusals] == [
        (404, "query_task_not_found"), (409, "lease_owner_mismatch"), (409, "query_task_attempt_mismatch"),
    ]  # fmt: skip
    assert (refusals[1].body["outcome"], refusals[1].body["lease_owner"]) == ("rejected", "w")
    assert cluster.a.end_query("complete", task, **STATE).status == 200
    again = cluster.b.end_query("complete", task, **STATE)
    assert (again.status, again.body["reason"]) == (409, "query_task_not_leased")
    assert asked.result().body["result"] == STATE["result"]


def test_a_lease_ends(cluster: Cluster, pool: ThreadPoolExecutor, queue: str) -> None:
    with cluster.extra("short", DW_QUERY_TASK_LEASE_TIMEOUT="1") as short:
        asked = ask(pool, cluster.a, queue)
        task = until(lambda: short.poll_query("w", queue).body["task"], 5, "the query")
    ends = datetime.fromisoformat(task["lease_expires_at"])
    until(lambda: datetime.now(UTC) > ends, 5, "the lease's end")
    late = cluster.a.end_query("complete", task, **STATE)
    assert (late.status, late.body["reason"]) == (409, "lease_expired")
    assert cluster.a.poll_query("w", queue, timeout_seconds=0).body["task"] is None, "a lease is not given out again"
    assert asked.result().status == 504


@pytest.mark.parametrize("leased", [False, True])
def test_nobody_answers_in_time(cluster: Cluster, pool: ThreadPoolExecutor, queue: str, *, leased: bool) -> None:
    started = time.monotonic()
    asked = ask(pool, cluster.a, queue)
    in_line(cluster, queue, 1)
    task = cluster.b.poll_query("w", queue).body["task"] if leased else None
    answer = asked.result()
    assert (answer.status, answer.body["reason"], answer.body["result"]) == (504, "query_worker_timeout", None)
    assert time.monotonic() - started >= 4
    in_line(cluster, queue, 0)
    assert cluster.b.poll_query("w", queue, timeout_seconds=0).body["task"] is None
    if task:
        late = cluster.b.end_query("complete", task, **STATE)
        assert (late.status, late.body["reason"]) == (409, "query_task_not_leased")


def test_a_caller_that_hangs_up_frees_its_query(cluster: Cluster, queue: str) -> None:
    url = f"{cluster.a.url}/api/workflows/{queue}/query/state"
    with pytest.raises(requests.Timeout):
        requests.post(url, json={}, headers=dict(cluster.a.session.headers), timeout=0.5)
    until(lambda: cluster.b.pending_queries(queue) == 0, 2, "the query to be gone well before its time")


def test_a_queue_takes_so_many_and_no_more(cluster: Cluster, pool: ThreadPoolExecutor, queue: str) -> None:
    with cluster.extra("bounded", DW_QUERY_TASK_MAX_PENDING_PER_QUEUE="2") as bounded:
        asked = [ask(pool, cluster.b, queue) for _ in range(2)]
        in_line(cluster, queue, 2)
        full = bounded.query(queue)
        assert (full.status, full.body["reason"], full.body["workflow_id"]) == (429, "query_task_queue_full", queue)
        assert bounded.get(f"/task-queues/{queue}").body["admission"]["query_tasks"]["status"] == "full"
        for _ in range(2):
            cluster.a.end_query("complete", cluster.a.poll_query("w", queue).body["task"], **STATE)
        third = ask(pool, bounded, queue)
        cluster.a.end_query("complete", until(lambda: cluster.a.poll_query("w", queue).body["task"], 5, "the query"))
        assert [reply.result().status for reply in (*asked, third)] == [200, 200, 200]


def test_without_a_worker_that_could_answer_nobody_waits(cluster: Cluster, queue: str) -> None:
    empty = f"{queue}-empty"
    cluster.a.start(empty, workflow_id=empty)
    for client in (cluster.a, cluster.b):
        refused = client.query(empty)
        assert (refused.status, refused.body["reason"]) == (409, "query_worker_unavailable")
    cluster.a.register("other", empty, supported_workflow_types=["another"])
    cluster.a.post("/worker/register", worker_id="php", task_queue=empty, runtime="php")
    assert cluster.b.query(empty).body["reason"] == "query_worker_unavailable"
    cluster.a.register(f"stale-{queue}", empty)
    ago = "interval '1 hour'" if cluster.kind == "pgsql" else "interval 1 hour"
    table, at = "workflow_worker_registrations", "last_heartbeat_at"
    cluster.execute(f"update {table} set {at} = {at} - {ago} where worker_id = 'stale-{queue}'")
    assert cluster.b.query(empty).body["reason"] == "query_worker_unavailable"
    assert cluster.a.query("nobodys").body["reason"] == "instance_not_found"


def test_a_repeated_poll_gets_its_query_again_on_either_node(
    cluster: Cluster, pool: ThreadPoolExecutor, queue: str
) -> None:
    asked = [ask(pool, cluster.a, queue) for _ in range(2)]
    in_line(cluster, queue, 2)
    first = cluster.a.poll_query("w", queue, poll_request_id=f"{queue}-1").body["task"]
    again = cluster.b.poll_query("w", queue, poll_request_id=f"{queue}-1").body["task"]
    assert again == first
    other = cluster.b.poll_query("w", queue, poll_request_id=f"{queue}-2").body["task"]
    assert other["query_task_id"] != first["query_task_id"]
    for task in (first, other):
        cluster.b.end_query("complete", task)
    assert [reply.result().status for reply in asked] == [200, 200]


def test_a_node_that_leaves_sends_its_callers_to_the_others(
    cluster: Cluster, pool: ThreadPoolExecutor, queue: str
) -> None:
    with cluster.extra("leaving", DW_QUERY_TASK_TIMEOUT="30") as leaving:
        asked = ask(pool, leaving, queue)
        in_line(cluster, queue, 1)
        assert cluster.nodes["leaving"].stop() < 6
        answer = asked.result(5)
    assert (answer.status, answer.body["reason"]) == (503, "query_task_queue_unavailable")
    in_line(cluster, queue, 0)


def test_a_query_poll_is_refused_like_any_other(cluster: Cluster, queue: str) -> None:
    replies = [
        cluster.a.poll_query("nobody", queue), cluster.a.poll_query("w", "elsewhere"),
        cluster.a.poll_query("w", queue, build_id="b"),
    ]  # fmt: skip
    assert [(reply.status, reply.body["reason"]) for reply in replies] == [
        (412, "worker_not_registered"), (409, "task_queue_mismatch"), (409, "build_id_mismatch"),
    ]  # fmt: skip
