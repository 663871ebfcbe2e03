"""The tables as queries see them; `migrations` creates them, and a test keeps the two alike.

Names and columns follow the published server's, so that an operator recognises them. Payload columns are text:
codec and blob are kept and given back verbatim, and no database looks into them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import Column, Dialect, Index, Integer, String, Table, UniqueConstraint
from sqlalchemy.dialects.mysql import DATETIME, LONGTEXT

metadata = sa.MetaData()

LongText = sa.Text().with_variant(LONGTEXT(), "mysql")


class Moment(sa.TypeDecorator[datetime]):
    """An instant with microseconds: timestamptz, or datetime(6) that holds UTC."""

    impl = sa.TIMESTAMP(timezone=True).with_variant(DATETIME(fsp=6), "mysql")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """MySQL takes no zone: what it stores is UTC."""
        return value.astimezone(UTC).replace(tzinfo=None) if value and dialect.name == "mysql" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """MySQL gives back naive values; what was stored is UTC."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class JsonText(sa.TypeDecorator[Any]):
    """JSON that only this server reads."""

    impl = LongText
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encode; None stays SQL NULL."""
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Decode what was stored."""
        return None if value is None else orjson.loads(value)


def _table(name: str, *parts: Column[Any] | Index | UniqueConstraint) -> Table:
    return Table(
        name, metadata, *parts, mysql_engine="InnoDB", mysql_charset="utf8mb4", mysql_collate="utf8mb4_0900_bin"
    )


def _id(name: str = "id", *, primary: bool = False, nullable: bool = False) -> Column[str]:
    return Column(name, String(26), primary_key=primary, nullable=nullable)


def _texts(longest: int, *names: str, nullable: bool = False) -> list[Column[str]]:
    return [Column(name, String(longest), nullable=nullable) for name in names]


def _json(*names: str, nullable: bool = False) -> list[Column[Any]]:
    return [Column(name, JsonText, nullable=nullable) for name in names]


def _numbers(*names: str, nullable: bool = False) -> list[Column[int]]:
    return [Column(name, Integer, nullable=nullable) for name in names]


def _counts(*names: str) -> list[Column[int]]:
    return [Column(name, Integer, nullable=False, server_default="0") for name in names]


def _moments(*names: str) -> list[Column[datetime]]:
    return [Column(name, Moment) for name in names]


namespaces = _table(
    "workflow_namespaces",
    Column("name", String(128), primary_key=True),
    *_texts(1000, "description", nullable=True),
    *_numbers("retention_days"),
    *_texts(32, "retention_mode", "status"),
    *_moments("created_at", "updated_at"),
)

workers = _table(
    "workflow_worker_registrations",
    Column("namespace", String(128), primary_key=True),
    Column("worker_id", String(255), primary_key=True),
    *_texts(255, "task_queue"),
    *_texts(32, "runtime", "status"),
    *_texts(255, "sdk_version", "build_id", nullable=True),
    *_json("supported_workflow_types", "supported_activity_types", "workflow_definition_fingerprints"),
    *_json("capabilities", "capability_manifest"),
    *_numbers("max_concurrent_workflow_tasks", "max_concurrent_activity_tasks"),
    *_moments("last_heartbeat_at", "created_at", "updated_at"),
    Index("workflow_worker_registrations_queue", "namespace", "task_queue"),
)

instances = _table(
    "workflow_instances",
    Column("id", String(128), primary_key=True),
    *_texts(128, "namespace"),
    *_texts(255, "workflow_type"),
    *_texts(191, "business_key", nullable=True),
    _id("current_run_id"),
    *_numbers("run_count"),
    *_numbers("execution_timeout_seconds", nullable=True),
    *_moments("created_at"),
)

runs = _table(
    "workflow_runs",
    _id(primary=True),
    *_texts(128, "workflow_instance_id", "namespace"),
    *_texts(255, "workflow_type", "queue"),
    *_texts(191, "business_key", nullable=True),
    *_texts(32, "status", "payload_codec"),
    *_texts(32, "closed_reason", nullable=True),
    *_texts(255, "compatibility", nullable=True),
    *_json("memo", "output", "waiting_on", nullable=True),
    Column("arguments", LongText),
    Column("last_command", Integer, nullable=False, server_default="1"),
    *_numbers("run_number", "last_history_sequence"),
    *_counts("last_step", "resume_sequence"),
    *_numbers("run_timeout_seconds", nullable=True),
    *_moments("execution_deadline_at", "run_deadline_at"),
    *_moments("started_at", "closed_at", "archived_at", "last_progress_at", "next_deadline_at"),
    UniqueConstraint("workflow_instance_id", "run_number", name="workflow_runs_instance_number"),
    Index("workflow_runs_closed", "namespace", "closed_at"),
    Index("workflow_runs_listed", "namespace", "id"),
    Index("workflow_runs_due", "next_deadline_at"),
)
"""`last_step` counts the run's workflow steps. `resume_sequence` is the last event that a workflow task must see: one
that was claimed before it (`seen_sequence`) is followed by another when it is completed. `waiting_on` is what `waiting`
keeps; `last_command` counts the commands that the run has taken, its start being the first. `next_deadline_at` is the
earlier of its two deadlines while it is open.
"""

