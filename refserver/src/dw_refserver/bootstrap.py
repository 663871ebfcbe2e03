"""The one-shot job before anything serves: migrations and the default namespace. Safe twice, and several at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from dw_refserver.settings import Settings
from dw_refserver.store import namespaces
from dw_refserver.store.database import BackendUnavailableError, Database, cause_of, is_gone, opened

_LOCK = 7_303_014
_LOCK_SECONDS = 120


def run(settings: Settings) -> int:
    """Bring the database up to this version; print what was done. 0 if it is done, 1 if it could not be."""
    return asyncio.run(_run(settings))


class MigrationRefusedError(Exception):
    """The database is there and does not take a migration: trying again would not help."""


async def _run(settings: Settings) -> int:
    """Try DW_BOOTSTRAP_RETRIES times in all, and say how each try went."""
    where = f"{settings.database.kind} at {settings.database.host}:{settings.database.port}"
    for attempt in range(1, settings.bootstrap_retries + 1):
        try:
            async with opened(settings.database, "bootstrap") as db:
                await _bring_up(db, settings)
        except MigrationRefusedError as error:
            _say(f"{where} does not take the migration: {error}")
            return 1
        except (DBAPIError, BackendUnavailableError, OSError) as error:
            _say(
                f"try {attempt} of {settings.bootstrap_retries}: {where} refused or is out of reach: {cause_of(error)}"
            )
        else:
            return 0
        if attempt < settings.bootstrap_retries:
            await asyncio.sleep(settings.bootstrap_delay)
    _say(f"gave up: check DB_HOST, DB_PORT, DB_DATABASE, DB_USERNAME, DB_PASSWORD, and that {where} runs")
    return 1


async def _bring_up(db: Database, settings: Settings) -> None:
    async with db.transaction.connect() as connection:
        await _lock(db, connection)
        try:
            before, after = await connection.run_sync(_migrate)
        except DBAPIError as error:
            raise error if is_gone(error) else MigrationRefusedError(cause_of(error)) from error
        await connection.commit()
        created = await namespaces.seed(db, settings.default_namespace, settings.retention_days)
    change = f"{before or 'none'} -> {after}" if before != after else f"{after}, already current"
    _say(f"schema version {change}")
    _say(f"namespace '{settings.default_namespace}' {'created' if created else 'already there'}")


async def _lock(db: Database, connection: AsyncConnection) -> None:
    """One bootstrap at a time; the lock ends with the connection."""
    if db.postgres:
        await connection.execute(text(f"SET lock_timeout = '{_LOCK_SECONDS}s'"))
        await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
    else:
        taken = await connection.scalar(text("SELECT GET_LOCK('dw-bootstrap', :seconds)"), {"seconds": _LOCK_SECONDS})
        if not taken:
            raise BackendUnavailableError(f"another bootstrap has held the lock for {_LOCK_SECONDS} seconds")
    await connection.commit()


def _migrate(connection: Connection) -> tuple[str | None, str | None]:
    """The schema version before and after."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext

    before = MigrationContext.configure(connection).get_current_revision()
    if before != namespaces.HEAD:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, MigrationContext.configure(connection).get_current_revision()


def _say(line: str) -> None:
    print(f"bootstrap: {line}", flush=True)  # noqa: T201 - what a person reads in the job's log
