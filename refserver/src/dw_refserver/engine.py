"""What the protocol decides: pure functions from what is stored and what is asked to what must be written.

Nothing here waits, reads a clock or knows of a database. Times that must be kept are the database's own; where a
decision needs the present, it comes in with the state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson

from dw_refserver.ulid import new_ulid

BUCKETS: Mapping[str, Sequence[str]] = {
    "running": ("pending", "running", "waiting"),
    "completed": ("completed",),
    "failed": ("failed", "cancelled", "terminated"),
}
"""The statuses of a run, by what they count as."""
TERMINAL = (*BUCKETS["completed"], *BUCKETS["failed"])
CLOSING = ("complete_workflow", "fail_workflow")
"""The commands that end a run: at most one, and the last."""
COMMANDS = (*CLOSING, "schedule_activity")
"""The workflow-task commands that this server takes."""
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
    closed_reason: str | None = None
    output: Mapping[str, str] | None = None
    task_error: str | None = None
    events: Sequence[Event] = ()
    new_tasks: Sequence[NewTask] = ()
    activities: Sequence[NewActivity] = ()
    answer: Mapping[str, Any] = field(default_factory=dict)


def bucket_of(status: str) -> str:
    """Which of running, completed, failed a run's status counts as."""
    return next((bucket for bucket, statuses in BUCKETS.items() if status in statuses), "running")


def guard(task: Task | None, claim: Claim) -> Task:
    """Refuse a claim that doesn't hold its task, in the protocol's order; give back the task if it does."""
    if task is None:
        raise _refused(claim, 404, "task_not_found", "Workflow task not found.")
    lease = {"task_status": task.status, "lease_owner": task.lease_owner, "lease_expires_at": task.lease_expires_at}
    if task.status != "leased" and task.run_status in TERMINAL:
        raise _refused(claim, 409, "run_closed", "Workflow run is already closed.", **_closed(task), **lease)
    if task.status != "leased":
        raise _refused(claim, 409, "task_not_leased", "Workflow task is not currently leased.")
    if task.lease_expires_at is None or task.lease_expires_at <= task.now:
        raise _refused(claim, 409, "lease_expired", "Workflow task lease has expired.", **lease)
    if task.lease_owner != claim.lease_owner:
        text = "Workflow task lease is owned by another worker."
        raise _refused(claim, 409, "lease_owner_mismatch", text, lease_owner=task.lease_owner)
    if task.attempt_count != claim.attempt:
        text = "Workflow task lease attempt does not match the current claim."
        raise _refused(claim, 409, "workflow_task_attempt_mismatch", text, current_attempt=task.attempt_count)
    return task


def _refused(claim: Claim, status: int, reason: str, text: str, **fields: Any) -> Refused:
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


def complete(task: Task, commands: Sequence[Mapping[str, Any]]) -> Decision:
    """Decide what a workflow task's commands write. Their form has been checked; their order has not."""
    if any(command["type"] in CLOSING for command in commands[:-1]):
        text = "A terminal command must be the only one of its kind, and the last."
        raise _refused(
            Claim(task.id, task.lease_owner or "", task.attempt_count), 409, "invalid_commands", text,
            outcome="rejected", recorded=False, run_id=task.run_id, run_status=task.run_status,
        )  # fmt: skip
    decision = _decided(task, commands)
    answer = {"outcome": "completed", "recorded": True, "run_id": task.run_id, "run_status": decision.run_status,
              "created_task_ids": [new.id for new in decision.new_tasks], "reason": None}  # fmt: skip
    return replace(decision, answer=answer)


def _decided(task: Task, commands: Sequence[Mapping[str, Any]]) -> Decision:
    """Schedule what is to be scheduled; then close the run or let it wait."""
    closing = commands[-1] if commands[-1]["type"] in CLOSING else None
    parts = [_scheduled(task, command, step) for step, command in enumerate(commands[: -1 if closing else None], 1)]
    new_tasks = [new for _, _, new in parts]
    after = replace(task, last_history_sequence=task.last_history_sequence + len(parts))
    if closing is None:
        decision = Decision("completed", "waiting", new_tasks=[*new_tasks, *_missed(task)])
    else:
        close = _completed if closing["type"] == "complete_workflow" else _failed
        decision = replace(close(after, closing), new_tasks=new_tasks)
    events = [*(event for _, event, _ in parts), *decision.events]
    return replace(decision, activities=[activity for activity, _, _ in parts], events=events)


