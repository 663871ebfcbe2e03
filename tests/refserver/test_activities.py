"""Activities over two nodes: leased, kept alive, ended once, retried, timed out; and the workflow that waits."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from refserver.harness import Client, Cluster, activity, until

pytestmark = pytest.mark.refserver

RESULT = {"codec": "avro", "blob": "wwHioz3/VYAiNwoEb2s="}
ENFORCE = "activity:timeout-enforce"


def fresh() -> str:
    return f"act-{uuid.uuid4().hex[:8]}"


def next_task(client: Client, queue: str) -> dict[str, Any]:
    """The workflow task that follows; it must come."""
    task: dict[str, Any] | None = client.poll("w", queue).body["task"]
    assert task, "no workflow task followed"
    return task


def kinds(task: dict[str, Any]) -> list[str]:
    return [event["event_type"] for event in task["history_events"]][2:]


def overdue(cluster: Cluster, task: dict[str, Any], name: str) -> None:
    """Set one deadline of the task's execution back, as time would."""
    then = "now() - interval '1 minute'" if cluster.kind == "pgsql" else "utc_timestamp(6) - interval 1 minute"
    where = f"where id = '{task['activity_execution_id']}'"
    cluster.execute(f"update activity_executions set {name}_at = {then}, next_deadline_at = {then} {where}")


def test_leased_here_kept_alive_there_completed_here(cluster: Cluster) -> None:
    queue = fresh()
    told = cluster.a.schedule("w", queue, arguments=RESULT, heartbeat_timeout=30).body
    assert (told["run_status"], len(told["created_task_ids"])) == ("waiting", 1)
    assert cluster.b.get(f"/workflows/{queue}").body["status"] == "waiting"
    task = cluster.a.poll_activity("w", queue).body["task"]
    assert (task["arguments"], task["attempt_number"], list(task["deadlines"])) == (RESULT, 1, ["heartbeat"])
    beat = cluster.b.end_activity("heartbeat", task, message="half", current=1, total=2).body
    assert (beat["can_continue"], beat["lease_expires_at"] > task["lease_expires_at"]) == (True, True)
    done = cluster.a.end_activity("complete", task, result=RESULT).body
    resumed = next_task(cluster.b, queue)
    assert resumed["task_id"] == done["next_task_id"]
    assert kinds(resumed) == ["ActivityScheduled", "ActivityStarted", "ActivityCompleted"]
    assert [event["payload"]["sequence"] for event in resumed["history_events"][2:]] == [1, 1, 1]
    assert resumed["history_events"][-1]["payload"]["result"] == RESULT["blob"]
    assert (resumed["resume_source_id"], resumed["workflow_sequence"]) == (task["activity_execution_id"], 1)
    assert cluster.a.complete(resumed).body["run_status"] == "completed"


def test_who_does_not_hold_the_attempt_is_refused_on_the_other_node(cluster: Cluster) -> None:
    queue, other = fresh(), fresh()
    for worker, name in (("w", queue), ("x", other)):
        cluster.a.schedule(worker, name)
    task = cluster.a.poll_activity("w", queue).body["task"]
    another = cluster.a.poll_activity("x", other).body["task"]
    for verb in ("heartbeat", "complete"):
        thief = cluster.b.end_activity(verb, task, lease_owner="thief")
        assert (thief.status, thief.body["reason"], thief.body["lease_owner"]) == (409, "lease_owner_mismatch", "w")
        mixed = cluster.b.end_activity(verb, task, activity_attempt_id=another["activity_attempt_id"])
        assert (mixed.status, mixed.body["reason"]) == (409, "task_mismatch")
    assert cluster.a.end_activity("complete", task).status == 200
    for verb in ("complete", "fail"):
        again = cluster.b.end_activity(verb, task, failure={"message": "late"})
        assert (again.status, again.body["reason"], again.body["recorded"]) == (409, "stale_attempt", False)
    late = cluster.b.end_activity("heartbeat", task)
    assert (late.status, late.body["can_continue"], late.body["reason"]) == (200, False, "stale_attempt")


