"""What a workflow task's commands write: one pure function per command, found by its name in `COMMANDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import orjson

from dw_refserver.engine import (
    TIMEOUTS,
    Claim,
    Continued,
    Decision,
    NewActivity,
    NewTask,
    Pen,
    Refused,
    Task,
    iso,
    missed,
    refused,
)
from dw_refserver.ulid import new_ulid
from dw_refserver.waiting import GROUP, NOTHING, Waiting, told_of

Command = Mapping[str, Any]

_WAIT = ("condition_key", "condition_definition_fingerprint", "timeout_seconds")


@dataclass
class Batch:
    """What the commands of one completion have written so far."""

    task: Task
    pen: Pen
    step: int
    waiting: Waiting
    new_tasks: list[NewTask] = field(default_factory=list)
    activities: list[NewActivity] = field(default_factory=list)
    timer_over: str | None = None
    closed: Mapping[str, Any] | None = None

    def next_step(self) -> int:
        """The ordinal of a step that a command takes."""
        self.step += 1
        return self.step


def complete(task: Task, commands: Sequence[Command]) -> Decision:
    """Decide what a workflow task's commands write. Their form has been checked; their order has not."""
    if task.timed_out:
        raise _rejected(task, "run_timed_out", "The run has passed its deadline.")
    if any(command["type"] in CLOSING for command in commands[:-1]):
        raise _invalid(task, "A terminal command must be the only one of its kind, and the last.")
    batch = Batch(task, Pen(task.last_history_sequence, task.id), task.last_step, task.waiting)
    _apply_signals(batch, commands)
    for command in commands:
        if not _known_member(batch, command):
            COMMANDS[command["type"]](batch, command)
    if not batch.closed:
        batch.new_tasks += missed(task, batch.waiting)
    return _decided(batch)


def _invalid(task: Task, text: str) -> Refused:
    return _rejected(task, "invalid_commands", text)


def _rejected(task: Task, reason: str, text: str) -> Refused:
    claim = Claim(task.id, task.lease_owner or "", task.attempt_count)
    return refused(claim, 409, reason, text, outcome="rejected", recorded=False, run_id=task.run_id,
                   run_status=task.run_status)  # fmt: skip


def _decided(batch: Batch) -> Decision:
    closed = batch.closed or {"run_status": "waiting"}
    continued: Continued | None = closed.get("continued")
    created = [*batch.new_tasks, *([continued.new_task] if continued else [])]
    answer = {"outcome": "completed", "recorded": True, "run_id": batch.task.run_id,
              "run_status": closed["run_status"], "created_task_ids": [new.id for new in created],
              "reason": None}  # fmt: skip
    return Decision(
        "completed", last_step=batch.step, waiting=NOTHING if batch.closed else batch.waiting,
        events=batch.pen.events, new_tasks=batch.new_tasks, activities=batch.activities,
        timer_over=batch.timer_over, answer=answer, **closed,
    )  # fmt: skip


def _apply_signals(batch: Batch, commands: Sequence[Command]) -> None:
    """The signals that the task has shown are applied, and the open wait ends unless it is the same still."""
    seen = [signal for signal in batch.waiting.signals if signal.sequence <= batch.task.seen_sequence]
    batch.waiting = batch.waiting.without(batch.task.seen_sequence)
    for signal in seen:
        batch.pen.write("SignalApplied", {"signal_id": signal.id, "signal_name": signal.name})
    wait = batch.waiting.condition
    if wait is None:
        return
    if not any(_asks_again(wait, command) for command in commands) or (seen and not batch.waiting.signals):
        _satisfy(batch, wait)
    elif any(signal.sequence > wait["event_sequence"] for signal in seen):
        _drop(batch, wait)


def _asks_again(wait: Mapping[str, Any], command: Command) -> bool:
    return command["type"] == "open_condition_wait" and all(command.get(name) == wait[name] for name in _WAIT)


