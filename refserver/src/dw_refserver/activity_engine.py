"""What the protocol decides about activities: pure functions, as in `engine`.

An execution is one step of a run; an attempt is one claim of its task. Deadlines are computed from the database's
clock, which comes in with the state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from dw_refserver.engine import TERMINAL, Event, NewTask, Refused, next_task
from dw_refserver.ulid import new_ulid
from dw_refserver.waiting import NOTHING, Waiting

_STOPPED = ("cancelled", "terminated")


@dataclass(frozen=True)
class Deadlines:
    """When what must have happened; empty if that is not limited, or not now."""

    schedule_to_close: datetime | None = None
    schedule_to_start: datetime | None = None
    heartbeat: datetime | None = None
    start_to_close: datetime | None = None

    @property
    def given(self) -> dict[str, datetime]:
        """Those that are set, in the order in which they are judged."""
        return {name: at for name, at in vars(self).items() if at is not None}


@dataclass(frozen=True)
class Attempt:
    """The attempt that a worker names, as it is stored."""

    id: str
    task_id: str
    lease_owner: str
    status: str


@dataclass(frozen=True)
class Activity:
    """An execution with its task and run, locked, and the database's clock when they were read.

    `open_task` says whether the run has an open workflow task.
    """

    now: datetime
    namespace: str
    task_id: str
    task_status: str
    task_lease_expires_at: datetime | None
    queue: str
    compatibility: str | None
    execution_id: str
    sequence: int
    activity_type: str
    status: str
    attempt_count: int
    current_attempt_id: str | None
    payload_codec: str
    arguments: str | None
    retry_policy: Mapping[str, Any]
    deadlines: Deadlines
    last_heartbeat_at: datetime | None
    run_id: str
    workflow_id: str
    run_status: str
    run_closed_reason: str | None
    run_closed_at: datetime | None
    run_queue: str
    workflow_type: str
    last_history_sequence: int
    resume_sequence: int
    parallel: Mapping[str, Any] | None = None
    waiting: Waiting = NOTHING
    open_task: bool = False

    @property
    def run_open(self) -> bool:
        """Whether anybody waits for the outcome."""
        return self.run_status not in TERMINAL

    def limit(self, kind: str) -> timedelta | None:
        """The policy's timeout of this kind."""
        seconds = self.retry_policy[f"{kind}_timeout"]
        return timedelta(seconds=seconds) if seconds else None

    def after(self, kind: str, delay: float = 0.0) -> datetime | None:
        """When a timeout of this kind passes that begins in `delay` seconds."""
        limit = self.limit(kind)
        return self.now + timedelta(seconds=delay) + limit if limit else None


@dataclass(frozen=True)
class Claim:
    """Who speaks about an activity task."""

    task_id: str
    attempt_id: str
    lease_owner: str


@dataclass(frozen=True)
class Outcome:
    """What the end of an attempt writes, in one transaction, and what the answer says about it."""

    status: str
    attempt_status: str
    task_status: str
    attempt_count: int
    deadlines: Deadlines = Deadlines()
    outcome: Any = None
    events: Sequence[Event] = ()
    new_tasks: Sequence[NewTask] = ()
    resumes: bool = False
    waiting: Waiting | None = None
    """What the run waits for now, if that has changed."""
    answer: Mapping[str, Any] | None = None


def started(activity: Activity) -> tuple[Activity, Event]:
    """A claimed activity with a new attempt, and the event that says so."""
    ours = Deadlines(activity.deadlines.schedule_to_close, None, activity.after("heartbeat"),
                     activity.after("start_to_close"))  # fmt: skip
    claimed = replace(activity, status="running", attempt_count=activity.attempt_count + 1,
                      current_attempt_id=new_ulid(), deadlines=ours)  # fmt: skip
    return claimed, _event(claimed, "ActivityStarted", {})


