"""Activity tasks: what an execution and its attempts keep, and what a run and its tasks know of them.

Each part is created only if it is missing, as in 0001. What is added to tables that have rows may be empty or has a
default, so that nodes of the version before can go on writing while the new one is rolled out.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, Index, Integer, String, Text
from sqlalchemy.dialects.mysql import DATETIME, LONGTEXT
from sqlalchemy.types import TIMESTAMP

revision = "0002"
down_revision = "0001"

LongText = Text().with_variant(LONGTEXT(), "mysql")
Moment = TIMESTAMP(timezone=True).with_variant(DATETIME(fsp=6), "mysql")
INDEXES = {"workflow_tasks_activity": ("workflow_tasks", "activity_execution_id")}


def upgrade() -> None:
    for table, columns in _added().items():
        present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
        for column in columns:
            if column.name not in present:
                op.add_column(table, column)
    for name, (table, of) in INDEXES.items():
        if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
            op.create_index(name, table, [of])
    if "activity_attempts" not in sa.inspect(op.get_bind()).get_table_names():
        _create_attempts()


def downgrade() -> None:
    op.drop_table("activity_attempts")
    for name, (table, _) in INDEXES.items():
        op.drop_index(name, table)
    for table, columns in _added().items():
        for column in columns:
            op.drop_column(table, column.name)


def _added() -> dict[str, list[Column[Any]]]:
    return {
        "workflow_runs": [_count("last_step"), _count("resume_sequence")],
        "workflow_tasks": [Column("activity_execution_id", String(26)), _count("seen_sequence")],
        "activity_executions": [
            Column("payload_codec", String(32)),
            Column("current_attempt_id", String(26)),
            Column("arguments", LongText),
            Column("retry_policy", LongText),
            Column("outcome", LongText),
            _count("sequence"),
            _count("attempt_count"),
            *(Column(name, Moment) for name in (
                "schedule_to_start_at", "start_to_close_at", "schedule_to_close_at", "heartbeat_at",
                "last_heartbeat_at", "created_at", "closed_at",
            )),
        ],
    }  # fmt: skip


def _create_attempts() -> None:
    op.create_table(
        "activity_attempts",
        Column("id", String(26), primary_key=True),
        Column("activity_execution_id", String(26), nullable=False),
        Column("workflow_run_id", String(26), nullable=False),
        Column("task_id", String(26), nullable=False),
        Column("lease_owner", String(255), nullable=False),
        Column("status", String(16), nullable=False),
        Column("number", Integer, nullable=False),
        Column("started_at", Moment),
        Column("closed_at", Moment),
        Index("activity_attempts_run", "workflow_run_id"),
        mysql_engine="InnoDB", mysql_charset="utf8mb4", mysql_collate="utf8mb4_0900_bin",
    )  # fmt: skip


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")
