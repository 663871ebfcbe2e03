"""Namespaces, and what bootstrap and readiness ask of the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, String, bindparam, column, func, insert, select, table, update
from sqlalchemy.exc import IntegrityError

from dw_refserver.store.database import Database
from dw_refserver.store.dialect import now
from dw_refserver.store.tables import metadata, namespaces

HEAD = "0005"
"""The schema version that this code works with: the newest migration."""

BOUNDED, FOREVER = RETENTION_MODES = ("bounded", "forever")
"""Whether closed runs are kept for a namespace's retention or for ever."""

_VERSION = table("alembic_version", column("version_num", String))
_TABLES = table("tables", column("table_name", String), column("table_schema", String), schema="information_schema")

_ALL = select(namespaces).order_by(namespaces.c.name)
_ONE = select(namespaces).where(namespaces.c.name == bindparam("namespace"))


async def find(db: Database, namespace: str) -> Row[Any] | None:
    """The namespace, if it is there."""
    return await db.one(_ONE, {"namespace": namespace})


async def exists(db: Database, namespace: str) -> bool:
    """Whether the namespace is there."""
    return await find(db, namespace) is not None


async def every(db: Database) -> Sequence[Row[Any]]:
    """All namespaces by name."""
    return await db.all(_ALL)


async def create(
    db: Database, namespace: str, description: str | None, retention_days: int, retention_mode: str = BOUNDED
) -> bool:
    """Create the namespace; false if it is there."""
    row: dict[str, Any] = {"name": namespace, "description": description, "status": "active"}
    row |= {"retention_days": retention_days, "retention_mode": retention_mode}
    try:
        await db.run(insert(namespaces).values(**row, created_at=now(), updated_at=now()))
    except IntegrityError:
        return False
    return True


async def change(db: Database, namespace: str, changes: Mapping[str, Any]) -> None:
    """Set these columns of the namespace, if it is there."""
    await db.run(update(namespaces).where(namespaces.c.name == namespace).values(**changes, updated_at=now()))


async def seed(db: Database, namespace: str, retention_days: int) -> bool:
    """Create the namespace unless it is there; true if this call created it."""
    if await exists(db, namespace):
        return False
    return await create(db, namespace, "Default namespace", retention_days)


async def tables_present(db: Database) -> set[str]:
    """Which of the server's tables, and the migration table, are in the database."""
    here = func.current_schema() if db.postgres else func.database()
    rows = await db.all(select(_TABLES.c.table_name.label("name")).where(_TABLES.c.table_schema == here))
    return {row.name for row in rows} & {*metadata.tables, "alembic_version"}


async def schema_version(db: Database) -> str | None:
    """The newest migration that has been applied; None on an empty migration table."""
    row = await db.one(select(_VERSION.c.version_num))
    return row and str(row[0])


async def ping(db: Database) -> None:
    """Prove that the database answers; raises if it doesn't."""
    await db.run(select(now()))
