"""Namespaces that keep their closed runs for ever.

Created only if it is missing, as in 0001. Its default is what every namespace did before.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, String

revision = "0005"
down_revision = "0004"

TABLE, COLUMN = "workflow_namespaces", "retention_mode"


def upgrade() -> None:
    if COLUMN not in {column["name"] for column in sa.inspect(op.get_bind()).get_columns(TABLE)}:
        op.add_column(TABLE, Column(COLUMN, String(32), nullable=False, server_default="bounded"))


def downgrade() -> None:
    op.drop_column(TABLE, COLUMN)