tasks = _table(
    "workflow_tasks",
    _id(primary=True),
    _id("workflow_run_id"),
    *_texts(128, "namespace"),
    *_texts(255, "queue", "target_type"),  # the workflow type that a worker must know to run it
    *_texts(16, "task_type", "status"),
    *_texts(255, "compatibility", "lease_owner", nullable=True),
    *_texts(64, "poll_key", nullable=True),
    *_json("payload", nullable=True),
    *_numbers("attempt_count"),
    *_counts("seen_sequence"),
    _id("activity_execution_id", nullable=True),
    Column("last_error", LongText),
    *_moments("available_at", "leased_at", "lease_expires_at", "created_at", "closed_at"),
    UniqueConstraint("poll_key", name="workflow_tasks_poll_key"),
    Index("workflow_tasks_claim", "namespace", "queue", "task_type", "available_at", "id"),
    Index("workflow_tasks_run", "workflow_run_id", "status"),
    Index("workflow_tasks_activity", "activity_execution_id"),
    Index("workflow_tasks_due", "task_type", "available_at"),
)
"""One row per task; a timer is one too, which no worker claims but every node fires.

`available_at` says when the task may next be claimed: its due time while it is ready, the end of its lease while it
is leased, empty once it is closed. So one index range in claim order finds ready tasks and expired leases alike, and
MySQL locks no row but the one it returns. `poll_key` names the poll that holds the task, so that a repeated poll, on
whichever node, finds it and can't be given a second one.
"""

events = _table(
    "workflow_history_events",
    Column("workflow_run_id", String(26), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    _id(),
    *_texts(64, "event_type"),
    Column("payload", LongText, nullable=False),
    _id("workflow_task_id", nullable=True),
    _id("workflow_command_id", nullable=True),
    Column("recorded_at", Moment, nullable=False),
)

commands = _table(
    "workflow_commands",
    _id(primary=True),
    *_texts(128, "workflow_instance_id", "namespace"),
    _id("workflow_run_id"),
    *_texts(255, "request_id"),
    *_texts(64, "fingerprint"),
    *_json("receipt"),
    *_moments("created_at"),
    UniqueConstraint("workflow_instance_id", "request_id", name="workflow_commands_request"),
    Index("workflow_commands_run", "workflow_run_id"),
)
"""The commands that clients may send again, by the id that they gave them; `fingerprint` tells what was asked."""

schedules = _table(
    "workflow_schedules",
    _id(primary=True),
    *_texts(128, "namespace", "schedule_id"),
    *_texts(16, "status"),
    Column("overlap_policy", String(32), nullable=False, server_default="skip"),
    *_json("spec", "action", "memo", "recent_actions", nullable=True),
    *_texts(1000, "note", nullable=True),
    *_texts(128, "latest_workflow_instance_id", nullable=True),
    *_texts(64, "last_skip_reason", nullable=True),
    *_counts("jitter_seconds", "fires_count", "failures_count", "skipped_trigger_count", "last_event_sequence"),
    *_numbers("max_runs", "remaining_actions", nullable=True),
    *_moments("next_fire_at", "last_fired_at", "last_skipped_at", "paused_at", "deleted_at"),
    *_moments("created_at", "updated_at"),
    UniqueConstraint("namespace", "schedule_id", name="workflow_schedules_namespace_schedule_id"),
    Index("workflow_schedules_due", "status", "next_fire_at"),
)
"""A deleted schedule's row stays, with the status deleted, until its history has been pruned; a new one of the same id
takes the row over and goes on with its history.
"""

schedule_events = _table(
    "workflow_schedule_history_events",
    _id(primary=True),
    _id("workflow_schedule_id"),
    *_texts(128, "namespace", "schedule_id"),
    *_numbers("sequence"),
    *_texts(64, "event_type"),
    *_json("payload"),
    *_texts(128, "workflow_instance_id", nullable=True),
    _id("workflow_run_id", nullable=True),
    Column("recorded_at", Moment, nullable=False),
    UniqueConstraint("workflow_schedule_id", "sequence", name="workflow_schedule_history_sequence"),
    Index("workflow_schedule_history_recorded", "namespace", "recorded_at"),
)

activities = _table(
    "activity_executions",
    _id(primary=True),
    _id("workflow_run_id"),
    *_texts(255, "activity_type"),
    *_texts(16, "status"),
    *_texts(32, "payload_codec", nullable=True),
    _id("current_attempt_id", nullable=True),
    Column("arguments", LongText),
    *_json("retry_policy", "outcome", "parallel", nullable=True),
    *_counts("sequence", "attempt_count"),
    *_moments("schedule_to_start_at", "start_to_close_at", "schedule_to_close_at", "heartbeat_at"),
    *_moments("next_deadline_at", "last_heartbeat_at", "created_at", "closed_at"),
    Index("activity_executions_due", "status", "next_deadline_at"),
    Index("activity_executions_run", "workflow_run_id"),
)
"""`next_deadline_at` is the earliest of an execution's deadlines, so that one index finds what has expired."""

attempts = _table(
    "activity_attempts",
    _id(primary=True),
    _id("activity_execution_id"),
    _id("workflow_run_id"),
    _id("task_id"),
    *_texts(255, "lease_owner"),
    *_texts(16, "status"),
    *_numbers("number"),
    *_moments("started_at", "closed_at"),
    Index("activity_attempts_run", "workflow_run_id"),
)
"""One row per claim of an activity task; the task's row is the lease of the current one."""
