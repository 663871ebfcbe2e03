"""What is decided about schedules: created, paused, resumed, deleted, fired or held back. Pure, as `engine` is.

A tick of the scheduler and a trigger by hand decide alike; only a tick moves the schedule on to its next occurrence.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from dw_refserver import schedule_spec
from dw_refserver.engine import Refused, Start, iso
from dw_refserver.protocol import invalid
from dw_refserver.ulid import new_ulid
from dw_refserver.validation import Fields, work_of

OVERLAP_POLICIES = ("skip", "allow_all")
"""What this server does when the run before is still open: leave the occurrence out, or start another."""

_MOST_RECENT = 10


@dataclass(frozen=True)
class Schedule:
    """A stored schedule, the database's clock when it was read, and whether its latest workflow's run is open."""

    now: datetime
    running: bool
    id: str
    namespace: str
    schedule_id: str
    status: str
    overlap_policy: str
    spec: Any
    action: Any
    memo: Any
    recent_actions: Any
    note: str | None
    latest_workflow_instance_id: str | None
    last_skip_reason: str | None
    jitter_seconds: int
    fires_count: int
    failures_count: int
    skipped_trigger_count: int
    last_event_sequence: int
    max_runs: int | None
    remaining_actions: int | None
    next_fire_at: datetime | None
    last_fired_at: datetime | None
    last_skipped_at: datetime | None
    paused_at: datetime | None
    deleted_at: datetime | None
    created_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True)
class Event:
    """An entry of a schedule's history."""

    id: str
    sequence: int
    event_type: str
    payload: Mapping[str, Any]
    workflow_instance_id: str | None = None
    workflow_run_id: str | None = None


@dataclass(frozen=True)
class Change:
    """What an operation writes, in one transaction: the schedule as it is then, its events, the run that it starts.

    `reason` says why a schedule that was to fire started nothing.
    """

    after: Schedule
    events: Sequence[Event] = ()
    start: Start | None = None
    run_id: str = ""
    reason: str | None = None


def missing(namespace: str, schedule_id: str) -> Refused:
    """404 for a schedule that isn't there, or no longer."""
    return Refused(404, "schedule_not_found", f"Schedule [{schedule_id}] not found in namespace [{namespace}].")


def next_fire_at(schedule: Schedule) -> datetime | None:
    """The next occurrence after now, later by chance within the jitter. Raises ValueError for an unreadable spec."""
    fields = Fields(_object(schedule.spec, "spec"))
    spec = schedule_spec.read(fields)
    if spec is None:
        raise _unreadable("spec", fields)
    found = spec.next_after(schedule.now)
    return found and found + timedelta(seconds=random.uniform(0, schedule.jitter_seconds))  # noqa: S311 - no secret


def _start(schedule: Schedule) -> Start:
    """A fresh workflow as the action says. Raises ValueError for an unreadable action."""
    fields = Fields(_object(schedule.action, "action"))
    work = work_of(fields)
    if fields.errors:
        raise _unreadable("action", fields)
    return Start(schedule.namespace, new_ulid(), business_key=None, memo=schedule.memo, **work)


def _object(stored: Any, name: str) -> dict[str, Any]:
    if isinstance(stored, dict):
        return stored
    raise ValueError(f"it has no {name}")


def _unreadable(name: str, fields: Fields) -> ValueError:
    return ValueError(f"its {name} can't be used: " + " ".join(fields.errors.values()))


def created(blank: Schedule, wanted: Mapping[str, Any], *, paused: bool) -> Change:
    """A new schedule in a blank or deleted one's row, whose history goes on. `wanted` is by column."""
    if blank.status != "deleted":
        text = f"Schedule [{blank.schedule_id}] already exists in namespace [{blank.namespace}]."
        raise Refused(409, "schedule_already_exists", text, schedule_id=blank.schedule_id)
    fresh = Schedule(
        now=blank.now, running=False, id=blank.id, namespace=blank.namespace, schedule_id=blank.schedule_id,
        status="paused" if paused else "active", recent_actions=[], latest_workflow_instance_id=None,
        last_skip_reason=None, fires_count=0, failures_count=0, skipped_trigger_count=0,
        last_event_sequence=blank.last_event_sequence, remaining_actions=wanted["max_runs"], next_fire_at=None,
        last_fired_at=None, last_skipped_at=None, paused_at=blank.now if paused else None, deleted_at=None,
        created_at=blank.now, updated_at=blank.now, **wanted,
    )  # fmt: skip
    due = next_fire_at(fresh)
    if due is None:
        raise invalid({"spec": "The spec field never fires."})
    told = {name: wanted[name] for name in ("spec", "action", "overlap_policy")} | {"next_fire_at": iso(due)}
    return _told(replace(fresh, next_fire_at=due), "ScheduleCreated", told)


