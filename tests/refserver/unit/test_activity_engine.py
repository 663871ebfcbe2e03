"""What is decided about activities: guards, retries, deadlines, and the workflow task that follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from dw_refserver import activity_engine as engine
from dw_refserver.activity_engine import Activity, Attempt, Claim, Deadlines, Outcome
from dw_refserver.engine import Refused
from dw_refserver.waiting import NOTHING, Waiting
from hypothesis import given
from hypothesis import strategies as st

from refserver.unit.test_forms import member

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAST, AHEAD = NOW - timedelta(seconds=1), NOW + timedelta(seconds=9)
POLICY = {
    "max_attempts": 3, "backoff_seconds": [1, 5], "non_retryable_error_types": ["Fatal"], "heartbeat_timeout": 4,
    "start_to_close_timeout": 60, "schedule_to_start_timeout": 7, "schedule_to_close_timeout": None,
}  # fmt: skip
ACTIVITY = Activity(
    now=NOW, namespace="default", task_id="t1", task_status="leased", task_lease_expires_at=AHEAD, queue="q",
    compatibility=None, execution_id="e1", sequence=2, activity_type="a", status="running", attempt_count=1,
    current_attempt_id="a1", payload_codec="avro", arguments=None, retry_policy=POLICY, deadlines=Deadlines(),
    last_heartbeat_at=None, run_id="r1", workflow_id="wf", run_status="waiting", run_closed_reason=None,
    run_closed_at=None, run_queue="rq", workflow_type="wt", last_history_sequence=4, resume_sequence=0,
)  # fmt: skip
ATTEMPT, CLAIM = Attempt("a1", "t1", "w", "running"), Claim("t1", "a1", "w")


@pytest.mark.parametrize(
    ("activity", "attempt", "status", "reason"),
    [
        (None, None, 404, "task_not_found"),
        (ACTIVITY, None, 404, "attempt_not_found"),
        (ACTIVITY, replace(ATTEMPT, task_id="t2", lease_owner="x"), 409, "task_mismatch"),
        (ACTIVITY, replace(ATTEMPT, lease_owner="x"), 409, "lease_owner_mismatch"),
    ],
)
def test_guards_in_their_order(activity: Any, attempt: Any, status: int, reason: str) -> None:
    with pytest.raises(Refused) as raised:
        engine.guard(activity, attempt, CLAIM)
    assert (raised.value.status, raised.value.reason, raised.value.fields["task_id"]) == (status, reason, "t1")


@pytest.mark.parametrize(
    ("changes", "reason", "outcome"),
    [
        ({"task_status": "completed"}, "stale_attempt", "completed"),
        ({"current_attempt_id": "a2"}, "stale_attempt", "completed"),
        ({"run_status": "cancelled"}, "run_cancelled", "ignored"),
        ({"run_status": "terminated", "task_status": "cancelled"}, "run_terminated", "ignored"),
    ],
)
def test_what_comes_too_late(changes: dict[str, Any], reason: str, outcome: str) -> None:
    late = replace(ACTIVITY, **changes)
    with pytest.raises(Refused) as raised:
        engine.current(late, ATTEMPT, CLAIM, "completed")
    said = raised.value
    assert (said.status, said.reason, said.fields["outcome"], said.fields["recorded"]) == (409, reason, outcome, False)
    assert engine.heartbeat_reason(late, CLAIM) == reason


def test_who_holds_the_current_attempt_may_go_on() -> None:
    assert engine.guard(ACTIVITY, ATTEMPT, CLAIM) == (ACTIVITY, ATTEMPT)
    engine.current(ACTIVITY, ATTEMPT, CLAIM, "completed")
    assert engine.heartbeat_reason(ACTIVITY, CLAIM) is None


def test_a_claim_sets_the_deadlines_of_its_attempt() -> None:
    pending = replace(ACTIVITY, status="pending", deadlines=Deadlines(AHEAD, AHEAD))
    claimed, event = engine.started(pending)
    expected = Deadlines(AHEAD, None, NOW + timedelta(seconds=4), NOW + timedelta(seconds=60))
    assert (claimed.deadlines, claimed.attempt_count, event.event_type) == (expected, 2, "ActivityStarted")
    assert orjson.loads(event.payload)["sequence"] == 2


@pytest.mark.parametrize("open_task", [True, False])
def test_a_completion_resumes_the_workflow_once(open_task: bool) -> None:
    done = engine.completed(replace(ACTIVITY, open_task=open_task), "blob")
    assert (done.resumes, len(done.new_tasks)) == (True, 0 if open_task else 1)
    assert [(event.event_type, event.sequence) for event in done.events] == [("ActivityCompleted", 5)]


@given(st.integers(1, 50), st.integers(1, 50), st.lists(st.integers(0, 99), max_size=4))
def test_it_is_retried_as_often_as_its_policy_says(attempt: int, most: int, pauses: list[int]) -> None:
    policy = {**POLICY, "max_attempts": most, "backoff_seconds": pauses}
    done = engine.failed(replace(ACTIVITY, attempt_count=attempt, retry_policy=policy), {"message": "m"})
    assert done.status == ("pending" if attempt < most else "failed")
    if attempt < most:
        (again,) = done.new_tasks
        assert (again.task_type, again.attempt_count) == ("activity", attempt)
        assert again.delay == (pauses[min(attempt - 1, len(pauses) - 1)] if pauses else 0)
        assert done.deadlines.schedule_to_start == NOW + timedelta(seconds=again.delay + 7)


@pytest.mark.parametrize("why", [{"type": "Fatal"}, {"class": "Fatal"}, {"non_retryable": True}, {"retryable": False}])
def test_some_failures_are_final_at_once(why: dict[str, Any]) -> None:
    assert engine.failed(ACTIVITY, {"message": "m", **why}).status == "failed"


def test_the_outcome_for_a_closed_run_is_kept_and_nothing_else() -> None:
    closed = replace(ACTIVITY, run_status="completed")
    for done in (engine.completed(closed, "blob"), engine.failed(closed, {"message": "m"})):
        assert (done.events, done.new_tasks, done.resumes) == ((), (), False)
        assert done.outcome


@pytest.mark.parametrize(
    ("deadlines", "kind"),
    [
        (Deadlines(PAST, PAST, PAST, PAST), "schedule_to_close"),
        (Deadlines(AHEAD, PAST, PAST, PAST), "schedule_to_start"),
        (Deadlines(None, None, PAST, PAST), "heartbeat"),
        (Deadlines(None, None, AHEAD, NOW), "start_to_close"),
    ],
)
def test_deadlines_in_their_precedence(deadlines: Deadlines, kind: str) -> None:
    done = engine.timed_out(replace(ACTIVITY, deadlines=deadlines))
    assert isinstance(done, Outcome)
    assert orjson.loads(done.events[0].payload)["timeout_kind"] == kind
    expected = "ActivityTimedOut" if kind == "schedule_to_close" else "ActivityRetryScheduled"
    assert done.events[0].event_type == expected


def test_an_attempt_that_never_began_counts_too() -> None:
    pending = replace(ACTIVITY, status="pending", attempt_count=2, deadlines=Deadlines(None, PAST))
    done = engine.timed_out(pending)
    assert isinstance(done, Outcome)
    assert (done.status, done.attempt_count) == ("failed", 3)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"status": "completed"}, "execution_already_terminal"),
        ({"run_status": "failed"}, "run_already_terminal"),
        ({"deadlines": Deadlines(AHEAD)}, "no_deadline_expired"),
    ],
)
def test_why_nothing_is_enforced(changes: dict[str, Any], word: str) -> None:
    assert engine.timed_out(replace(ACTIVITY, **({"deadlines": Deadlines(PAST)} | changes))) == word


def test_a_member_of_a_group_wakes_the_workflow_only_as_its_last_or_by_failing() -> None:
    group = member(2, 2, 0)
    first = replace(ACTIVITY, parallel=group, waiting=Waiting(groups={group["parallel_group_id"]: 2}))
    done = engine.completed(first, None)
    assert (done.new_tasks, done.resumes) == ([], False)
    assert orjson.loads(done.events[0].payload).items() >= group.items()
    last = engine.completed(replace(first, waiting=done.waiting or NOTHING), None)
    assert (len(last.new_tasks), last.resumes, last.waiting) == (1, True, NOTHING)
    failed = engine.failed(first, {"message": "m", "type": "Fatal"})
    assert (len(failed.new_tasks), failed.resumes) == (1, True)
