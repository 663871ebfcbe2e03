"""What signals, timers that fire, cancel and terminate write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from dw_refserver.engine import Refused
from dw_refserver.run_engine import (
    CANCEL,
    MOST_SIGNALS,
    TERMINATE,
    Change,
    Left,
    Run,
    Stop,
    fire,
    signal,
    stop,
    time_out,
)
from dw_refserver.waiting import NOTHING, Signal, Waiting

from refserver.unit.test_engine import NOW
from refserver.unit.test_forms import member

RUN = Run(
    now=NOW, id="r1", namespace="default", workflow_id="wf", workflow_type="t", run_queue="q", compatibility=None,
    status="waiting", last_history_sequence=4, resume_sequence=2, last_command=1,
)  # fmt: skip
TIMER = {"timer_id": "t9", "sequence": 2, "delay_seconds": 1, "fire_at": "2026-01-01T00:00:00.000000Z"}


def told(change: Change) -> list[tuple[str, dict[str, Any]]]:
    return [(event.event_type, orjson.loads(event.payload)) for event in change.events]


def test_a_signal_makes_a_task_that_knows_it() -> None:
    change = signal(RUN, "go", "AA==", "avro")
    [(kind, payload)] = told(change)
    assert (kind, payload["signal_name"], payload["arguments"]) == (
        "SignalReceived", "go", {"codec": "avro", "blob": "AA=="},
    )  # fmt: skip
    assert change.waiting.signals == (Signal(payload["signal_id"], "go", 5),)
    context = orjson.loads(change.new_tasks[0].payload or "")
    assert (context["resume_source_kind"], context["workflow_signal_id"]) == ("workflow_signal", payload["signal_id"])
    assert change.resumes


def test_a_signal_beside_an_open_task_only_asks_for_the_next() -> None:
    change = signal(replace(RUN, open_task=True), "go", "AA==", "avro")
    assert (change.new_tasks, change.resumes) == ([], True)


def test_signals_that_no_worker_takes_are_bounded() -> None:
    full = replace(RUN, waiting=Waiting(signals=(Signal("s", "go", 1),) * MOST_SIGNALS))
    with pytest.raises(Refused) as raised:
        signal(full, "go", "AA==", "avro")
    assert (raised.value.status, raised.value.reason) == (422, "structural_limit_exceeded")


def test_a_timer_fires_and_wakes_its_run() -> None:
    change = fire(RUN, TIMER, "t9")
    assert change is not None
    assert told(change) == [("TimerFired", TIMER | {"fired_at": "2026-01-01T00:00:00.000000Z"})]
    context = orjson.loads(change.new_tasks[0].payload or "")
    assert (context["workflow_wait_kind"], context["timer_id"], context["workflow_sequence"]) == ("timer", "t9", 2)


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_nothing_comes_of_a_timer_whose_run_is_closed(status: str) -> None:
    assert fire(replace(RUN, status=status), TIMER, "t9") is None


def test_a_timer_of_a_group_wakes_only_as_its_last_member() -> None:
    timer = TIMER | member(1, 2, 1)
    first = fire(replace(RUN, waiting=Waiting(groups={"parallel-timers:1:2": 2})), timer, "t9")
    assert first is not None
    assert (first.new_tasks, first.resumes, first.waiting.groups) == ((), False, {"parallel-timers:1:2": 1})
    last = fire(replace(RUN, waiting=first.waiting), timer, "t9")
    assert last is not None
    assert (len(last.new_tasks), last.resumes, last.waiting.groups) == (1, True, {})


def test_a_timeout_ends_its_wait() -> None:
    wait = {"condition_wait_id": "w1", "sequence": 2, "timer_id": "t9", "condition_key": "k", "timeout_seconds": 1,
            "condition_definition_fingerprint": "f"}  # fmt: skip
    timer = TIMER | {"timer_kind": "condition_timeout", "condition_wait_id": "w1"}
    change = fire(replace(RUN, waiting=Waiting(condition=wait)), timer, "t9")
    assert change is not None
    assert [kind for kind, _ in told(change)] == ["TimerFired", "ConditionWaitTimedOut"]
    assert change.waiting == NOTHING
    context = orjson.loads(change.new_tasks[0].payload or "")
    assert (context["workflow_wait_kind"], context["condition_wait_id"]) == ("condition", "w1")


@pytest.mark.parametrize(("how", "status"), [(CANCEL, "cancelled"), (TERMINATE, "terminated")])
def test_a_stop_ends_the_run_with_all_that_is_open_of_it(how: Stop, status: str) -> None:
    left = [Left("Activity", {"activity_execution_id": "e1", "sequence": 1}), Left("Timer", TIMER)]
    waiting = Waiting(signals=(Signal("s1", "go", 3),), groups={"g": 2})
    change = stop(replace(RUN, waiting=waiting), how, "too late", left)
    assert [kind for kind, _ in told(change)] == [how.requested, "ActivityCancelled", "TimerCancelled", how.event]
    assert [event.sequence for event in change.events] == [5, 6, 7, 8]
    assert (change.status, change.closed_reason, change.waiting, change.new_tasks) == (status, status, NOTHING, ())
    last = told(change)[-1][1]
    assert (last["reason"], last["message"]) == ("too late", f"Workflow {status}: too late")


def test_a_run_past_its_deadline_fails_with_all_that_is_open_of_it() -> None:
    change = time_out(RUN, "run_timeout", [Left("Timer", TIMER)])
    assert [kind for kind, _ in told(change)] == ["TimerCancelled", "WorkflowTimedOut"]
    assert (change.status, change.closed_reason, change.command_id) == ("failed", "timed_out", None)


def test_a_run_after_a_change_takes_the_next_one() -> None:
    change = fire(RUN, TIMER, "t9")
    assert change is not None
    after = RUN.after(change)
    assert (after.last_history_sequence, after.resume_sequence, after.open_task) == (5, 5, True)
    second = fire(after, TIMER, "t8")
    assert second is not None
    assert (second.new_tasks, second.events[0].sequence) == ([], 6)
