"""What each workflow-task command writes, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from dw_refserver.command_engine import complete
from dw_refserver.engine import Decision, Refused
from dw_refserver.waiting import Signal, Waiting

from refserver.unit.test_engine import TASK
from refserver.unit.test_forms import member

WAIT = {"type": "open_condition_wait", "condition_key": "k", "condition_definition_fingerprint": "f"}
DONE = {"type": "complete_workflow"}
ACTIVITY = {"type": "schedule_activity", "activity_type": "a"}


def told(decision: Decision) -> list[tuple[str, dict[str, Any]]]:
    return [(event.event_type, orjson.loads(event.payload)) for event in decision.events]


def kinds(decision: Decision) -> list[str]:
    return [kind for kind, _ in told(decision)]


@pytest.mark.parametrize("delay", [0, 60])
def test_a_timer_is_a_task_that_is_due_when_it_fires(delay: int) -> None:
    decision = complete(TASK, [{"type": "start_timer", "delay_seconds": delay}])
    [(kind, payload)] = told(decision)
    [task] = decision.new_tasks
    assert (kind, payload["sequence"], payload["timer_id"]) == ("TimerScheduled", 1, task.id)
    assert (task.task_type, task.delay, decision.last_step) == ("timer", delay, 1)
    assert payload["fire_at"] == f"2026-01-01T00:{delay // 60:02}:00.000000Z"
    assert orjson.loads(task.payload or "") == payload
    assert decision.answer["created_task_ids"] == [task.id]


def test_steps_are_numbered_across_kinds_by_the_runs_own_counter() -> None:
    marker = {"type": "record_version_marker", "change_id": "c", "version": 2, "min_supported": 1, "max_supported": 2}
    batch = [{"type": "record_side_effect", "result": "AA=="}, marker, ACTIVITY, WAIT]
    decision = complete(replace(TASK, last_step=4, last_history_sequence=20), batch)
    assert [(kind, payload["sequence"]) for kind, payload in told(decision)] == [
        ("SideEffectRecorded", 5), ("VersionMarkerRecorded", 6), ("ActivityScheduled", 7), ("ConditionWaitOpened", 8),
    ]  # fmt: skip
    assert [event.sequence for event in decision.events] == [21, 22, 23, 24]
    assert decision.last_step == 8
    assert told(decision)[0][1] == {"sequence": 5, "result": "AA==", "payload_codec": "avro"}


def opened(**more: Any) -> tuple[Waiting, Decision]:
    decision = complete(TASK, [WAIT | more])
    return decision.waiting, decision


def test_a_wait_with_a_timeout_has_a_timer_and_repeated_it_stays_as_it_is() -> None:
    waiting, decision = opened(timeout_seconds=5)
    assert kinds(decision) == ["ConditionWaitOpened", "TimerScheduled"]
    timer = told(decision)[1][1]
    assert timer["timer_kind"] == "condition_timeout"
    assert timer["sequence"] == told(decision)[0][1]["sequence"] == 1
    again = complete(replace(TASK, waiting=waiting, last_step=1), [WAIT | {"timeout_seconds": 5}])
    assert (kinds(again), again.waiting, again.last_step, again.new_tasks) == ([], waiting, 1, [])


def test_a_signal_that_was_shown_ends_the_wait_and_the_same_condition_is_another_wait() -> None:
    waiting, _ = opened(timeout_seconds=5)
    seen = replace(waiting, signals=(Signal("s1", "go", 4),))
    task = replace(TASK, waiting=seen, seen_sequence=4, resume_sequence=4, last_history_sequence=4, last_step=1)
    decision = complete(task, [WAIT | {"timeout_seconds": 5}])
    assert kinds(decision) == [
        "SignalApplied", "ConditionWaitSatisfied", "TimerCancelled", "ConditionWaitOpened", "TimerScheduled",
    ]  # fmt: skip
    assert waiting.condition is not None
    assert decision.timer_over == waiting.condition["timer_id"]
    assert told(decision)[3][1]["sequence"] == 2
    assert decision.waiting.signals == ()


def test_a_signal_that_came_during_the_task_stays_and_makes_the_next_one() -> None:
    waiting = Waiting(
        signals=(
            Signal("s1", "go", 2),
            Signal("s2", "stop", 3),
        )
    )
    task = replace(TASK, waiting=waiting, seen_sequence=2, resume_sequence=3, last_history_sequence=3)
    decision = complete(task, [WAIT])
    assert kinds(decision) == ["SignalApplied", "ConditionWaitOpened"]
    assert decision.waiting.signals == (Signal("s2", "stop", 3),)
    context = orjson.loads(decision.new_tasks[0].payload or "")
    assert (context["workflow_wait_kind"], context["signal_name"]) == ("signal", "stop")


@pytest.mark.parametrize(("first", "events"), [(2, []), (4, ["ConditionWaitOpened"])])
def test_while_a_signal_is_unseen_the_same_wait_stays_or_makes_room_without_an_end(
    first: int, events: list[str]
) -> None:
    waiting, _ = opened()
    signals = (Signal("s1", "go", first), Signal("s2", "go", 5))
    task = replace(TASK, waiting=replace(waiting, signals=signals), seen_sequence=4, resume_sequence=5,
                   last_history_sequence=5, last_step=1)  # fmt: skip
    decision = complete(task, [WAIT])
    assert kinds(decision) == ["SignalApplied", *events]
    assert len(decision.new_tasks) == 1


def test_a_wait_that_the_workflow_has_gone_past_is_over() -> None:
    waiting, _ = opened()
    decision = complete(replace(TASK, waiting=waiting), [DONE])
    assert kinds(decision) == ["ConditionWaitSatisfied", "WorkflowCompleted"]
    assert decision.waiting == Waiting()


def test_a_second_wait_beside_an_open_one_is_refused() -> None:
    with pytest.raises(Refused, match="one condition"):
        complete(TASK, [WAIT, WAIT | {"condition_key": "other"}])


def test_a_group_is_copied_to_the_event_and_kept_for_its_end() -> None:
    group = [ACTIVITY | member(1, 2, index) for index in range(2)]
    decision = complete(TASK, group)
    assert [payload["parallel_group_index"] for _, payload in told(decision)] == [0, 1]
    assert decision.waiting.groups == {"parallel-timers:1:2": 2}
    assert orjson.loads(decision.activities[1].parallel or "") == member(1, 2, 1)
    again = complete(replace(TASK, waiting=decision.waiting, last_step=2), [*group, {"type": "start_timer"} | TIMER])
    assert (kinds(again), again.activities) == (["TimerScheduled"], [])
    assert told(again)[0][1]["sequence"] == 3


TIMER = {"delay_seconds": 1}


def test_a_member_at_another_step_is_refused() -> None:
    with pytest.raises(Refused, match="would be step 1, not 2"):
        complete(TASK, [ACTIVITY | member(2, 2, 0)])


def test_continue_as_new_ends_the_run_and_begins_the_next() -> None:
    command = {"type": "continue_as_new", "arguments": {"codec": "avro", "blob": "AA=="}, "workflow_type": "other"}
    decision = complete(TASK, [command])
    assert (decision.run_status, decision.closed_reason) == ("completed", "continued")
    following = decision.continued
    assert following is not None
    [(kind, payload)] = told(decision)
    assert (kind, payload["continued_to_run_id"], payload["continued_to_run_number"]) == (
        "WorkflowContinuedAsNew", following.id, 2,
    )  # fmt: skip
    assert (following.workflow_type, following.queue, following.arguments) == ("other", "q", "AA==")
    assert [event.event_type for event in following.events] == ["WorkflowStarted"]
    assert decision.answer["created_task_ids"] == [following.new_task.id]


def test_a_signal_that_no_task_has_shown_does_not_end_with_its_run() -> None:
    waiting = Waiting(signals=(Signal("s1", "go", 3),))
    task = replace(TASK, waiting=waiting, resume_sequence=3, last_history_sequence=3)
    with pytest.raises(Refused) as raised:
        complete(task, [{"type": "continue_as_new"}])
    assert (raised.value.status, raised.value.reason) == (409, "invalid_commands")


def test_a_run_past_its_deadline_takes_no_completion() -> None:
    with pytest.raises(Refused) as raised:
        complete(replace(TASK, timed_out=True), [DONE])
    assert (raised.value.status, raised.value.reason) == (409, "run_timed_out")