def _event(activity: Activity, kind: str, payload: Mapping[str, Any]) -> Event:
    about = {
        "activity_execution_id": activity.execution_id,
        "activity_attempt_id": activity.current_attempt_id,
        "activity_type": activity.activity_type,
        "sequence": activity.sequence,
        "attempt_number": activity.attempt_count,
        **(activity.parallel or {}),
    }
    text = orjson.dumps({**about, **payload}).decode()
    return Event(new_ulid(), activity.last_history_sequence + 1, kind, text, activity.task_id)


def guard(activity: Activity | None, attempt: Attempt | None, claim: Claim) -> tuple[Activity, Attempt]:
    """Refuse who names no attempt of this task or not their own, in the protocol's order."""
    if activity is None:
        raise _refused(claim, 404, "task_not_found", "Activity task not found.")
    if attempt is None:
        raise _refused(claim, 404, "attempt_not_found", "Activity attempt not found.")
    if attempt.task_id != claim.task_id:
        raise _refused(claim, 409, "task_mismatch", "Activity attempt belongs to another task.")
    if attempt.lease_owner != claim.lease_owner:
        text = "Activity attempt lease is owned by another worker."
        raise _refused(claim, 409, "lease_owner_mismatch", text, lease_owner=attempt.lease_owner)
    return activity, attempt


def _refused(claim: Claim, status: int, reason: str, text: str, **fields: Any) -> Refused:
    return Refused(status, reason, text, task_id=claim.task_id, activity_attempt_id=claim.attempt_id, **fields)


def current(activity: Activity, attempt: Attempt, claim: Claim, outcome: str) -> None:
    """Refuse an outcome that comes too late: the run was stopped, or the attempt is no longer the current one."""
    late = {"recorded": False, "next_task_id": None}
    if activity.run_status in _STOPPED:
        raise _refused(
            claim, 409, f"run_{activity.run_status}", "The workflow run was stopped.", outcome="ignored",
            recorded=False, cancel_requested=True, can_continue=False, run_status=activity.run_status,
            run_closed_reason=activity.run_closed_reason, run_closed_at=activity.run_closed_at,
            activity_status=activity.status, attempt_status=attempt.status, task_status="cancelled",
            lease_owner=attempt.lease_owner, lease_expires_at=None,
        )  # fmt: skip
    if activity.task_status != "leased" or activity.current_attempt_id != claim.attempt_id:
        text = "Another attempt, or none, is the current one."
        raise _refused(claim, 409, "stale_attempt", text, outcome=outcome, **late)


def heartbeat_reason(activity: Activity, claim: Claim) -> str | None:
    """Why the worker should stop; None if it holds the current attempt of an open run."""
    if not activity.run_open:
        return f"run_{activity.run_status}"
    holds = activity.task_status == "leased" and activity.current_attempt_id == claim.attempt_id
    return None if holds else "stale_attempt"


def completed(activity: Activity, result: Any) -> Outcome:
    """The attempt's result, and the workflow task that follows it."""
    codec, blob = (result["codec"], result["blob"]) if isinstance(result, dict) else (activity.payload_codec, result)
    told = {"result": blob, "payload_codec": codec}
    return _closed(activity, "completed", "ActivityCompleted", told)


def failed(activity: Activity, failure: Mapping[str, Any]) -> Outcome:
    """A worker's failure: another attempt if the policy has one left, else the activity's end."""
    told = _failure(failure)
    never = set(activity.retry_policy["non_retryable_error_types"])
    final = told["non_retryable"] or never & {told["exception_type"], told["exception_class"]}
    if activity.run_open and not final and activity.attempt_count < activity.retry_policy["max_attempts"]:
        return _again(activity, told, "failed")
    return _closed(activity, "failed", "ActivityFailed", told | {"failure_id": new_ulid()})


