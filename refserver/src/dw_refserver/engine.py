"""What the protocol decides: pure functions from what is stored and what is asked to what must be written.

Nothing here waits, reads a clock or knows of a database. Times that must be kept are the database's own; where a
decision needs the present, it comes in with the state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from dw_refserver.ulid import new_ulid
from dw_refserver.waiting import NOTHING, Waiting, signal_context

BUCKETS: Mapping[str, Sequence[str]] = {
    "running": ("pending", "running", "waiting"),
    "completed": ("completed",),
    "failed": ("failed", "cancelled", "terminated"),
}
"""The statuses of a run, by what they count as."""
TERMINAL = (*BUCKETS["completed"], *BUCKETS["failed"])
TIMEOUTS = ("start_to_close_timeout", "schedule_to_start_timeout", "schedule_to_close_timeout", "heartbeat_timeout")
"""An activity's own, in seconds."""

_WAITING_FOR_HISTORY = "WorkflowTaskWaitingForHistory"
_REPLAY_FAILURE = re.compile(r"non.?determinis|replay.?(error|mismatch)", re.IGNORECASE)
_LONGEST_BACKOFF = 60.0


class Refused(Exception):  # noqa: N818 - an answer of the protocol, not a fault
    """The protocol's no: status, reason code, a sentence, and the fields that go with the reason."""

    def __init__(self, status: int, reason: str, text: str, **fields: Any) -> None:
        super().__init__(text)
        self.status, self.reason, self.text, self.fields = status, reason, text, fields


@dataclass(frozen=True)
class Event:
    """A history event to append. `payload` is JSON text: it is stored and given back as it is."""

    id: str
    sequence: int
    event_type: str
    payload: str
    workflow_task_id: str | None = None
    workflow_command_id: str | None = None


@dataclass(frozen=True)
class NewTask:
    """A task to create. `delay` is in seconds from the write; `attempt_count` the claims counted so far."""

    id: str
    queue: str
    target_type: str
    compatibility: str | None = None
    delay: float = 0.0
    attempt_count: int = 0
    task_type: str = "workflow"
    payload: str | None = None
    activity_execution_id: str | None = None


@dataclass(frozen=True)
class NewActivity:
    """An execution to create. `arguments` is a blob, `retry_policy` JSON text; the rest are seconds from the write."""

    id: str
    sequence: int
    activity_type: str
    payload_codec: str
    arguments: str | None
    retry_policy: str
    start_within: int | None
    close_within: int | None
    deadline_within: int | None
    parallel: str | None = None
    """JSON text: which members of which parallel groups it is."""


@dataclass(frozen=True)
class Task:
    """A stored task with its run, and the database's clock when they were read."""

    now: datetime
    id: str
    namespace: str
    status: str
    lease_owner: str | None
    lease_expires_at: datetime | None
    attempt_count: int
    queue: str
    run_id: str
    run_status: str
    run_closed_reason: str | None
    run_closed_at: datetime | None
    workflow_type: str
    payload_codec: str
    compatibility: str | None
    last_history_sequence: int
    seen_sequence: int
    last_step: int
    resume_sequence: int
    run_queue: str
    run_number: int = 1
    waiting: Waiting = NOTHING
    timed_out: bool = False
    """Whether a deadline of the run has passed, though it is still open."""


@dataclass(frozen=True)
class Continued:
    """The run that goes on where another has ended. Without arguments it inherits them, as a blob."""

    id: str
    workflow_type: str
    queue: str
    arguments: str | None
    events: Sequence[Event]
    new_task: NewTask


@dataclass(frozen=True)
class Claim:
    """Who speaks about a task: the owner and attempt that a worker names."""

    task_id: str
    lease_owner: str
    attempt: int


@dataclass(frozen=True)
class Decision:
    """What closing a task writes, in one transaction, and what the answer says about it."""

    task_status: str
    run_status: str
    last_step: int
    waiting: Waiting
    closed_reason: str | None = None
    output: Mapping[str, str] | None = None
    task_error: str | None = None
    events: Sequence[Event] = ()
    new_tasks: Sequence[NewTask] = ()
    activities: Sequence[NewActivity] = ()
    timer_over: str | None = None
    """The id of a timer's task that is no longer waited for."""
    continued: Continued | None = None
    answer: Mapping[str, Any] = field(default_factory=dict)


def iso(moment: datetime | None) -> str | None:
    """ISO-8601 in UTC with microseconds and Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else None


def bucket_of(status: str) -> str:
    """Which of running, completed, failed a run's status counts as."""
    return next((bucket for bucket, statuses in BUCKETS.items() if status in statuses), "running")


