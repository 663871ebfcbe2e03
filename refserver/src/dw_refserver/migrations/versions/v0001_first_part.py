"""Namespaces, workers, instances, runs, tasks, history; schedules and activities for the passes to look at.

Each table is created only if it is missing, so that a bootstrap which died half-way (MySQL commits every DDL
statement by itself) can be run again.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.dialects.mysql import DATETIME, LONGTEXT
from sqlalchemy.types import TIMESTAMP

revision = "0001"
down_revision = None

LongText = Text().with_variant(LONGTEXT(), "mysql")
Moment = TIMESTAMP(timezone=True).with_variant(DATETIME(fsp=6), "mysql")


def upgrade() -> None:
    _table(
        "workflow_namespaces",
        Column("name", String(128), primary_key=True),
        Column("description", String(1000)),
        Column("retention_days", Integer, nullable=False),
        Column("status", String(32), nullable=False),
        *_moments("created_at", "updated_at"),
    )
    _table(
        "workflow_worker_registrations",
        Column("namespace", String(128), primary_key=True),
        Column("worker_id", String(255), primary_key=True),
        Column("task_queue", String(255), nullable=False),
        Column("runtime", String(32), nullable=False),
        Column("sdk_version", String(255)),
        Column("build_id", String(255)),
        Column("supported_workflow_types", LongText, nullable=False),
        Column("supported_activity_types", LongText, nullable=False),
        Column("workflow_definition_fingerprints", LongText, nullable=False),
        Column("capabilities", LongText, nullable=False),
        Column("capability_manifest", LongText, nullable=False),
        Column("max_concurrent_workflow_tasks", Integer, nullable=False),
        Column("max_concurrent_activity_tasks", Integer, nullable=False),
        Column("status", String(32), nullable=False),
        *_moments("last_heartbeat_at", "created_at", "updated_at"),
        Index("workflow_worker_registrations_queue", "namespace", "task_queue"),
    )
    _table(
        "workflow_instances",
        Column("id", String(128), primary_key=True),
        Column("namespace", String(128), nullable=False),
        Column("workflow_type", String(255), nullable=False),
        Column("business_key", String(191)),
        _id("current_run_id"),
        Column("run_count", Integer, nullable=False),
        Column("execution_timeout_seconds", Integer),
        *_moments("created_at"),
    )
    _table(
        "workflow_runs",
        _id(primary=True),
        Column("workflow_instance_id", String(128), nullable=False),
        Column("run_number", Integer, nullable=False),
        Column("namespace", String(128), nullable=False),
        Column("workflow_type", String(255), nullable=False),
        Column("business_key", String(191)),
        Column("memo", LongText),
        Column("status", String(32), nullable=False),
        Column("closed_reason", String(32)),
        Column("compatibility", String(255)),
        Column("payload_codec", String(32), nullable=False),
        Column("arguments", LongText),
        Column("output", LongText),
        Column("queue", String(255), nullable=False),
        Column("last_history_sequence", Integer, nullable=False),
        Column("run_timeout_seconds", Integer),
        *_moments("execution_deadline_at", "run_deadline_at"),
        *_moments("started_at", "closed_at", "archived_at", "last_progress_at"),
        UniqueConstraint("workflow_instance_id", "run_number", name="workflow_runs_instance_number"),
        Index("workflow_runs_closed", "namespace", "closed_at"),
    )
    _table(
        "workflow_tasks",
        _id(primary=True),
        _id("workflow_run_id"),
        Column("namespace", String(128), nullable=False),
        Column("queue", String(255), nullable=False),
        Column("task_type", String(16), nullable=False),
        Column("target_type", String(255), nullable=False),
        Column("status", String(16), nullable=False),
        Column("compatibility", String(255)),
        Column("payload", LongText),
        Column("available_at", Moment),
        Column("lease_owner", String(255)),
        Column("poll_key", String(64)),
        Column("attempt_count", Integer, nullable=False),
        Column("last_error", LongText),
        *_moments("leased_at", "lease_expires_at", "created_at", "closed_at"),
        UniqueConstraint("poll_key", name="workflow_tasks_poll_key"),
        Index("workflow_tasks_claim", "namespace", "queue", "task_type", "available_at", "id"),
        Index("workflow_tasks_run", "workflow_run_id", "status"),
    )
    _table(
        "workflow_history_events",
        Column("workflow_run_id", String(26), primary_key=True),
        Column("sequence", Integer, primary_key=True, autoincrement=False),
        _id(),
        Column("event_type", String(64), nullable=False),
        Column("payload", LongText, nullable=False),
        _id("workflow_task_id", nullable=True),
        _id("workflow_command_id", nullable=True),
        Column("recorded_at", Moment, nullable=False),
    )
    _table(
        "workflow_schedules",
        _id(primary=True),
        Column("namespace", String(128), nullable=False),
        Column("schedule_id", String(128), nullable=False),
        Column("status", String(16), nullable=False),
        *_moments("next_fire_at"),
        UniqueConstraint("namespace", "schedule_id", name="workflow_schedules_namespace_schedule_id"),
        Index("workflow_schedules_due", "status", "next_fire_at"),
    )
    _table(
        "activity_executions",
        _id(primary=True),
        _id("workflow_run_id"),
        Column("activity_type", String(255), nullable=False),
        Column("status", String(16), nullable=False),
        *_moments("next_deadline_at"),
        Index("activity_executions_due", "status", "next_deadline_at"),
        Index("activity_executions_run", "workflow_run_id"),
    )


def downgrade() -> None:
    raise NotImplementedError("go back by restoring the backup that was taken before the upgrade")


def _table(name: str, *parts: Any) -> None:
    if name in sa.inspect(op.get_bind()).get_table_names():
        return
    options: dict[str, Any] = {
        "mysql_engine": "InnoDB",
        "mysql_charset": "utf8mb4",
        "mysql_collate": "utf8mb4_0900_bin",
    }
    op.create_table(name, *parts, **options)


def _id(name: str = "id", *, primary: bool = False, nullable: bool = False) -> Column[str]:
    return Column(name, String(26), primary_key=primary, nullable=nullable)


def _moments(*names: str) -> list[Column[Any]]:
    return [Column(name, Moment) for name in names]