def paused(schedule: Schedule, note: str | None) -> Change:
    """No more fires until it is resumed. Pausing what is paused writes nothing, unless the note is another."""
    if schedule.status == "paused" and note in (None, schedule.note):
        return Change(schedule)
    since = schedule.paused_at or schedule.now
    after = replace(schedule, status="paused", paused_at=since, note=note or schedule.note)
    return _told(after, "SchedulePaused", {"reason": note, "paused_at": iso(since)})


def resumed(schedule: Schedule, note: str | None) -> Change:
    """It waits for the next occurrence after now: what it missed while it was paused stays missed."""
    if schedule.status == "active" and note in (None, schedule.note):
        return Change(schedule)
    due = next_fire_at(schedule) if schedule.status == "paused" else schedule.next_fire_at
    after = replace(schedule, status="active", paused_at=None, note=note or schedule.note, next_fire_at=due)
    return _told(after, "ScheduleResumed", {"next_fire_at": iso(due)})


def deleted(schedule: Schedule, reason: str | None = None) -> Change:
    """It is gone for everybody but its history."""
    after = replace(schedule, status="deleted", deleted_at=schedule.now, next_fire_at=None)
    return _told(after, "ScheduleDeleted", {"reason": reason})


def tick(schedule: Schedule) -> Change:
    """A due schedule's turn: one fire, however many occurrences have passed, then the next occurrence after now."""
    return fire(replace(schedule, next_fire_at=next_fire_at(schedule)), occurrence=schedule.next_fire_at)


def fire(schedule: Schedule, policy: str | None = None, occurrence: datetime | None = None) -> Change:
    """Start the schedule's workflow unless something holds it back; the last of `max_runs` deletes the schedule.

    Only the latest workflow counts as the one before, as the published table keeps no other.
    """
    policy = policy or schedule.overlap_policy
    if schedule.status != "active":
        return _skipped(schedule, "status_not_triggerable")
    if policy == "skip" and schedule.running:
        return _skipped(schedule, "overlap_policy_skip")
    return _fired(schedule, policy, occurrence)


def _skipped(schedule: Schedule, reason: str) -> Change:
    count = schedule.skipped_trigger_count + 1
    after = replace(
        schedule, skipped_trigger_count=count, last_skip_reason=reason, last_skipped_at=schedule.now
    )  # fmt: skip
    told = {"reason": reason, "skipped_trigger_count": count, "last_skipped_at": iso(schedule.now)}
    return replace(_told(after, "ScheduleTriggerSkipped", told), reason=reason)


def _fired(schedule: Schedule, policy: str, occurrence: datetime | None) -> Change:
    start, run_id, count = _start(schedule), new_ulid(), schedule.fires_count + 1
    ids = {"workflow_instance_id": start.workflow_id, "workflow_run_id": run_id}
    told = {**ids, "outcome": "scheduled", "effective_overlap_policy": policy, "trigger_number": count}
    told |= {"occurrence_time": iso(occurrence)} if occurrence else {}
    before = _told(schedule, "ScheduleTriggered", told, **ids)  # its event shows the schedule as it was
    recent = {"workflow_id": start.workflow_id, "run_id": run_id, "fired_at": iso(schedule.now)}
    left = schedule.remaining_actions and schedule.remaining_actions - 1
    after = replace(
        before.after, fires_count=count, remaining_actions=left, last_fired_at=schedule.now,
        latest_workflow_instance_id=start.workflow_id,
        recent_actions=[*(schedule.recent_actions or []), recent][-_MOST_RECENT:],
    )  # fmt: skip
    last = deleted(after, "max_runs_exhausted") if left == 0 else Change(after)
    return Change(last.after, [*before.events, *last.events], start, run_id)


_SHOWN = ("id", "schedule_id", "namespace", "status", "overlap_policy", "fires_count", "skipped_trigger_count",
          "last_skip_reason", "latest_workflow_instance_id", "note")  # fmt: skip
_SHOWN_MOMENTS = ("next_fire_at", "last_fired_at", "last_skipped_at", "paused_at", "deleted_at")


def _told(schedule: Schedule, kind: str, payload: Mapping[str, Any], **ids: str) -> Change:
    """The schedule with one more event, which shows what it is now; empty fields are left out there."""
    shown = {name: getattr(schedule, name) for name in _SHOWN}
    shown |= {name: iso(getattr(schedule, name)) for name in _SHOWN_MOMENTS}
    told = {**payload, "schedule": {name: value for name, value in shown.items() if value is not None}}
    sequence = schedule.last_event_sequence + 1
    return Change(replace(schedule, last_event_sequence=sequence), [Event(new_ulid(), sequence, kind, told, **ids)])
