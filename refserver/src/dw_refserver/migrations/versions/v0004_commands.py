"""Timers, signals, waits and parallel groups: what runs wait for, and the commands that may be sent again.

Each part is created only if it is missing, as in 0001. What is added to tables that have rows may be empty or has a
default, so that nodes of the version before can go on writing while the new one is rolled out.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.dialects.mysql import DATETIME, LONGTEXT
from sqlalchemy.types import TIMESTAMP

revision = "0004"
down_revision = "0003"

LongText = Text().with_variant(LONGTEXT(), "mysql")
Moment = TIMESTAMP(timezone=True).with_variant(DATETIME(fsp=6), "mysql")
COMMANDS = "workflow_commands"
INDEXES = {
    "workflow_tasks_due": ("workflow_tasks", ["task_type", "available_at"]),
    "workflow_runs_due": ("workflow_runs", ["next_deadline_at"]),
}


def upgrade() -> None:
    seen = sa.inspect(op.get_bind())
    for table, columns in _added().items():
        present = {column["name"] for column in seen.get_columns(table)}
        for column in columns:
            if column.name not in present:
                op.add_column(table, column)
    for name, (table, of) in INDEXES.items():
        if name not in {index["name"] for index in seen.get_indexes(table)}:
            op.create_index(name, table, of)
    if COMMANDS not in seen.get_table_names():
        _create_commands()


def downgrade() -> None:
    op.drop_table(COMMANDS)
    for name, (table, _) in INDEXES.items():
        op.drop_index(name, table)
    for table, columns in _added().items():
        for column in columns:
            op.drop_column(table, column.name)


def _added() -> dict[str, list[Column[Any]]]:
    return {
        "workflow_runs": [
            Column("waiting_on", LongText), Column("last_command", Integer, nullable=False, server_default="1"),
            Column("next_deadline_at", Moment),
        ],
        "activity_executions": [Column("parallel", LongText)],
    }  # fmt: skip


def _create_commands() -> None:
    op.create_table(
        COMMANDS,
        Column("id", String(26), primary_key=True),
        Column("workflow_instance_id", String(128), nullable=False),
        Column("namespace", String(128), nullable=False),
        Column("workflow_run_id", String(26), nullable=False),
        Column("request_id", String(255), nullable=False),
        Column("fingerprint", String(64), nullable=False),
        Column("receipt", LongText, nullable=False),
        Column("created_at", Moment),
        UniqueConstraint("workflow_instance_id", "request_id", name="workflow_commands_request"),
        Index("workflow_commands_run", "workflow_run_id"),
        mysql_engine="InnoDB", mysql_charset="utf8mb4", mysql_collate="utf8mb4_0900_bin",
    )  # fmt: skip