def _failure(failure: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a failure as events have them."""
    kept = ("class", "type", "message", "code", "stack_trace", "kind", "timeout_type", "details")
    return {
        "message": failure["message"],
        "exception_type": failure.get("type"),
        "exception_class": failure.get("class"),
        "code": failure.get("code"),
        "exception": {name: failure[name] for name in kept if failure.get(name) is not None},
        "non_retryable": bool(failure.get("non_retryable")) or failure.get("retryable") is False,
        "failure_category": "activity",
    }


def timed_out(activity: Activity) -> Outcome | str:
    """What the earliest passed deadline means; a word if there is nothing to enforce."""
    kind = next((name for name, at in activity.deadlines.given.items() if at <= activity.now), None)
    if activity.status not in ("pending", "running"):
        return "execution_already_terminal"
    if not activity.run_open:
        return "run_already_terminal"
    if kind is None:
        return "no_deadline_expired"
    tried = activity if activity.status == "running" else replace(activity, attempt_count=activity.attempt_count + 1)
    told = {"timeout_kind": kind, "message": f"Activity {activity.activity_type} passed its {kind} timeout.",
            "exception_type": "timeout", "exception_class": "ActivityTimeout", "failure_category": "timeout",
            "non_retryable": False, "failure_id": new_ulid()}  # fmt: skip
    if kind != "schedule_to_close" and tried.attempt_count < activity.retry_policy["max_attempts"]:
        return _again(tried, told, "expired")
    return _closed(tried, "failed", "ActivityTimedOut", told, attempt="expired")


def cancelled(activity: Activity) -> Outcome:
    """The quiet end of what belongs to a run that is closed."""
    return Outcome("cancelled", "cancelled", "cancelled", activity.attempt_count)


def _again(activity: Activity, told: Mapping[str, Any], attempt: str) -> Outcome:
    """The next attempt's task, after the policy's pause; the workflow is not woken."""
    pauses = activity.retry_policy["backoff_seconds"]
    delay = pauses[min(activity.attempt_count, len(pauses)) - 1] if pauses else 0
    task = NewTask(new_ulid(), activity.queue, activity.activity_type, activity.compatibility, delay,
                   activity.attempt_count, "activity", activity_execution_id=activity.execution_id)  # fmt: skip
    event = _event(activity, "ActivityRetryScheduled", {
        **told, "retry_task_id": task.id, "retry_of_task_id": activity.task_id,
        "retry_available_at": activity.now + timedelta(seconds=delay), "retry_backoff_seconds": delay,
        "retry_after_attempt_id": activity.current_attempt_id, "retry_after_attempt": activity.attempt_count,
        "max_attempts": activity.retry_policy["max_attempts"], "retry_policy": activity.retry_policy,
    })  # fmt: skip
    left = Deadlines(activity.deadlines.schedule_to_close, activity.after("schedule_to_start", delay))
    return Outcome("pending", attempt, "completed", activity.attempt_count, left, None, [event], [task],
                   answer=_recorded("failed", task))  # fmt: skip


def _closed(
    activity: Activity, status: str, kind: str, told: Mapping[str, Any], *, attempt: str | None = None
) -> Outcome:
    """The execution's end: recorded for the workflow, and it is woken, unless other members of a parallel group must
    be done before; if the run is closed, only kept."""
    outcome = Outcome(status, attempt or status, "completed", activity.attempt_count, outcome=told)
    if not activity.run_open:
        return replace(outcome, answer=_recorded(status, None))
    event = _event(activity, kind, told)
    waiting, all_done = activity.waiting.left(activity.parallel)
    resumes = all_done or status != "completed"
    task = _resume(activity, kind) if resumes and not activity.open_task else None
    return replace(outcome, events=[event], new_tasks=[task] if task else [], resumes=resumes, waiting=waiting,
                   answer=_recorded(status, task))  # fmt: skip


def _recorded(outcome: str, task: NewTask | None) -> dict[str, Any]:
    return {"outcome": outcome, "recorded": True, "reason": None, "next_task_id": task.id if task else None}


def _resume(activity: Activity, kind: str) -> NewTask:
    """The workflow task that an activity's end creates, with what it resumes from."""
    payload = {
        "workflow_wait_kind": "activity", "open_wait_id": f"activity:{activity.execution_id}",
        "resume_source_kind": "activity_execution", "resume_source_id": activity.execution_id,
        "activity_execution_id": activity.execution_id, "activity_attempt_id": activity.current_attempt_id,
        "activity_type": activity.activity_type, "workflow_sequence": activity.sequence, "workflow_event_type": kind,
    }  # fmt: skip
    return next_task(activity, payload)