def _satisfy(batch: Batch, wait: Mapping[str, Any]) -> None:
    """The wait is over, and its timer no longer waited for. Asked for once more, it is another wait."""
    batch.pen.write("ConditionWaitSatisfied", told_of(wait))
    _drop(batch, wait)
    if wait["timer_id"]:
        batch.pen.write("TimerCancelled", {
            "timer_id": wait["timer_id"], "sequence": wait["sequence"], "timer_kind": "condition_timeout",
            "condition_wait_id": wait["condition_wait_id"], "delay_seconds": wait["timeout_seconds"],
        })  # fmt: skip


def _drop(batch: Batch, wait: Mapping[str, Any]) -> None:
    """The wait makes room for the next one, without an event: replay takes a signal that came meanwhile, unseen, for
    the old wait's if anything but the next wait follows it, and for the next one's only so."""
    batch.waiting = replace(batch.waiting, condition=None)
    batch.timer_over = wait["timer_id"]


def _known_member(batch: Batch, command: Command) -> bool:
    """Whether it is a group's member that has been scheduled before: replay gives an open group again as a whole."""
    if command.get("parallel_group_id") is None:
        return False
    ordinal = command["parallel_group_base_sequence"] + command["parallel_group_index"]
    if ordinal <= batch.task.last_step:
        return True
    if ordinal != batch.step + 1:
        text = f"A member of group [{command['parallel_group_id']}] would be step {batch.step + 1}, not {ordinal}."
        raise _invalid(batch.task, text)
    return False


def _parallel(batch: Batch, command: Command) -> dict[str, Any]:
    """What a new member's events say about its groups; nothing for a step that stands alone."""
    if command.get("parallel_group_id") is None:
        return {}
    told = {name: command[name] for name in GROUP}
    batch.waiting = batch.waiting.joined(told)
    return told


def _schedule_activity(batch: Batch, command: Command) -> None:
    """An execution, its event, its first task."""
    given, task = command.get("retry_policy") or {}, batch.task
    policy = {"snapshot_version": 1, "max_attempts": given.get("max_attempts") or 1,
              "backoff_seconds": given.get("backoff_seconds") or [], **{name: command.get(name) for name in TIMEOUTS},
              "non_retryable_error_types": given.get("non_retryable_error_types") or []}  # fmt: skip
    kind, queue, execution = command["activity_type"], command.get("queue") or task.run_queue, new_ulid()
    codec, blob = _payload(task, command.get("arguments"))
    to_start, to_close = command.get("schedule_to_start_timeout"), command.get("schedule_to_close_timeout")
    first = min((seconds for seconds in (to_start, to_close) if seconds), default=None)
    step, text, parallel = batch.next_step(), orjson.dumps(policy).decode(), _parallel(batch, command)
    group = orjson.dumps(parallel).decode() if parallel else None
    batch.activities.append(NewActivity(execution, step, kind, codec, blob, text, to_start, to_close, first, group))
    batch.pen.write("ActivityScheduled", {
        "activity_execution_id": execution, "activity_type": kind, "sequence": step, "retry_policy": policy,
        "queue": queue, **parallel,
    })  # fmt: skip
    batch.new_tasks.append(
        NewTask(new_ulid(), queue, kind, task.compatibility, task_type="activity", activity_execution_id=execution)
    )


def _payload(task: Task, given: Any) -> tuple[str, str | None]:
    """Codec and blob; a bare blob is in the run's own codec."""
    return (given["codec"], given["blob"]) if isinstance(given, dict) else (task.payload_codec, given)


def _start_timer(batch: Batch, command: Command) -> None:
    step = batch.next_step()
    _timer(batch, new_ulid(), step, command["delay_seconds"], _parallel(batch, command))


def _timer(batch: Batch, timer: str, step: int, delay: int, more: Mapping[str, Any]) -> None:
    """A timer is a task of its own kind, due when it fires; its id is the task's."""
    told = {"timer_id": timer, "sequence": step, "delay_seconds": delay,
            "fire_at": iso(batch.task.now + timedelta(seconds=delay)), **more}  # fmt: skip
    batch.pen.write("TimerScheduled", told)
    batch.new_tasks.append(
        NewTask(timer, batch.task.run_queue, "timer", batch.task.compatibility, delay, task_type="timer",
                payload=orjson.dumps(told).decode())
    )  # fmt: skip


