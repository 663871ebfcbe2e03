from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from dw_refserver import engine
from dw_refserver.command_engine import complete
from dw_refserver.engine import Claim, Refused, Start, Task
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TASK = Task(
    now=NOW, id="t1", namespace="default", status="leased", lease_owner="w", attempt_count=1, queue="q",
    lease_expires_at=NOW + timedelta(seconds=9), run_id="r1", run_status="pending", run_closed_reason=None,
    run_closed_at=None, workflow_type="t", payload_codec="avro", compatibility=None, last_history_sequence=2,
    seen_sequence=2, last_step=0, resume_sequence=0, run_queue="q",
)  # fmt: skip
CLAIM = Claim("t1", "w", 1)


def refused(task: Task | None, claim: Claim = CLAIM) -> Refused:
    with pytest.raises(Refused) as raised:
        engine.guard(task, claim)
    return raised.value


def test_who_holds_the_task_passes() -> None:
    assert engine.guard(TASK, CLAIM) is TASK


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"status": "completed"}, 409, "task_not_leased"),
        ({"status": "completed", "run_status": "failed"}, 409, "run_closed"),
        ({"lease_expires_at": NOW}, 409, "lease_expired"),
        ({"lease_expires_at": NOW, "lease_owner": "other"}, 409, "lease_expired"),
        ({"lease_owner": "other", "attempt_count": 2}, 409, "lease_owner_mismatch"),
        ({"attempt_count": 2}, 409, "workflow_task_attempt_mismatch"),
    ],
)
def test_guards_in_their_order(changes: dict[str, Any], status: int, reason: str) -> None:
    said = refused(replace(TASK, **changes))
    assert (said.status, said.reason, said.fields["task_id"]) == (status, reason, "t1")


def test_an_unknown_task_is_not_found() -> None:
    assert (refused(None).status, refused(None).reason) == (404, "task_not_found")


def test_completion_closes_run_and_task_with_one_event() -> None:
    decision = complete(TASK, [{"type": "complete_workflow", "result": {"codec": "avro", "blob": "x"}}])
    assert (decision.task_status, decision.run_status, decision.closed_reason) == ("completed",) * 3
    assert [(event.event_type, event.sequence) for event in decision.events] == [("WorkflowCompleted", 3)]
    assert orjson.loads(decision.events[0].payload) == {
        "output": {"codec": "avro", "blob": "x"},
        "payload_codec": "avro",
    }
    assert decision.answer["run_status"] == "completed"


def test_a_bare_result_is_in_the_runs_codec() -> None:
    assert complete(TASK, [{"type": "complete_workflow", "result": "x"}]).output == {
        "codec": "avro",
        "blob": "x",
    }


def test_two_terminal_commands_are_refused() -> None:
    done = {"type": "complete_workflow"}
    with pytest.raises(Refused) as raised:
        complete(TASK, [done, done])
    assert (raised.value.status, raised.value.reason, raised.value.fields["recorded"]) == (
        409,
        "invalid_commands",
        False,
    )


@given(st.integers(1, 10_000))
def test_a_retry_counts_on_and_waits_longer_but_never_over_a_minute(attempt: int) -> None:
    task = replace(TASK, attempt_count=attempt)
    (again,) = engine.fail(task, {"message": "boom"}).new_tasks
    (later,) = engine.fail(replace(task, attempt_count=attempt + 1), {"message": "boom"}).new_tasks
    assert again.attempt_count == attempt
    assert 0 < again.delay <= later.delay <= 60


@pytest.mark.parametrize("text", ["NonDeterminism", "nondeterminism", "replay mismatch", "non-deterministic command"])
def test_a_replay_error_waits_for_repair(text: str) -> None:
    decision = engine.fail(TASK, {"message": text})
    assert (decision.task_status, list(decision.new_tasks), decision.answer["next_task_id"]) == ("failed", [], None)


def test_waiting_for_history_is_no_failure() -> None:
    decision = engine.fail(TASK, {"type": "WorkflowTaskWaitingForHistory", "message": "no new command"})
    assert (decision.task_status, decision.run_status, decision.task_error) == ("completed", "waiting", None)
    assert (len(decision.events), len(decision.new_tasks)) == (0, 0)


def test_a_start_writes_two_events_and_one_task() -> None:
    ask = Start("default", "wf", "t", "q", "avro", "blob", None, {"k": 1}, 3600, None)
    events, task = engine.start(ask, "r1")
    assert [(e.sequence, e.event_type) for e in events] == [(1, "StartAccepted"), (2, "WorkflowStarted")]
    payload = orjson.loads(events[1].payload)
    assert (payload["workflow_run_id"], payload["memo"]) == ("r1", {"k": 1})
    assert (task.queue, task.target_type, task.attempt_count) == ("q", "t", 0)


def test_activities_are_numbered_as_steps_of_their_run() -> None:
    task = replace(TASK, last_step=4)
    commands = [{"type": "schedule_activity", "activity_type": kind, "queue": kind} for kind in ("a", "b")]
    decision = complete(task, [*commands, {"type": "complete_workflow"}])
    assert [(event.sequence, event.event_type) for event in decision.events] == [
        (3, "ActivityScheduled"), (4, "ActivityScheduled"), (5, "WorkflowCompleted"),
    ]  # fmt: skip
    assert [activity.sequence for activity in decision.activities] == [5, 6]
    assert [orjson.loads(event.payload)["sequence"] for event in decision.events[:2]] == [5, 6]
    assert [(new.task_type, new.queue, new.target_type) for new in decision.new_tasks] == [
        ("activity", "a", "a"), ("activity", "b", "b"),
    ]  # fmt: skip
    assert decision.answer["created_task_ids"] == [new.id for new in decision.new_tasks]


@pytest.mark.parametrize(("resume", "more"), [(2, 0), (3, 1)])
def test_what_came_after_the_claim_makes_the_next_task(resume: int, more: int) -> None:
    task = replace(TASK, resume_sequence=resume)
    scheduled = complete(task, [{"type": "schedule_activity", "activity_type": "a"}])
    assert [new.task_type for new in scheduled.new_tasks] == ["activity", *["workflow"] * more]
    assert scheduled.run_status == "waiting"
    waiting = engine.fail(task, {"type": "WorkflowTaskWaitingForHistory", "message": "no new command"})
    assert len(waiting.new_tasks) == more