def test_a_failure_is_retried_after_its_pause_and_then_final(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.schedule("w", queue, retry_policy={"max_attempts": 2, "backoff_seconds": [1]})
    first = cluster.a.poll_activity("w", queue).body["task"]
    told = cluster.b.end_activity("fail", first, failure={"message": "boom", "type": "T"}).body
    assert (told["outcome"], told["recorded"]) == ("failed", True)
    assert cluster.a.poll_activity("w", queue, timeout_seconds=0).body["task"] is None, "the pause is not over"
    assert cluster.a.poll("w", queue, timeout_seconds=0).body["task"] is None, "a retry wakes no workflow"
    second = until(lambda: cluster.b.poll_activity("w", queue).body["task"], 4, "the second attempt")
    assert (second["task_id"], second["attempt_number"]) == (told["next_task_id"], 2)
    assert second["activity_execution_id"] == first["activity_execution_id"]
    assert cluster.a.end_activity("complete", first).body["reason"] == "stale_attempt"
    cluster.a.end_activity("fail", second, failure={"message": "boom again", "details": RESULT})
    resumed = next_task(cluster.b, queue)
    expected = [
        "ActivityScheduled",
        *["ActivityStarted", "ActivityRetryScheduled"],
        "ActivityStarted",
        "ActivityFailed",
    ]
    assert kinds(resumed) == expected
    last = resumed["history_events"][-1]["payload"]
    assert (last["message"], last["exception"]["details"]) == ("boom again", RESULT)


def test_what_must_not_be_retried_is_not(cluster: Cluster) -> None:
    policy = {"max_attempts": 5, "non_retryable_error_types": ["Fatal"]}
    for failure in ({"message": "m", "type": "Fatal"}, {"message": "m", "non_retryable": True}):
        queue = fresh()
        cluster.a.schedule("w", queue, retry_policy=policy)
        cluster.b.end_activity("fail", cluster.a.poll_activity("w", queue).body["task"], failure=failure)
        assert kinds(next_task(cluster.a, queue))[-1] == "ActivityFailed"


def test_an_end_while_the_workflow_task_is_leased_makes_the_next_one(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue, workflow_id=queue)
    first = cluster.a.poll("w", queue).body["task"]
    told = cluster.a.complete(first, commands=[activity(), activity()]).body
    assert len(told["created_task_ids"]) == 2
    one, two = (cluster.b.poll_activity("w", queue).body["task"] for _ in range(2))
    cluster.a.end_activity("complete", one)
    leased = next_task(cluster.b, queue)
    assert cluster.a.end_activity("complete", two).body["next_task_id"] is None, "one open workflow task per run"
    assert cluster.a.poll("w", queue, timeout_seconds=0).body["task"] is None
    claim = {"lease_owner": "w", "workflow_task_attempt": 1}
    waiting = {"type": "WorkflowTaskWaitingForHistory", "message": "nothing yet"}
    path = f"/worker/workflow-tasks/{leased['task_id']}/fail"
    assert cluster.b.post(path, **claim, failure=waiting).body["next_task_id"]
    resumed = next_task(cluster.a, queue)
    assert kinds(resumed).count("ActivityCompleted") == 2
    assert sorted(event["payload"]["sequence"] for event in resumed["history_events"][2:]) == [1, 1, 1, 2, 2, 2]
    assert cluster.b.complete(resumed).status == 200


def test_an_expired_lease_is_handed_over_with_a_new_attempt(cluster: Cluster) -> None:
    if "server-e" not in cluster.nodes:
        cluster.serve("server-e", DW_ACTIVITY_TASK_TIMEOUT="1")
    queue, short = fresh(), Client(cluster.nodes["server-e"].url)
    cluster.a.schedule("w", queue)
    cluster.b.register("second", queue)
    first = short.poll_activity("w", queue).body["task"]
    taken = until(lambda: cluster.b.poll_activity("second", queue).body["task"], 4, "the lease to lapse")
    assert (taken["task_id"], taken["attempt_number"]) == (first["task_id"], 2)
    assert taken["activity_attempt_id"] != first["activity_attempt_id"]
    assert cluster.a.end_activity("complete", first).body["reason"] == "stale_attempt"
    assert cluster.a.end_activity("complete", taken).status == 200


def test_a_repeated_poll_gets_the_same_attempt_on_either_node(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue)
    cluster.a.complete(cluster.a.poll("w", queue).body["task"], commands=[activity(), activity()])
    with ThreadPoolExecutor(4) as pool:
        clients = [cluster.a, cluster.b, cluster.a, cluster.b]
        replies = list(pool.map(lambda client: client.poll_activity("w", queue, poll_request_id="once"), clients))
    assert len({reply.body["task"]["activity_attempt_id"] for reply in replies}) == 1


@pytest.mark.parametrize("name", ["schedule_to_start", "start_to_close", "heartbeat", "schedule_to_close"])
def test_the_pass_enforces_each_deadline(cluster: Cluster, name: str) -> None:
    queue = fresh()
    cluster.a.schedule("w", queue, retry_policy={"max_attempts": 2}, **{f"{name}_timeout": 60})
    pending, attempts = name == "schedule_to_start", 1 if name == "schedule_to_close" else 2
    for attempt in range(1, attempts + 1):
        task = execution_of(cluster, queue) if pending else cluster.a.poll_activity("w", queue).body["task"]
        overdue(cluster, task, name)
        assert cluster.run_pass(ENFORCE)[1] == [f"{ENFORCE}: 1 timed out, 0 skipped, 0 failed."]
        if attempt < attempts:
            assert cluster.a.poll("w", queue, timeout_seconds=0).body["task"] is None, "one attempt is left"
    resumed = next_task(cluster.b, queue)
    last = resumed["history_events"][-1]
    assert (last["event_type"], last["payload"]["timeout_kind"]) == ("ActivityTimedOut", name)
    assert kinds(resumed).count("ActivityRetryScheduled") == attempts - 1
    assert cluster.run_pass(ENFORCE) == (0, [f"{ENFORCE}: No expired activity executions."])
    if not pending:
        assert cluster.b.end_activity("complete", task).body["reason"] == "stale_attempt"


def execution_of(cluster: Cluster, queue: str) -> dict[str, Any]:
    """The id of the only execution of the workflow that is named like its queue."""
    run_id = cluster.a.get(f"/workflows/{queue}").body["run_id"]
    said = cluster.execute(f"select concat('id=', id) from activity_executions where workflow_run_id = '{run_id}'")
    return {"activity_execution_id": said.split("id=")[-1].split()[0]}


def test_a_bad_item_stops_no_other(cluster: Cluster) -> None:
    queues = [fresh(), fresh()]
    tasks = []
    for queue in queues:
        cluster.a.schedule("w", queue, start_to_close_timeout=60)
        tasks.append(cluster.a.poll_activity("w", queue).body["task"])
        overdue(cluster, tasks[-1], "start_to_close")
    bad = f"where id = '{tasks[0]['activity_execution_id']}'"
    cluster.execute(f"update activity_executions set retry_policy = 'broken' {bad}")
    code, lines = cluster.run_pass(ENFORCE)
    cluster.execute(f"update activity_executions set status = 'cancelled' {bad}")
    assert (code, lines[0]) == (1, f"{ENFORCE}: 1 timed out, 0 skipped, 1 failed.")
    assert tasks[0]["activity_execution_id"] in lines[1]
    assert kinds(next_task(cluster.b, queues[1]))[-1] == "ActivityTimedOut"


def test_a_closed_run_takes_no_more_of_its_activities(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue)
    done = {"type": "complete_workflow", "result": None}
    both = [activity(schedule_to_close_timeout=60), activity(), activity(), done]
    first = cluster.a.poll("w", queue).body["task"]
    assert cluster.a.complete(first, commands=both).body["run_status"] == "completed"
    assert cluster.b.poll_activity("w", queue, timeout_seconds=0).body["task"] is None
    left = cluster.count("workflow_tasks", f"workflow_run_id = '{first['run_id']}' and available_at is not null")
    assert left == 0, "what nobody waits for is put away"


def test_a_heartbeat_and_an_end_on_a_closed_run(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue)
    cluster.a.complete(cluster.a.poll("w", queue).body["task"], commands=[activity(), activity()])
    one, two = (cluster.b.poll_activity("w", queue).body["task"] for _ in range(2))
    cluster.a.end_activity("complete", one)
    assert cluster.a.complete(next_task(cluster.a, queue)).body["run_status"] == "completed"
    beat = cluster.b.end_activity("heartbeat", two)
    assert (beat.status, beat.body["can_continue"], beat.body["reason"]) == (200, False, "run_completed")
    late = cluster.b.end_activity("complete", two)
    assert (late.status, late.body["recorded"], late.body["next_task_id"]) == (200, True, None)


def test_two_nodes_never_hand_out_the_same_activity(cluster: Cluster) -> None:
    """300 activities, eight pollers that race over two nodes with no wait and so no signal."""
    queue, total = fresh(), 300
    for _ in range(10):
        cluster.a.register("w", queue)
        cluster.a.start(queue)
        first = cluster.a.poll("w", queue).body["task"]
        assert cluster.a.complete(first, commands=[activity()] * (total // 10)).status == 200

    def work(number: int) -> list[str]:
        client, worker, got = (cluster.a, cluster.b)[number % 2], f"w{number}", []
        client.register(worker, queue)
        while task := client.poll_activity(worker, queue, timeout_seconds=0).body["task"]:
            assert task["attempt_number"] == 1
            got.append(task["task_id"])
        return got

    with ThreadPoolExecutor(8) as pool:
        claimed = [task for got in pool.map(work, range(8)) for task in got]
    claimed += work(8)  # one that was being claimed while all others looked
    assert len(claimed) == len(set(claimed)) == total