def _open_condition_wait(batch: Batch, command: Command) -> None:
    """A wait for a condition that only the workflow can judge. One that is open already stays as it is."""
    if batch.waiting.condition:
        if _asks_again(batch.waiting.condition, command):
            return
        raise _invalid(batch.task, "A run waits for one condition at a time.")
    seconds, wait_id = command.get("timeout_seconds"), new_ulid()
    timer = None if seconds is None else new_ulid()
    wait = {"condition_wait_id": wait_id, "sequence": batch.next_step(), "timer_id": timer}
    wait |= {name: command.get(name) for name in _WAIT}
    batch.pen.write("ConditionWaitOpened", wait)
    opened = batch.pen.last
    if timer:
        kind = {"timer_kind": "condition_timeout", "condition_wait_id": wait_id}
        _timer(batch, timer, batch.step, seconds or 0, kind)
    batch.waiting = replace(batch.waiting, condition={**wait, "event_sequence": opened})


def _record_side_effect(batch: Batch, command: Command) -> None:
    codec, blob = _payload(batch.task, command.get("result"))
    batch.pen.write("SideEffectRecorded", {"sequence": batch.next_step(), "result": blob, "payload_codec": codec})


def _record_version_marker(batch: Batch, command: Command) -> None:
    told = {name: command[name] for name in ("change_id", "version", "min_supported", "max_supported")}
    batch.pen.write("VersionMarkerRecorded", {"sequence": batch.next_step(), **told})


def _complete_workflow(batch: Batch, command: Command) -> None:
    output = command.get("result")
    if isinstance(output, str):
        output = {"codec": batch.task.payload_codec, "blob": output}
    batch.pen.write("WorkflowCompleted", {"output": output, "payload_codec": batch.task.payload_codec})
    batch.closed = {"run_status": "completed", "closed_reason": "completed", "output": output}


def _fail_workflow(batch: Batch, command: Command) -> None:
    payload = {name: command.get(name) for name in ("message", "exception_type", "exception_class", "exception")}
    payload |= {"non_retryable": bool(command.get("non_retryable")), "failure_category": "application"}
    batch.pen.write("WorkflowFailed", {"failure_id": new_ulid(), **payload})
    batch.closed = {"run_status": "failed", "closed_reason": "failed"}


def _continue_as_new(batch: Batch, command: Command) -> None:
    """The run ends and another of the same workflow begins; a signal that no task has shown must not end with it."""
    if batch.waiting.signals:
        raise _invalid(batch.task, "The run has a signal that this task has not shown; ask for the task again.")
    task, run, number = batch.task, new_ulid(), batch.task.run_number + 1
    kind, queue = command.get("workflow_type") or task.workflow_type, command.get("queue") or task.run_queue
    batch.pen.write("WorkflowContinuedAsNew", {
        "sequence": batch.step + 1, "continued_to_run_id": run, "continued_to_run_number": number,
        "closed_reason": "continued",
    })  # fmt: skip
    pen = Pen(0)
    pen.write("WorkflowStarted", {
        "workflow_run_id": run, "workflow_type": kind, "continued_from_run_id": task.run_id, "run_number": number,
    })  # fmt: skip
    first = NewTask(new_ulid(), queue, kind, task.compatibility)
    _, blob = _payload(task, command.get("arguments"))
    continued = Continued(run, kind, queue, blob, pen.events, first)
    batch.closed = {"run_status": "completed", "closed_reason": "continued", "continued": continued}


CLOSING = ("complete_workflow", "fail_workflow", "continue_as_new")
"""The commands that end a run: at most one, and the last."""
COMMANDS: Mapping[str, Callable[[Batch, Command], None]] = {
    "complete_workflow": _complete_workflow,
    "fail_workflow": _fail_workflow,
    "continue_as_new": _continue_as_new,
    "schedule_activity": _schedule_activity,
    "start_timer": _start_timer,
    "open_condition_wait": _open_condition_wait,
    "record_side_effect": _record_side_effect,
    "record_version_marker": _record_version_marker,
}
"""The workflow-task commands that this server takes, each with what it writes."""