def guard(task: Task | None, claim: Claim) -> Task:
    """Refuse a claim that doesn't hold its task, in the protocol's order; give back the task if it does."""
    if task is None:
        raise refused(claim, 404, "task_not_found", "Workflow task not found.")
    lease = {"task_status": task.status, "lease_owner": task.lease_owner, "lease_expires_at": task.lease_expires_at}
    if task.status != "leased" and task.run_status in TERMINAL:
        raise refused(claim, 409, "run_closed", "Workflow run is already closed.", **_closed(task), **lease)
    if task.status != "leased":
        raise refused(claim, 409, "task_not_leased", "Workflow task is not currently leased.")
    if task.lease_expires_at is None or task.lease_expires_at <= task.now:
        raise refused(claim, 409, "lease_expired", "Workflow task lease has expired.", **lease)
    if task.lease_owner != claim.lease_owner:
        text = "Workflow task lease is owned by another worker."
        raise refused(claim, 409, "lease_owner_mismatch", text, lease_owner=task.lease_owner)
    if task.attempt_count != claim.attempt:
        text = "Workflow task lease attempt does not match the current claim."
        raise refused(claim, 409, "workflow_task_attempt_mismatch", text, current_attempt=task.attempt_count)
    return task


def refused(claim: Claim, status: int, reason: str, text: str, **fields: Any) -> Refused:
    """A no that names the task and the attempt it is about."""
    return Refused(status, reason, text, task_id=claim.task_id, workflow_task_attempt=claim.attempt, **fields)


def _closed(task: Task) -> dict[str, Any]:
    return {
        "stop_reason": f"run_{task.run_closed_reason or task.run_status}",
        "cancel_requested": task.run_status in ("cancelled", "terminated"),
        "can_continue": False,
        "run_status": task.run_status,
        "run_closed_reason": task.run_closed_reason,
        "run_closed_at": task.run_closed_at,
    }


@dataclass
class Pen:
    """Writes a run's next events, each numbered after the one before."""

    last: int
    task_id: str | None = None
    command_id: str | None = None
    events: list[Event] = field(default_factory=list)

    def write(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Append one event."""
        self.last += 1
        text = orjson.dumps(payload).decode()
        self.events.append(Event(new_ulid(), self.last, kind, text, self.task_id, self.command_id))


def next_task(run: Any, context: Mapping[str, Any] | None = None) -> NewTask:
    """A run's next workflow task, with what it resumes from; `run` is whatever knows queue, type and build of it."""
    payload = orjson.dumps(context).decode() if context else None
    return NewTask(new_ulid(), run.run_queue, run.workflow_type, run.compatibility, payload=payload)


def missed(task: Task, waiting: Waiting) -> list[NewTask]:
    """The next workflow task, if the one that is closed was claimed before the last event that a task must see."""
    if task.resume_sequence <= task.seen_sequence:
        return []
    return [next_task(task, next(map(signal_context, waiting.signals), None))]


def fail(task: Task, failure: Mapping[str, Any]) -> Decision:
    """Decide what a worker's report means: nothing to do yet, a replay error that waits for repair, or a retry."""
    if failure.get("type") == _WAITING_FOR_HISTORY:
        again = missed(task, task.waiting.without(task.seen_sequence))
        told = {"outcome": "waiting_for_history", "next_task_id": again[0].id if again else None}
        return Decision("completed", "waiting", task.last_step, task.waiting, new_tasks=again,
                        answer=told | {"recorded": True, "reason": None})  # fmt: skip
    error = failure["message"].replace("\0", "\ufffd")  # PostgreSQL's text holds no NUL; a report must not fail on it
    blocked = _REPLAY_FAILURE.search(f"{failure.get('type') or ''} {error}")
    again = [] if blocked else [_again(task)]
    answer = {"outcome": "failed", "recorded": True, "reason": None, "next_task_id": again[0].id if again else None}
    return Decision("failed", task.run_status, task.last_step, task.waiting, task_error=error, new_tasks=again,
                    answer=answer)  # fmt: skip


def _again(task: Task) -> NewTask:
    """The same work, due later each time: a quarter of a second, doubled per attempt, a minute at most."""
    delay = min(0.25 * 2 ** min(task.attempt_count - 1, 10), _LONGEST_BACKOFF)
    return NewTask(new_ulid(), task.queue, task.workflow_type, task.compatibility, delay, task.attempt_count)


@dataclass(frozen=True)
class Start:
    """A checked request to start a workflow; the payload is as the client sent it."""

    namespace: str
    workflow_id: str
    workflow_type: str
    queue: str
    payload_codec: str
    arguments: str
    business_key: str | None
    memo: Any
    execution_timeout_seconds: int | None
    run_timeout_seconds: int | None


def start(ask: Start, run_id: str) -> tuple[Sequence[Event], NewTask]:
    """Decide a new run's first events and its first task."""
    command_id = new_ulid()
    both = {"workflow_command_id": command_id, "workflow_instance_id": ask.workflow_id, "workflow_run_id": run_id,
            "workflow_type": ask.workflow_type, "business_key": ask.business_key, "memo": ask.memo}  # fmt: skip
    timeouts = {"execution_timeout_seconds": ask.execution_timeout_seconds,
                "run_timeout_seconds": ask.run_timeout_seconds}  # fmt: skip
    pen = Pen(0, command_id=command_id)
    pen.write("StartAccepted", both | {"outcome": "started_new"})
    pen.write("WorkflowStarted", both | timeouts)
    return pen.events, NewTask(new_ulid(), ask.queue, ask.workflow_type)