def _scheduled(task: Task, command: Mapping[str, Any], nth: int) -> tuple[NewActivity, Event, NewTask]:
    """An activity as the `nth` new step: its execution, its event, its first task."""
    given = command.get("retry_policy") or {}
    policy = {"snapshot_version": 1, "max_attempts": given.get("max_attempts") or 1,
              "backoff_seconds": given.get("backoff_seconds") or [], **{name: command.get(name) for name in TIMEOUTS},
              "non_retryable_error_types": given.get("non_retryable_error_types") or []}  # fmt: skip
    kind, queue, execution = command["activity_type"], command.get("queue") or task.run_queue, new_ulid()
    arguments = command.get("arguments")
    codec, blob = (arguments["codec"], arguments["blob"]) if isinstance(arguments, dict) else (
        task.payload_codec, arguments)  # fmt: skip
    to_start, to_close = command.get("schedule_to_start_timeout"), command.get("schedule_to_close_timeout")
    first = min((seconds for seconds in (to_start, to_close) if seconds), default=None)
    step, text = task.last_step + nth, orjson.dumps(policy).decode()
    activity = NewActivity(execution, step, kind, codec, blob, text, to_start, to_close, first)
    told = {"activity_execution_id": execution, "activity_type": kind, "sequence": step, "retry_policy": policy,
            "queue": queue}  # fmt: skip
    at = replace(task, last_history_sequence=task.last_history_sequence + nth - 1)
    new = NewTask(new_ulid(), queue, kind, task.compatibility, task_type="activity", activity_execution_id=execution)
    return activity, _event(at, "ActivityScheduled", told), new


def _missed(task: Task) -> list[NewTask]:
    """The next workflow task, if the one that is closed was claimed before the last event that a task must see."""
    if task.resume_sequence <= task.seen_sequence:
        return []
    return [NewTask(new_ulid(), task.run_queue, task.workflow_type, task.compatibility)]


def _completed(task: Task, command: Mapping[str, Any]) -> Decision:
    output = command.get("result")
    if isinstance(output, str):  # a bare blob is in the run's own codec
        output = {"codec": task.payload_codec, "blob": output}
    event = _event(task, "WorkflowCompleted", {"output": output, "payload_codec": task.payload_codec})
    return Decision("completed", "completed", closed_reason="completed", output=output, events=[event])


def _failed(task: Task, command: Mapping[str, Any]) -> Decision:
    payload = {name: command.get(name) for name in ("message", "exception_type", "exception_class", "exception")}
    payload |= {"non_retryable": bool(command.get("non_retryable")), "failure_category": "application"}
    event = _event(task, "WorkflowFailed", {"failure_id": new_ulid(), **payload})
    return Decision("completed", "failed", closed_reason="failed", events=[event])


def _event(task: Task, kind: str, payload: Mapping[str, Any]) -> Event:
    return Event(new_ulid(), task.last_history_sequence + 1, kind, orjson.dumps(payload).decode(), task.id)


def fail(task: Task, failure: Mapping[str, Any]) -> Decision:
    """Decide what a worker's report means: nothing to do yet, a replay error that waits for repair, or a retry."""
    if failure.get("type") == _WAITING_FOR_HISTORY:
        missed = _missed(task)
        told = {"outcome": "waiting_for_history", "next_task_id": missed[0].id if missed else None}
        return Decision("completed", "waiting", new_tasks=missed, answer=told | {"recorded": True, "reason": None})
    error = failure["message"].replace("\0", "\ufffd")  # PostgreSQL's text holds no NUL; a report must not fail on it
    blocked = _REPLAY_FAILURE.search(f"{failure.get('type') or ''} {error}")
    again = [] if blocked else [_again(task)]
    answer = {"outcome": "failed", "recorded": True, "reason": None, "next_task_id": again[0].id if again else None}
    return Decision("failed", task.run_status, task_error=error, new_tasks=again, answer=answer)


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
    payloads = (("StartAccepted", both | {"outcome": "started_new"}), ("WorkflowStarted", both | timeouts))
    events = [
        Event(new_ulid(), sequence, kind, orjson.dumps(payload).decode(), None, command_id)
        for sequence, (kind, payload) in enumerate(payloads, 1)
    ]
    return events, NewTask(new_ulid(), ask.queue, ask.workflow_type)
