"""Namespaces, and what bootstrap and readiness ask of the schema."""

from __future__ import annotations

from sqlalchemy import String, bindparam, column, func, insert, select, table
from sqlalchemy.exc import IntegrityError

from dw_refserver.store.database import Database
from dw_refserver.store.dialect import now
from dw_refserver.store.tables import metadata, namespaces

HEAD = "0002"
"""The schema version that this code works with: the newest migration."""

_VERSION = table("alembic_version", column("version_num", String))
_TABLES = table("tables", column("table_name", String), column("table_schema", String), schema="information_schema")

_EXISTS = select(namespaces.c.name).where(namespaces.c.name == bindparam("namespace"))
_ALL = select(namespaces.c.name, namespaces.c.retention_days).order_by(namespaces.c.name)


async def exists(db: Database, namespace: str) -> bool:
    """Whether the namespace is there."""
    return await db.one(_EXISTS, {"namespace": namespace}) is not None


async def every(db: Database) -> list[tuple[str, int]]:
    """Every namespace's name and retention in days."""
    return [(row.name, row.retention_days) for row in await db.all(_ALL)]


async def seed(db: Database, namespace: str, retention_days: int) -> bool:
    """Create the namespace unless it is there; true if this call created it."""
    if await exists(db, namespace):
        return False
    row = {"name": namespace, "description": "Default namespace", "retention_days": retention_days, "status": "active"}
    try:
        await db.run(insert(namespaces).values(**row, created_at=now(), updated_at=now()))
    except IntegrityError:  # another bootstrap was quicker
        return False
    return True


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
