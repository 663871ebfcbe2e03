"""Two nodes, one database, no stickiness: work crosses over, nobody gets another's task, lost work comes back."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median

import pytest
import requests
from dw_refserver.store.history import SHORT
from dw_refserver.store.tasks import Poll

from refserver.harness import TOKEN, Client, Cluster, Reply, until

pytestmark = pytest.mark.refserver


def fresh() -> str:
    return f"q-{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize(("first", "second"), [("server-a", "server-b"), ("server-b", "server-a")])
def test_polled_on_one_node_completed_on_the_other(cluster: Cluster, first: str, second: str) -> None:
    one, other, queue = Client(cluster.nodes[first].url), Client(cluster.nodes[second].url), fresh()
    one.register("w", queue)
    started = other.start(queue, workflow_id=queue, input=["Ada"]).body
    task = one.poll("w", queue).body["task"]
    assert task["run_id"] == started["run_id"]
    assert [event["event_type"] for event in task["history_events"]] == ["StartAccepted", "WorkflowStarted"]
    assert other.complete(task).body["run_status"] == "completed"
    run = one.get(f"/workflows/{queue}").body
    envelopes = [{"codec": "avro", "blob": blob} for blob in ("wwHioz3/VYAiNwoEb2s=", "wwHioz3/VYAiNwwCCgZBZGEA")]
    assert (run["status"], run["output_envelope"], run["input_envelope"]) == ("completed", *envelopes)
    again = one.complete(task)
    assert (again.status, again.body["reason"]) == (409, "run_closed")


def test_each_node_says_its_own_name(cluster: Cluster) -> None:
    a, b = (client.get("/cluster/info").body for client in (cluster.a, cluster.b))
    assert (a.pop("server_id"), b.pop("server_id")) == ("server-a", "server-b")
    assert a == b


def test_a_failed_workflow_keeps_its_failure(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue, workflow_id=queue)
    task = cluster.b.poll("w", queue).body["task"]
    failing = [{"type": "fail_workflow", "message": "bad", "exception_class": "ValueError", "non_retryable": True}]
    assert cluster.a.complete(task, commands=failing).body["run_status"] == "failed"
    run = cluster.b.get(f"/workflows/{queue}/runs/{task['run_id']}").body
    assert (run["status"], run["closed_reason"], run["output_envelope"]) == ("failed", "failed", None)


def test_commands_are_all_or_nothing(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue, workflow_id=queue)
    task = cluster.a.poll("w", queue).body["task"]
    done = {"type": "complete_workflow"}
    twice = cluster.a.complete(task, commands=[done, done])
    assert (twice.status, twice.body["reason"], twice.body["recorded"]) == (409, "invalid_commands", False)
    unknown = cluster.a.complete(task, commands=[{"type": "start_child_workflow", "workflow_type": "t"}, done])
    assert (unknown.status, list(unknown.body["errors"])) == (422, ["commands.0.type"])
    assert cluster.b.get(f"/workflows/{queue}").body["status"] == "pending"
    assert cluster.b.complete(task).status == 200


def test_a_failed_task_comes_again_with_a_higher_attempt(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue)
    first = cluster.a.poll("w", queue).body["task"]
    claim = {"lease_owner": "w", "workflow_task_attempt": 1}
    told = cluster.b.post(f"/worker/workflow-tasks/{first['task_id']}/fail", **claim, failure={"message": "boom"}).body
    second = cluster.b.poll("w", queue).body["task"]
    assert (second["task_id"], second["workflow_task_attempt"]) == (told["next_task_id"], 2)
    assert cluster.a.complete(second).status == 200


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        ({"type": "WorkflowTaskWaitingForHistory", "message": "nothing new"}, "waiting_for_history"),
        ({"type": "NonDeterminism", "message": "replay mismatch"}, "failed"),
    ],
)
def test_what_a_retry_can_not_help_does_not_come_again(cluster: Cluster, failure: dict[str, str], outcome: str) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue, workflow_id=queue)
    task = cluster.a.poll("w", queue).body["task"]
    claim = {"lease_owner": "w", "workflow_task_attempt": 1}
    told = cluster.b.post(f"/worker/workflow-tasks/{task['task_id']}/fail", **claim, failure=failure).body
    assert (told["outcome"], told["recorded"], told["next_task_id"]) == (outcome, True, None)
    assert cluster.a.poll("w", queue, timeout_seconds=0).body["task"] is None
    assert not cluster.b.get(f"/workflows/{queue}").body["is_terminal"]


def test_a_failure_report_may_hold_anything(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue)
    task = cluster.a.poll("w", queue).body["task"]
    claim = {"lease_owner": "w", "workflow_task_attempt": 1}
    path = f"/worker/workflow-tasks/{task['task_id']}/fail"
    told = cluster.b.post(path, **claim, failure={"message": "\0 \U0001f4a9", "type": ["odd"]})
    assert (told.status, told.body["outcome"]) == (200, "failed")


def test_a_definition_is_held_only_while_its_worker_is_alive(cluster: Cluster) -> None:
    worker, queue = fresh(), fresh()
    first, second = ({"workflow_definition_fingerprints": {"t": print_}} for print_ in ("one", "two"))
    assert cluster.a.register(worker, queue, supported_workflow_types=["t"], **first).status == 201
    assert cluster.b.register(worker, queue, supported_workflow_types=["t"], **second).status == 409
    ago = "interval '1 hour'" if cluster.kind == "pgsql" else "interval 1 hour"
    table, at = "workflow_worker_registrations", "last_heartbeat_at"
    cluster.execute(f"update {table} set {at} = {at} - {ago} where worker_id = '{worker}'")
    assert cluster.b.register(worker, queue, supported_workflow_types=["t"], **second).status == 201


def test_history_in_pages(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue)
    task = cluster.a.poll("w", queue, history_page_size=1).body["task"]
    assert (len(task["history_events"]), task["total_history_events"]) == (1, 2)
    page = cluster.b.post(
        f"/worker/workflow-tasks/{task['task_id']}/history", lease_owner="w", workflow_task_attempt=1,
        next_history_page_token=task["next_history_page_token"],
    ).body  # fmt: skip
    assert ([event["sequence"] for event in page["history_events"]], page["next_history_page_token"]) == ([2], None)


@pytest.mark.parametrize("signals", [SHORT - 2, SHORT - 1])
def test_a_history_that_comes_with_its_task_is_the_one_that_is_stored(cluster: Cluster, signals: int) -> None:
    queue, odd = fresh(), 'ü "quoted" \\ \n {0} %s 🙂'
    cluster.a.register("w", queue)
    workflow = cluster.a.start(queue).body["workflow_id"]
    for number in range(signals):
        assert cluster.b.post(f"/workflows/{workflow}/signal/s{number}", input=[odd, number]).status == 202
    task = cluster.a.poll("w", queue, poll_request_id="first").body["task"]
    again = cluster.b.poll("w", queue, poll_request_id="first", history_page_size=signals).body["task"]
    rest = cluster.b.post(
        f"/worker/workflow-tasks/{task['task_id']}/history", lease_owner="w", workflow_task_attempt=1,
        next_history_page_token=again["next_history_page_token"],
    ).body  # fmt: skip
    assert task["history_events"] == again["history_events"] + rest["history_events"]
    assert task["total_history_events"] == len(task["history_events"]) == signals + 2
    assert (again["task_id"], again["lease_expires_at"] >= task["lease_expires_at"]) == (task["task_id"], True)


def polled_at_once(pool: ThreadPoolExecutor, cluster: Cluster, queue: str, per_node: int) -> list[Future[Reply]]:
    """The same poll, sent so many times to each node at the same time."""
    clients = [Client(cluster.nodes[name].url) for name in ("server-a", "server-b") for _ in range(per_node)]
    return [pool.submit(client.poll, "w", queue, poll_request_id="once") for client in clients]


def test_a_repeated_poll_gets_its_task_again_on_either_node(cluster: Cluster) -> None:
    """Three tasks, so that two are there for whoever takes the wrong one; ten rounds, as it is a race."""
    for _ in range(10):
        queue = fresh()
        cluster.a.register("w", queue)
        for _ in range(3):
            cluster.a.start(queue)
        with ThreadPoolExecutor(8) as pool:
            replies = [reply.result() for reply in polled_at_once(pool, cluster, queue, 4)]
        tasks = [reply.body["task"] for reply in replies]
        assert all(tasks), "a repeated poll went away empty"
        assert len({(task["task_id"], task["workflow_task_attempt"]) for task in tasks}) == 1
    assert cluster.b.complete(tasks[0]).status == 200
    later = cluster.b.poll("w", queue, poll_request_id="once").body["task"]
    assert later["task_id"] != tasks[0]["task_id"]


def test_a_poll_that_waits_gets_what_its_first_was_given_meanwhile(cluster: Cluster) -> None:
    """One start wakes one poll a node; the others under the same id have it when their time is up, at the latest."""
    queue = fresh()
    cluster.a.register("w", queue)
    with ThreadPoolExecutor(6) as pool:
        waiting = polled_at_once(pool, cluster, queue, 3)
        time.sleep(0.3)  # all wait by then, or else the test is the one above
        assert cluster.a.start(queue).status == 201
        tasks = [reply.result().body["task"] for reply in waiting]
    assert all(tasks), "a repeated poll went away empty"
    assert len({(task["task_id"], task["workflow_task_attempt"]) for task in tasks}) == 1


def test_a_repeated_poll_waits_for_a_claim_of_the_first_that_is_not_committed_yet(cluster: Cluster) -> None:
    """The first has locked its row, and writes its id into it half a second later: this test is its node."""
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue)
    task_id = cluster.value(f"select id from workflow_tasks where queue = '{queue}'")
    soon, pause = "now(6) + interval 1 minute", "select sleep(0.5)"
    if cluster.kind == "pgsql":
        soon, pause = "now() + interval '1 minute'", "select pg_sleep(0.5)"
    key = Poll("default", queue, "w", "once", lease=60).key
    lease = f"lease_owner = 'w', poll_key = '{key}', lease_expires_at = {soon}, available_at = {soon}"
    leased = f"update workflow_tasks set status = 'leased', attempt_count = 1, {lease} where id = '{task_id}'"
    row = f"select id from workflow_tasks where id = '{task_id}' for update"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cluster.execute, "begin", row, pause, leased, "commit")
        until(lambda: task_id not in cluster.execute(f"{row} skip locked"), 5, "the first to hold the row")
        task = cluster.b.poll("w", queue, poll_request_id="once").body["task"]
        first.result()
    assert (task["task_id"], task["workflow_task_attempt"]) == (task_id, 1)


def test_races_lose_nothing_and_claim_nothing_twice(cluster: Cluster) -> None:
    """200 tasks, 8 pollers over two nodes, starts going on meanwhile."""
    queue, total = fresh(), 200
    claimed: list[str] = []
    cluster.a.register("starter", queue)

    def start(number: int) -> None:
        assert Client(cluster.nodes["server-a" if number % 2 else "server-b"].url).start(queue).status == 201

    def work(number: int) -> None:
        clients = cluster.a, cluster.b
        clients[0].register(f"w{number}", queue)
        while len(claimed) < total:
            task = clients[len(claimed) % 2].poll(f"w{number}", queue, poll_request_id=uuid.uuid4().hex).body["task"]
            if task:
                claimed.append(task["task_id"])
                assert task["workflow_task_attempt"] == 1
                assert clients[number % 2].complete(task).status == 200

    with ThreadPoolExecutor(12) as pool:
        workers = [pool.submit(work, number) for number in range(8)]
        list(pool.map(start, range(total)))
        for worker in workers:
            worker.result(60)
    assert len(claimed) == len(set(claimed)) == total


def test_a_waiting_poll_is_woken_by_a_start_on_the_other_node(cluster: Cluster) -> None:
    """Far sooner than the prober's second would be."""
    queue, took = fresh(), []
    cluster.a.register("w", queue)
    for turn in range(10):
        waiting, starting = (cluster.a, cluster.b) if turn % 2 else (cluster.b, cluster.a)
        with ThreadPoolExecutor(1) as pool:
            poll = pool.submit(waiting.poll, "w", queue)
            time.sleep(0.1)  # the poll must be waiting; were it late, it would only find the task sooner
            starting.start(queue)
            started = time.monotonic()
            task = poll.result(5).body["task"]
            took.append(time.monotonic() - started)
        assert task
        waiting.complete(task)
    assert median(took) < 0.15


