"""What happens to a run from outside its workflow tasks: signals, timers that fire, cancel, terminate.

Pure functions, as in `engine`: from the locked run to what is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dw_refserver.engine import TERMINAL, Event, NewTask, Pen, Refused, iso, next_task
from dw_refserver.ulid import new_ulid
from dw_refserver.waiting import NOTHING, Signal, Waiting, signal_context, told_of

MOST_SIGNALS = 10_000
"""How many signals may wait for a run that no worker takes on."""

_CLASSES = "Workflow\\V2\\Exceptions\\Workflow"


@dataclass(frozen=True)
class Run:
    """A run, locked, and the database's clock when it was read. `open_task` says whether it has a workflow task."""

    now: datetime
    id: str
    namespace: str
    workflow_id: str
    workflow_type: str
    run_queue: str
    compatibility: str | None
    status: str
    last_history_sequence: int
    resume_sequence: int
    last_command: int
    waiting: Waiting = NOTHING
    open_task: bool = False

    @property
    def open(self) -> bool:
        """Whether anything can still happen to it."""
        return self.status not in TERMINAL

    def after(self, change: Change) -> Run:
        """The run as it is when the change has been written."""
        last = self.last_history_sequence + len(change.events)
        return replace(
            self, status=change.status, waiting=change.waiting, last_history_sequence=last,
            resume_sequence=last if change.resumes else self.resume_sequence,
            open_task=self.open_task or bool(change.new_tasks),
        )  # fmt: skip


@dataclass(frozen=True)
class Left:
    """An activity or a timer that is open when its run is stopped, with what its events say about it."""

    kind: str
    told: Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """What is written, in one transaction. `command_id` names the command, if it came from one."""

    status: str
    waiting: Waiting
    events: Sequence[Event] = ()
    new_tasks: Sequence[NewTask] = ()
    resumes: bool = False
    closed_reason: str | None = None
    command_id: str | None = None


def signal(run: Run, name: str, arguments: str, codec: str) -> Change:
    """Receive a signal: in the order of arrival, and followed by a workflow task that shows it."""
    if len(run.waiting.signals) >= MOST_SIGNALS:
        text = f"{MOST_SIGNALS} signals wait already for a workflow task of this run."
        raise Refused(422, "structural_limit_exceeded", text, limit_kind="pending_signals",
                      current_value=len(run.waiting.signals), configured_limit=MOST_SIGNALS)  # fmt: skip
    command = new_ulid()
    received = Signal(new_ulid(), name, run.last_history_sequence + 1)
    pen = Pen(run.last_history_sequence, command_id=command)
    pen.write("SignalReceived", {
        "signal_id": received.id, "signal_name": name, "workflow_command_id": command,
        "arguments": {"codec": codec, "blob": arguments}, "payload_codec": codec,
    })  # fmt: skip
    waiting = replace(run.waiting, signals=(*run.waiting.signals, received))
    return replace(_woken(run, waiting, pen, signal_context(received)), command_id=command)


def _woken(run: Run, waiting: Waiting, pen: Pen, context: Mapping[str, Any]) -> Change:
    """The run has something to see: a workflow task now, or after the one that is open."""
    new = [] if run.open_task else [next_task(run, context)]
    return Change(run.status, waiting, pen.events, new, resumes=True)


def fire(run: Run, timer: Mapping[str, Any], task_id: str) -> Change | None:
    """A due timer fires; nothing comes of one whose run is closed."""
    if not run.open:
        return None
    pen = Pen(run.last_history_sequence, task_id)
    pen.write("TimerFired", {**timer, "fired_at": iso(run.now)})
    context = {"workflow_wait_kind": "timer", "open_wait_id": f"timer:{timer['timer_id']}",
               "resume_source_kind": "timer", "resume_source_id": timer["timer_id"], "timer_id": timer["timer_id"],
               "workflow_sequence": timer["sequence"], "workflow_event_type": "TimerFired"}  # fmt: skip
    if "condition_wait_id" in timer:
        return _timed_out(run, pen, context)
    waiting, all_done = run.waiting.left(timer if "parallel_group_id" in timer else None)
    return _woken(run, waiting, pen, context) if all_done else Change(run.status, waiting, pen.events)


def _timed_out(run: Run, pen: Pen, context: Mapping[str, Any]) -> Change:
    """The timer was a condition wait's: the wait is over."""
    wait = run.waiting.condition or {}
    pen.write("ConditionWaitTimedOut", told_of(wait))
    about = {name: wait[name] for name in ("condition_wait_id", "condition_key", "condition_definition_fingerprint")}
    told = {**context, **about, "workflow_wait_kind": "condition", "open_wait_id": f"condition:{wait['sequence']}",
            "workflow_event_type": "ConditionWaitTimedOut"}  # fmt: skip
    return _woken(run, replace(run.waiting, condition=None), pen, told)


@dataclass(frozen=True)
class Stop:
    """One of the two ways to stop a run from outside."""

    status: str
    requested: str
    event: str
    word: str


CANCEL = Stop("cancelled", "CancelRequested", "WorkflowCancelled", "Cancelled")
TERMINATE = Stop("terminated", "TerminateRequested", "WorkflowTerminated", "Terminated")


def stop(run: Run, how: Stop, reason: str | None, left: Sequence[Left]) -> Change:
    """End a run at once, with all that is open of it."""
    command = new_ulid()
    pen = Pen(run.last_history_sequence, command_id=command)
    pen.write(how.requested, {"workflow_command_id": command, "reason": reason})
    for each in left:
        pen.write(f"{each.kind}Cancelled", each.told)
    pen.write(how.event, {
        "workflow_command_id": command, "reason": reason, "failure_id": new_ulid(), "failure_category": how.status,
        "closed_reason": how.status, "exception_class": f"{_CLASSES}{how.word}Exception",
        "message": f"Workflow {how.status}" + (f": {reason}" if reason else "."),
    })  # fmt: skip
    return Change(how.status, NOTHING, pen.events, closed_reason=how.status, command_id=command)


def time_out(run: Run, kind: str, left: Sequence[Left]) -> Change:
    """End a run whose deadline has passed, with all that is open of it; `kind` is execution_timeout or run_timeout."""
    pen = Pen(run.last_history_sequence)
    for each in left:
        pen.write(f"{each.kind}Cancelled", each.told)
    pen.write("WorkflowTimedOut", {
        "timeout_kind": kind, "failure_id": new_ulid(), "failure_category": "timeout", "closed_reason": "timed_out",
        "message": f"Workflow passed its {kind}.",
    })  # fmt: skip
    return Change("failed", NOTHING, pen.events, closed_reason="timed_out")
