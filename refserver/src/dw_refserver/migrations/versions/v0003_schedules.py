"""Schedules that fire: what each keeps, and its history; and an index for listing a namespace's runs.

Each part is created only if it is missing, as in 0001. It is meant to run while the nodes are stopped: building the
index locks the runs for as long as that takes. What is added to tables that have rows may be empty or has a default, so
that nodes of the version before can still write if the upgrade is called off.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.dialects.mysql import DATETIME, LONGTEXT
from sqlalchemy.types import TIMESTAMP

revision = "0003"
down_revision = "0002"

LongText = Text().with_variant(LONGTEXT(), "mysql")
Moment = TIMESTAMP(timezone=True).with_variant(DATETIME(fsp=6), "mysql")
HISTORY, LISTED = "workflow_schedule_history_events", "workflow_runs_listed"


def upgrade() -> None:
    seen = sa.inspect(op.get_bind())
    present = {column["name"] for column in seen.get_columns("workflow_schedules")}
    for column in _added():
        if column.name not in present:
            op.add_column("workflow_schedules", column)
    if LISTED not in {index["name"] for index in seen.get_indexes("workflow_runs")}:
        op.create_index(LISTED, "workflow_runs", ["namespace", "id"])
    if HISTORY not in seen.get_table_names():
        _create_history()


def downgrade() -> None:
    op.drop_table(HISTORY)
    op.drop_index(LISTED, "workflow_runs")
    for column in _added():
        op.drop_column("workflow_schedules", column.name)


def _added() -> list[Column[Any]]:
    return [
        Column("overlap_policy", String(32), nullable=False, server_default="skip"),
        *(Column(name, LongText) for name in ("spec", "action", "memo", "recent_actions")),
        Column("note", String(1000)),
        Column("latest_workflow_instance_id", String(128)),
        Column("last_skip_reason", String(64)),
        *(Column(name, Integer, nullable=False, server_default="0") for name in (
            "jitter_seconds", "fires_count", "failures_count", "skipped_trigger_count", "last_event_sequence",
        )),
        Column("max_runs", Integer),
        Column("remaining_actions", Integer),
        *(Column(name, Moment) for name in (
            "last_fired_at", "last_skipped_at", "paused_at", "deleted_at", "created_at", "updated_at",
        )),
    ]  # fmt: skip


def _create_history() -> None:
    op.create_table(
        HISTORY,
        Column("id", String(26), primary_key=True),
        Column("workflow_schedule_id", String(26), nullable=False),
        Column("namespace", String(128), nullable=False),
        Column("schedule_id", String(128), nullable=False),
        Column("sequence", Integer, nullable=False),
        Column("event_type", String(64), nullable=False),
        Column("payload", LongText, nullable=False),
        Column("workflow_instance_id", String(128)),
        Column("workflow_run_id", String(26)),
        Column("recorded_at", Moment, nullable=False),
        UniqueConstraint("workflow_schedule_id", "sequence", name="workflow_schedule_history_sequence"),
        Index("workflow_schedule_history_recorded", "namespace", "recorded_at"),
        mysql_engine="InnoDB", mysql_charset="utf8mb4", mysql_collate="utf8mb4_0900_bin",
    )  # fmt: skip