def test_a_signal_that_nobody_understands_stops_no_node_from_listening(cluster: Cluster) -> None:
    code, _ = cluster.containers["redis"].exec_run(["redis-cli", "publish", "dw:wake", "junk"])
    assert code == 0
    for name in ("server-a", "server-b"):
        log = cluster.nodes[name].log
        until(lambda log=log: "wake_listen_recovered" in log.read_text(), 5, f"{name} to listen again")  # type: ignore[misc]


def test_an_empty_poll_is_held_for_as_long_as_both_sides_allow(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    started = time.monotonic()
    assert cluster.a.poll("w", queue, timeout_seconds=0).body["poll_status"] == "empty"
    asked_none = time.monotonic() - started
    assert cluster.a.poll("w", queue, timeout_seconds=30).body["poll_status"] == "empty"
    asked_long = time.monotonic() - started - asked_none
    assert asked_none < 0.5
    assert 0.9 < asked_long < 6


def test_a_client_that_hung_up_leases_nothing(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(
            f"{cluster.nodes['server-a'].url}/api/worker/workflow-tasks/poll", timeout=0.3,
            json={"worker_id": "w", "task_queue": queue}, headers=dict(cluster.a.session.headers),
        )  # fmt: skip
    cluster.a.start(queue)
    task = cluster.b.poll("w", queue).body["task"]
    assert task["workflow_task_attempt"] == 1


def test_a_worker_gets_only_types_it_knows(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("other", queue, supported_workflow_types=["another"])
    cluster.a.register("any", queue)
    cluster.a.start(queue)
    assert cluster.a.poll("other", queue, timeout_seconds=0).body["task"] is None
    assert cluster.b.poll("any", queue, timeout_seconds=0).body["task"]


@pytest.mark.parametrize("again", ["same-worker", "other-worker"])
def test_an_expired_lease_goes_to_whoever_asks_next(cluster: Cluster, again: str) -> None:
    if "server-c" not in cluster.nodes:
        cluster.serve("server-c", DW_WORKFLOW_TASK_TIMEOUT="1")
    queue, short = fresh(), Client(cluster.nodes["server-c"].url)
    for worker in ("same-worker", "other-worker"):
        short.register(worker, queue)
    short.start(queue)
    task = short.poll("same-worker", queue, poll_request_id="p").body["task"]
    page = {"lease_owner": "same-worker", "workflow_task_attempt": 1, "next_history_page_token": "MA=="}
    look = f"/worker/workflow-tasks/{task['task_id']}/history"
    until(lambda: cluster.b.post(look, **page).body.get("reason") == "lease_expired", 20, "the lease to expire")
    second = cluster.a.poll(again, queue, poll_request_id="p").body["task"]
    assert (second["task_id"], second["workflow_task_attempt"]) == (task["task_id"], 2)
    reason = "lease_owner_mismatch" if again == "other-worker" else "workflow_task_attempt_mismatch"
    late = cluster.b.complete(task)
    assert (late.status, late.body["reason"]) == (409, reason)
    assert cluster.b.complete(second).status == 200


def test_a_heartbeat_keeps_the_lease(cluster: Cluster) -> None:
    if "server-c" not in cluster.nodes:
        cluster.serve("server-c", DW_WORKFLOW_TASK_TIMEOUT="1")
    queue, short = fresh(), Client(cluster.nodes["server-c"].url)
    short.register("w", queue)
    short.start(queue)
    task = short.poll("w", queue).body["task"]
    claim = {"lease_owner": "w", "workflow_task_attempt": 1}
    beat = cluster.a.post(f"/worker/workflow-tasks/{task['task_id']}/heartbeat", **claim).body
    assert beat["renewed"]
    assert beat["lease_expires_at"] > task["lease_expires_at"]
    assert cluster.b.poll("w", queue).body["task"] is None, "one second later the short lease would have been over"
    assert cluster.b.complete(task).status == 200


def test_starts_of_one_id_at_once_make_one_run(cluster: Cluster) -> None:
    queue = fresh()
    clients = [Client(cluster.nodes[name].url) for name in ("server-a", "server-b") for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda client: client.start(queue, workflow_id=queue), clients))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7
    assert len({reply.body["run_id"] for reply in replies}) == 1


def test_stopping_a_node_answers_its_polls_and_takes_a_second(cluster: Cluster) -> None:
    queue, leaving = fresh(), cluster.serve("server-d", DW_WORKER_POLL_TIMEOUT="30")
    leaving.register("w", queue)
    replies: list[Reply] = []

    def wait() -> None:
        replies.append(Client(leaving.url).poll("w", queue))

    polls = [
        threading.Thread(target=wait) for _ in range(3)
    ]  # fmt: skip
    for poll in polls:
        poll.start()
    time.sleep(0.3)  # they are waiting; one that is not yet would be refused a connection and fail the test
    took = cluster.nodes["server-d"].stop()
    for poll in polls:
        poll.join(5)
    assert [(reply.status, reply.body["task"], reply.body["poll_status"]) for reply in replies] == [
        (200, None, "empty")
    ] * 3
    assert took < 1.5
    assert cluster.nodes.pop("server-d").process.returncode == 0


def test_no_secret_and_no_payload_in_the_logs(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.start(queue, input=["a-payload-of-the-tests"])
    text = until(cluster.nodes["server-a"].log.read_text, 2, "a log line")
    assert '"event":"request"' in text
    assert not [word for word in (TOKEN, "a-payload-of-the-tests", "secret") if word in text]
