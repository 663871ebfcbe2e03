"""Whatever happens to a run, in whatever order, its history and its tasks keep their shape."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import orjson
from dw_refserver import activity_engine, run_engine
from dw_refserver.activity_engine import Activity, Deadlines
from dw_refserver.command_engine import complete
from dw_refserver.engine import TERMINAL, Event, NewActivity, NewTask, Refused, Task, fail
from dw_refserver.run_engine import CANCEL, TERMINATE, Change, Left, Run
from dw_refserver.waiting import NOTHING, Waiting
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from refserver.unit.test_activity_engine import POLICY
from refserver.unit.test_engine import NOW
from refserver.unit.test_forms import member

PLAIN = st.sampled_from([
    {"type": "schedule_activity", "activity_type": "a"},
    {"type": "start_timer", "delay_seconds": 0},
    {"type": "start_timer", "delay_seconds": 5},
    {"type": "record_side_effect", "result": "AA=="},
    {"type": "record_version_marker", "change_id": "c", "version": 1, "min_supported": 1, "max_supported": 1},
])  # fmt: skip
WAITS = st.sampled_from([{"type": "open_condition_wait", "timeout_seconds": seconds} for seconds in (None, 0, 3)])
CLOSING = st.sampled_from([
    {"type": "complete_workflow"}, {"type": "fail_workflow", "message": "m"}, {"type": "continue_as_new"},
])  # fmt: skip
OPENING = {"ActivityScheduled", "TimerScheduled", "SideEffectRecorded", "VersionMarkerRecorded", "ConditionWaitOpened"}
LAST = {"WorkflowCompleted", "WorkflowFailed", "WorkflowCancelled", "WorkflowTerminated", "WorkflowContinuedAsNew",
        "WorkflowTimedOut"}  # fmt: skip


@dataclass
class Row:
    """A task as the store keeps it."""

    new: NewTask
    status: str = "ready"
    attempt: int = 0
    seen: int = 0


@dataclass
class Stored:
    """A run as the store keeps it."""

    status: str = "pending"
    history: list[Event] = field(default_factory=list)
    step: int = 0
    resume: int = 0
    commands: int = 1
    waiting: Waiting = NOTHING
    tasks: dict[str, Row] = field(default_factory=dict)
    activities: dict[str, NewActivity] = field(default_factory=dict)


class AnyCourse(RuleBasedStateMachine):
    """Clients, workers and timers act on one run; after each step the run is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.run = Stored()
        self.add([NewTask("first", "q", "t")])
        self.group = 0

    def add(self, new_tasks: Any) -> None:
        self.run.tasks |= {new.id: Row(new, attempt=new.attempt_count) for new in new_tasks}

    def append(self, events: Any) -> None:
        self.run.history += events

    def open(self, kind: str, *statuses: str) -> list[Row]:
        found = [row for row in self.run.tasks.values() if row.new.task_type == kind]
        return [row for row in found if row.status in (statuses or ("ready", "leased"))]

    @property
    def last(self) -> int:
        return len(self.run.history)

    def locked(self) -> Run:
        return Run(NOW, "r1", "default", "wf", "t", "q", None, self.run.status, self.last, self.run.resume,
                   self.run.commands, Waiting.of(self.kept()), bool(self.open("workflow")))  # fmt: skip

    def kept(self) -> Any:
        """What the run waits for, as it comes back from a database."""
        return orjson.loads(orjson.dumps(self.run.waiting.stored()))

    def change(self, change: Change) -> None:
        self.append(change.events)
        self.add(change.new_tasks)
        self.run.status, self.run.waiting = change.status, change.waiting
        if change.resumes:
            self.run.resume = self.last

    @precondition(lambda self: self.open("workflow", "ready"))
    @rule()
    def claim(self) -> None:
        row = self.open("workflow", "ready")[0]
        row.status, row.attempt, row.seen = "leased", row.attempt + 1, self.last

    def task(self, row: Row) -> Task:
        return Task(NOW, row.new.id, "default", row.status, "w", NOW + timedelta(seconds=9), row.attempt, "q", "r1",
                    self.run.status, None, None, "t", "avro", None, self.last, row.seen, self.run.step,
                    self.run.resume, "q", 1, Waiting.of(self.kept()))  # fmt: skip

    def settle(self, row: Row, decision: Any) -> None:
        self.append(decision.events)
        row.status = decision.task_status
        self.run.status, self.run.step, self.run.waiting = decision.run_status, decision.last_step, decision.waiting
        self.run.activities |= {each.id: each for each in decision.activities}
        self.add(decision.new_tasks)
        if decision.timer_over:
            self.run.tasks[decision.timer_over].status = "cancelled"

    @precondition(lambda self: self.open("workflow", "leased"))
    @rule(batch=st.lists(PLAIN, max_size=3), wait=st.none() | WAITS, grouped=st.integers(0, 3), again=st.booleans())
    def complete_open(self, batch: list[Any], wait: Any, grouped: int, *, again: bool) -> None:
        base = self.run.step + len(batch) + 1
        if again and self.group:  # replay gives an open group again
            base, grouped, batch = self.group, 2, []
        elif grouped:
            self.group = base
        members = [{**batch_kind(index), **member(base, grouped, index)} for index in range(grouped)]
        commands = [*batch, *members, *([wait] if wait else [])]
        if commands:
            self.completed(commands)

    @precondition(lambda self: self.open("workflow", "leased"))
    @rule(command=CLOSING)
    def complete_closing(self, command: Any) -> None:
        self.completed([command])

    def completed(self, commands: list[Any]) -> None:
        row = self.open("workflow", "leased")[0]
        with suppress(Refused):  # continue_as_new past a signal, or a second wait: nothing is written
            self.settle(row, complete(self.task(row), commands))

    @precondition(lambda self: self.open("workflow", "leased"))
    @rule(kind=st.sampled_from(["WorkflowTaskWaitingForHistory", "RuntimeError"]))
    def fail_task(self, kind: str) -> None:
        row = self.open("workflow", "leased")[0]
        self.settle(row, fail(self.task(row), {"message": "m", "type": kind}))

    @rule()
    def signal(self) -> None:
        if self.run.status not in TERMINAL:  # the store refuses it
            self.change(run_engine.signal(self.locked(), "go", "AA==", "avro"))

    @precondition(lambda self: self.open("timer"))
    @rule(which=st.integers(0, 5))
    def fire(self, which: int) -> None:
        timers = self.open("timer")
        row = timers[which % len(timers)]
        change = run_engine.fire(self.locked(), orjson.loads(row.new.payload or ""), row.new.id)
        row.status = "completed"
        if change:
            self.change(change)
        assert bool(change) == (self.run.status not in TERMINAL)

    @precondition(lambda self: self.open("activity"))
    @rule(which=st.integers(0, 5), fine=st.booleans())
    def end_activity(self, which: int, *, fine: bool) -> None:
        rows = self.open("activity")
        row = rows[which % len(rows)]
        activity = self.activity(row)
        failure = {"message": "m", "type": "Fatal"}
        done = activity_engine.completed(activity, None) if fine else activity_engine.failed(activity, failure)
        row.status = "completed"
        self.append(done.events)
        self.add(done.new_tasks)
        self.run.waiting = done.waiting or self.run.waiting
        if done.resumes:
            self.run.resume = self.last

    def activity(self, row: Row) -> Activity:
        made = self.run.activities[row.new.activity_execution_id or ""]
        parallel = orjson.loads(made.parallel) if made.parallel else None
        return Activity(
            NOW, "default", row.new.id, "leased", None, "q", None, made.id, made.sequence, "a", "running", 1, "a1",
            "avro", None, POLICY, Deadlines(), None, "r1", "wf", self.run.status, None, None, "q", "t", self.last,
            self.run.resume, parallel, Waiting.of(self.kept()), bool(self.open("workflow")),
        )  # fmt: skip

    @precondition(lambda self: self.run.status not in TERMINAL)
    @rule(how=st.sampled_from([CANCEL, TERMINATE, None]))
    def stop(self, how: Any) -> None:
        left, run = [Left("Timer", orjson.loads(row.new.payload or "")) for row in self.open("timer")], self.locked()
        self.change(run_engine.stop(run, how, None, left) if how else run_engine.time_out(run, "run_timeout", left))
        self.run.tasks = {
            name: replace(row, status="cancelled") if row.status in ("ready", "leased") else row
            for name, row in self.run.tasks.items()
        }

    @invariant()
    def history_has_no_gap(self) -> None:
        assert [event.sequence for event in self.run.history] == [*range(1, self.last + 1)]

    @invariant()
    def one_workflow_task_at_most(self) -> None:
        assert len(self.open("workflow")) <= 1

    @invariant()
    def steps_are_numbered_once_and_in_order(self) -> None:
        opening = [event for event in self.run.history if event.event_type in OPENING]
        steps = [orjson.loads(event.payload) for event in opening]
        steps = [step["sequence"] for step in steps if step.get("timer_kind") is None]
        assert steps == [*range(1, self.run.step + 1)]

    @invariant()
    def nothing_follows_the_end(self) -> None:
        ends = [event.sequence for event in self.run.history if event.event_type in LAST]
        assert ends == ([self.last] if self.run.status in TERMINAL else [])

    @invariant()
    def what_must_be_seen_has_a_task(self) -> None:
        """Every event that wakes is followed by the claim of a task, or one is open."""
        if self.run.status in TERMINAL:
            return
        seen = max((row.seen for row in self.run.tasks.values()), default=0)
        assert self.run.resume <= seen or self.open("workflow")
        signals = [event.sequence for event in self.run.history if event.event_type == "SignalReceived"]
        assert self.run.resume >= max(signals, default=0)

    @invariant()
    def an_open_group_holds_its_open_members(self) -> None:
        rows = [row for kind in ("timer", "activity") for row in self.open(kind)]
        grouped = [row for row in rows if "parallel_group_id" in self.about(row)]
        if self.run.status not in TERMINAL:
            assert sum(self.run.waiting.groups.values()) == len(grouped)

    @invariant()
    def a_wait_has_its_own_timer_and_no_other_is_left(self) -> None:
        kinds = [about for about in map(self.about, self.open("timer")) if "condition_wait_id" in about]
        wait = self.run.waiting.condition or {"timer_id": None}
        if self.run.status not in TERMINAL:
            assert [about["timer_id"] for about in kinds] == ([wait["timer_id"]] if wait["timer_id"] else [])

    def about(self, row: Row) -> dict[str, Any]:
        text = row.new.payload or self.run.activities[row.new.activity_execution_id or ""].parallel
        found: dict[str, Any] = orjson.loads(text or "{}")
        return found


def batch_kind(index: int) -> dict[str, Any]:
    """A group's members are of two kinds in turn."""
    if index % 2:
        return {"type": "start_timer", "delay_seconds": 0}
    return {"type": "schedule_activity", "activity_type": "a"}


TestAnyCourse = AnyCourse.TestCase
TestAnyCourse.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
