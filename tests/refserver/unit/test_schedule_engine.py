"""What is decided about schedules: overlap, the last run, the next occurrence, and what the history says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dw_refserver import schedule_engine as engine
from dw_refserver.engine import Refused
from dw_refserver.schedule_engine import Change, Schedule
from hypothesis import given, settings
from hypothesis import strategies as st

patient = settings(deadline=None)  # what is slow here is the machine, now and then
NOW = datetime(2026, 1, 1, 12, 0, 7, tzinfo=UTC)
SCHEDULE = Schedule(
    now=NOW, running=False, id="s1", namespace="default", schedule_id="nightly", status="active",
    overlap_policy="skip", spec={"intervals": [{"every": "PT10S"}]}, action={"workflow_type": "t"}, memo={"k": "v"},
    recent_actions=None, note=None, latest_workflow_instance_id=None, last_skip_reason=None, jitter_seconds=0,
    fires_count=0, failures_count=0, skipped_trigger_count=0, last_event_sequence=4, max_runs=None,
    remaining_actions=None, next_fire_at=NOW - timedelta(hours=1), last_fired_at=None, last_skipped_at=None,
    paused_at=None, deleted_at=None, created_at=NOW, updated_at=NOW,
)  # fmt: skip
NEXT = NOW + timedelta(seconds=3)
WANTED = {"spec": SCHEDULE.spec, "action": SCHEDULE.action, "overlap_policy": "skip", "jitter_seconds": 0,
          "max_runs": 3, "memo": None, "note": "n"}  # fmt: skip


def kinds(change: Change) -> list[tuple[int, str]]:
    return [(event.sequence, event.event_type) for event in change.events]


def test_a_tick_fires_once_and_waits_for_the_next_occurrence_after_now() -> None:
    change = engine.tick(SCHEDULE)
    assert change.start
    assert (change.start.workflow_type, change.start.queue, change.start.memo) == ("t", "default", {"k": "v"})
    after = change.after
    assert (after.next_fire_at, after.last_fired_at, after.fires_count) == (NEXT, NOW, 1)
    assert after.latest_workflow_instance_id == change.start.workflow_id
    assert kinds(change) == [(5, "ScheduleTriggered")]
    event = change.events[0]
    assert (event.workflow_instance_id, event.workflow_run_id) == (change.start.workflow_id, change.run_id)
    assert event.payload["occurrence_time"] == "2026-01-01T11:00:07.000000Z"


@pytest.mark.parametrize(
    ("changes", "policy", "reason"),
    [
        ({}, None, None),
        ({"running": True}, None, "overlap_policy_skip"),
        ({"running": True}, "allow_all", None),
        ({"running": True, "overlap_policy": "allow_all"}, None, None),
        ({"running": True, "overlap_policy": "allow_all"}, "skip", "overlap_policy_skip"),
        ({"status": "paused"}, "allow_all", "status_not_triggerable"),
        ({"status": "paused", "running": True}, None, "status_not_triggerable"),
    ],
)
def test_what_holds_a_fire_back(changes: dict[str, Any], policy: str | None, reason: str | None) -> None:
    schedule = replace(SCHEDULE, **changes)
    change = engine.fire(schedule, policy)
    assert (change.reason, change.start is None, bool(change.run_id)) == (reason, reason is not None, reason is None)
    counted = change.after.skipped_trigger_count, change.after.fires_count
    assert counted == ((1, 0) if reason else (0, 1))
    assert change.after.next_fire_at == schedule.next_fire_at, "only a tick moves it on"


def test_a_skipped_tick_moves_on_too() -> None:
    change = engine.tick(replace(SCHEDULE, running=True))
    assert (change.after.next_fire_at, kinds(change)) == (NEXT, [(5, "ScheduleTriggerSkipped")])


def test_the_last_run_deletes_the_schedule() -> None:
    change = engine.tick(replace(SCHEDULE, max_runs=2, remaining_actions=1))
    assert (change.after.status, change.after.next_fire_at, change.after.deleted_at) == ("deleted", None, NOW)
    assert kinds(change) == [(5, "ScheduleTriggered"), (6, "ScheduleDeleted")]
    assert change.events[1].payload["reason"] == "max_runs_exhausted"
    assert change.after.last_event_sequence == 6


@patient
@given(st.integers(1, 3600))
def test_jitter_is_within_its_bound(jitter: int) -> None:
    found = engine.next_fire_at(replace(SCHEDULE, jitter_seconds=jitter))
    assert found
    assert NEXT <= found <= NEXT + timedelta(seconds=jitter)


def test_recent_actions_are_the_last_ten() -> None:
    schedule = SCHEDULE
    for _ in range(12):
        schedule = engine.fire(schedule).after
    assert len(schedule.recent_actions) == 10
    assert schedule.recent_actions[-1]["workflow_id"] == schedule.latest_workflow_instance_id


@pytest.mark.parametrize(
    "changes", [{"spec": None}, {"spec": {"intervals": []}}, {"spec": []}, {"action": {}}, {"action": None}]
)
def test_what_can_not_be_read_is_a_value_error(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"spec|action"):
        engine.tick(replace(SCHEDULE, **changes))


def test_a_create_takes_a_deleted_row_over_and_goes_on_with_its_history() -> None:
    blank = replace(SCHEDULE, status="deleted", fires_count=7, recent_actions=[{}], paused_at=NOW, deleted_at=NOW)
    change = engine.created(blank, WANTED, paused=False)
    after = change.after
    assert (after.status, after.fires_count, after.remaining_actions, after.next_fire_at) == ("active", 0, 3, NEXT)
    assert (after.recent_actions, after.paused_at, after.deleted_at, after.note) == ([], None, None, "n")
    assert kinds(change) == [(5, "ScheduleCreated")]
    with pytest.raises(Refused, match="already exists"):
        engine.created(after, WANTED, paused=False)


def test_pause_and_resume() -> None:
    paused = engine.paused(SCHEDULE, "why")
    assert (paused.after.status, paused.after.paused_at, paused.after.note) == ("paused", NOW, "why")
    assert engine.paused(paused.after, None) == Change(paused.after), "a repeated request writes nothing"
    assert kinds(engine.paused(paused.after, "because")) == [(6, "SchedulePaused")]
    resumed = engine.resumed(paused.after, None)
    assert (resumed.after.status, resumed.after.paused_at, resumed.after.next_fire_at) == ("active", None, NEXT)
    assert engine.resumed(resumed.after, None) == Change(resumed.after)
    overdue = replace(resumed.after, next_fire_at=NOW - timedelta(seconds=5))
    noted = engine.resumed(overdue, "still on")
    assert (noted.after.next_fire_at, noted.after.note) == (overdue.next_fire_at, "still on"), "a due fire stays due"


def test_events_show_the_schedule_without_its_empty_fields() -> None:
    shown = engine.deleted(SCHEDULE).events[0].payload["schedule"]
    assert shown == {
        "id": "s1", "schedule_id": "nightly", "namespace": "default", "status": "deleted", "overlap_policy": "skip",
        "fires_count": 0, "skipped_trigger_count": 0, "deleted_at": "2026-01-01T12:00:07.000000Z",
    }  # fmt: skip
