"""Signals, cancel, terminate, parallel groups, continue-as-new and deregistration, across two nodes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from refserver.harness import OK, Client, Cluster, activity, until
from refserver.test_timers import begin, events_of, timer
from refserver.test_two_nodes import fresh
from refserver.unit.test_forms import member

pytestmark = pytest.mark.refserver

WAIT = {"type": "open_condition_wait", "condition_key": "k"}


def send(client: Client, workflow_id: str, name: str = "go", **body: Any) -> Any:
    return client.post(f"/workflows/{workflow_id}/signal/{name}", **body)


def names_of(client: Client, workflow_id: str) -> list[str]:
    return [event["event_type"] for event in events_of(client, workflow_id)]


def test_a_signal_wakes_the_workflow_and_ends_its_wait(cluster: Cluster) -> None:
    queue = fresh()
    begin(cluster.a, queue, WAIT)
    told = send(cluster.b, queue, input=OK)
    assert (told.status, told.body["outcome"], told.body["command_sequence"]) == (202, "signal_received", 2)
    task = cluster.a.poll("w", queue).body["task"]
    assert (task["signal_name"], task["resume_source_kind"]) == ("go", "workflow_signal")
    assert task["history_events"][-1]["payload"]["arguments"] == OK
    cluster.a.complete(task)
    assert names_of(cluster.b, queue)[2:] == [
        "ConditionWaitOpened", "SignalReceived", "SignalApplied", "ConditionWaitSatisfied", "WorkflowCompleted",
    ]  # fmt: skip
    late = send(cluster.b, queue)
    assert (late.status, late.body["outcome"], late.body["reason"]) == (409, "rejected_not_active", "run_not_active")


def test_a_request_id_is_taken_once(cluster: Cluster) -> None:
    queue = fresh()
    begin(cluster.a, queue, WAIT)
    with ThreadPoolExecutor(8) as pool:
        nodes = [Client(client.url) for client in (cluster.a, cluster.b) * 4]
        told = list(pool.map(lambda client: send(client, queue, input=["x"], request_id="r1"), nodes))
    assert {(reply.status, reply.body["command_id"]) for reply in told} == {(202, told[0].body["command_id"])}
    assert names_of(cluster.a, queue).count("SignalReceived") == 1
    other = send(cluster.b, queue, input=["y"], request_id="r1")
    assert (other.status, other.body["reason"]) == (409, "request_id_conflict")


def test_no_signal_is_lost_while_tasks_come_and_go(cluster: Cluster) -> None:
    queue = fresh()
    begin(cluster.a, queue, WAIT)
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(send, Client(cluster.b.url), queue, f"s{number}") for number in range(40)]
        seen: set[str] = set()
        while len(seen) < 40:
            task = until(lambda: cluster.a.poll("w", queue).body["task"], 10, "a task after a signal")
            shown = [event for event in task["history_events"] if event["event_type"] == "SignalReceived"]
            seen |= {event["payload"]["signal_name"] for event in shown}
            assert cluster.a.complete(task, commands=[WAIT]).status == 200
    assert {reply.result().status for reply in sent} == {202}
    assert len(seen) == 40
    assert cluster.count("workflow_tasks", f"queue = '{queue}' and status in ('ready', 'leased')") == 0
    events = events_of(cluster.b, queue)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    received, applied = (
        [event["payload"]["signal_id"] for event in events if event["event_type"] == kind]
        for kind in ("SignalReceived", "SignalApplied")
    )
    assert received == applied


def test_what_a_signal_may_not_name(cluster: Cluster) -> None:
    assert send(cluster.a, "ghost").body["reason"] == "instance_not_found"
    queue = fresh()
    run = cluster.a.start(queue, workflow_id=queue).body["run_id"]
    assert cluster.a.post(f"/workflows/{queue}/runs/{'0' * 26}/signal/go").body["reason"] == "run_not_found"
    assert cluster.a.post(f"/workflows/{queue}/runs/{run}/signal/go").body["target_scope"] == "run"
    assert send(cluster.a, queue, "n" * 257).status == 422
    assert send(cluster.a, queue, input="text").status == 422
    assert send(cluster.a.inside("default"), queue).status == 202


@pytest.mark.parametrize(("verb", "status"), [("cancel", "cancelled"), ("terminate", "terminated")])
def test_a_stop_ends_everything_at_once(cluster: Cluster, verb: str, status: str) -> None:
    queue = fresh()
    begin(cluster.a, queue, activity(), timer(3600), activity(activity_type="b"))
    running = cluster.a.poll_activity("w", queue).body["task"]
    before = cluster.b.get(f"/workflows/{queue}").body["actions"]
    assert [before[f"can_{name}"] for name in ("signal", "cancel", "terminate", "archive")] == [True, True, True, False]
    told = cluster.b.post(f"/workflows/{queue}/{verb}", reason="enough")
    assert (told.status, told.body["outcome"], told.body["reason"]) == (200, status, "enough")
    assert sorted(names_of(cluster.a, queue)[6:]) == sorted([
        f"{verb.title()}Requested", "ActivityCancelled", "ActivityCancelled", "TimerCancelled",
        f"Workflow{status.title()}",
    ])  # fmt: skip
    run = cluster.a.get(f"/workflows/{queue}").body
    assert (run["status"], run["closed_reason"]) == (status, status)
    assert [action for action, may in run["actions"].items() if may] == ["can_query"]
    assert cluster.count("workflow_tasks", f"queue = '{queue}' and status in ('ready', 'leased')") == 0
    beat = cluster.a.end_activity("heartbeat", running).body
    assert (beat["can_continue"], beat["reason"]) == (False, f"run_{status}")
    late = cluster.b.end_activity("complete", running, result=OK)
    assert (late.status, late.body["reason"]) == (409, f"run_{status}")
    again = cluster.a.post(f"/workflows/{queue}/{verb}")
    assert (again.status, again.body["reason"], again.body["command_status"]) == (409, "run_not_active", "rejected")


def test_a_stop_beats_the_task_that_is_leased(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue, workflow_id=queue)
    task = cluster.a.poll("w", queue).body["task"]
    assert cluster.b.post(f"/workflows/{queue}/cancel").status == 200
    late = cluster.a.complete(task)
    assert (late.status, late.body["reason"], late.body["stop_reason"]) == (409, "run_closed", "run_cancelled")


def test_a_group_wakes_the_workflow_once_and_is_not_scheduled_twice(cluster: Cluster) -> None:
    queue = fresh()
    group = [activity(**member(1, 3, index)) for index in range(3)]
    begin(cluster.a, queue, *group)
    assert send(cluster.b, queue).status == 202
    shown = cluster.a.poll("w", queue).body["task"]
    assert cluster.a.complete(shown, commands=group).status == 200
    for left in (2, 1, 0):
        task = cluster.b.poll_activity("w", queue).body["task"]
        assert (cluster.b.end_activity("complete", task, result=OK).body["next_task_id"] is None) == (left > 0)
    woken = cluster.a.poll("w", queue).body["task"]
    done = [event["payload"] for event in woken["history_events"] if event["event_type"] == "ActivityCompleted"]
    assert sorted(payload["parallel_group_index"] for payload in done) == [0, 1, 2]
    assert names_of(cluster.a, queue).count("ActivityScheduled") == 3


def test_continue_as_new_is_another_run_of_the_same_workflow(cluster: Cluster) -> None:
    queue = fresh()
    first = begin(cluster.a, queue, {"type": "continue_as_new", "arguments": OK})
    second = cluster.b.poll("w", queue).body["task"]
    assert (second["workflow_id"], second["arguments"]) == (queue, OK)
    runs = cluster.a.get(f"/workflows/{queue}/runs").body["runs"]
    assert [(run["run_id"], run["status"]) for run in runs] == [
        (first["run_id"], "completed"), (second["run_id"], "pending"),
    ]  # fmt: skip
    assert cluster.b.get(f"/workflows/{queue}").body["run_number"] == 2
    old = cluster.b.post(f"/workflows/{queue}/runs/{first['run_id']}/signal/go")
    assert (old.status, old.body["reason"], old.body["target_scope"]) == (409, "historical_run_command_rejected", "run")
    assert send(cluster.a, queue).body["run_id"] == second["run_id"]
    refused = cluster.a.complete(second, commands=[{"type": "continue_as_new"}])
    assert (refused.status, refused.body["reason"]) == (409, "invalid_commands")


def test_who_deregisters_gives_back_what_it_holds(cluster: Cluster) -> None:
    queue = fresh()
    cluster.a.register("gone", queue)
    cluster.a.start(queue, workflow_id=queue)
    held = cluster.a.poll("gone", queue).body["task"]
    told = cluster.b.delete("/worker/registrations/gone")
    assert (told.status, told.body["outcome"], told.body["recovered_workflow_task_count"]) == (200, "deregistered", 1)
    cluster.b.register("other", queue)
    again = cluster.b.poll("other", queue).body["task"]
    assert (again["task_id"], again["workflow_task_attempt"]) == (held["task_id"], 2)
    assert cluster.a.complete(held).body["reason"] == "lease_owner_mismatch"
    assert cluster.a.poll("gone", queue).status == 412
    assert cluster.a.delete("/worker/registrations/gone").body["reason"] == "worker_not_found"


@pytest.mark.parametrize("kind", ["execution_timeout", "run_timeout"])
def test_a_run_past_its_deadline_ends(cluster: Cluster, kind: str) -> None:
    queue = fresh()
    cluster.a.register("w", queue)
    cluster.a.start(queue, workflow_id=queue, **{f"{kind}_seconds": 1})
    task = cluster.a.poll("w", queue).body["task"]
    cluster.a.complete(task, commands=[timer(3600)])
    run = until(lambda: ended(cluster.b.get(f"/workflows/{queue}").body), 15, "the run timed out")
    assert (run["status"], run["closed_reason"]) == ("failed", "timed_out")
    events = events_of(cluster.b, queue)
    assert [event["event_type"] for event in events][3:] == ["TimerCancelled", "WorkflowTimedOut"]
    assert events[-1]["payload"]["timeout_kind"] == kind
    assert send(cluster.a, queue).body["reason"] == "run_not_active"


def ended(run: dict[str, Any]) -> dict[str, Any] | None:
    return run if run["is_terminal"] else None
