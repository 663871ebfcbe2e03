"""Connections, the database's clock, and transactions that are tried again when the database asks for it.

Two pools: `statement` for work that is one statement (its own transaction, one round trip), `transaction` for
work that is several. Both run READ COMMITTED: under MySQL's default a plain SELECT would not see the row that a
locking read in the same transaction has just found.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import CursorResult, Executable, Row, UpdateBase, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.visitors import iterate

from dw_refserver.settings import Database as Where

T = TypeVar("T")

TRIES = 6
"""How often a transaction is run in all before the database's refusal is passed on."""

OPERATION_SECONDS = 5.0
"""The longest that a request waits for the database; a host that hangs must not hang its callers."""

LOCK_SECONDS = 2
"""The longest that a statement waits for another transaction's lock before its own transaction is tried again."""

_RETRY_SQLSTATES = {"40001", "40P01", "55P03"}
_RETRY_ERRNOS = {1205, 1213, 3572}
_WENT_AWAY = ("closed", "does not expose socket instance")
"""What a RuntimeError says where a connection went away a moment ago: uvloop's word, and asyncmy's."""


class BackendUnavailableError(Exception):
    """The database can't be reached or doesn't answer; whether the last write took effect is not known."""


class LostRaceError(BackendUnavailableError):
    """What was read kept changing before the write; nothing was written, and the caller may ask again."""


def cause_of(error: BaseException) -> str:
    """What lies at the bottom of a database error, in one line for a log."""
    while under := getattr(error, "orig", None) or error.__cause__:
        error = under
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


class Database:
    """The pools of one process."""

    def __init__(self, where: Where, label: str, connections: int = 8) -> None:
        self.postgres = where.postgres
        self.statement = _engine(where, label, connections, "AUTOCOMMIT")
        self.transaction = _engine(where, label, connections, "READ COMMITTED")
        self.lost_at = 0.0
        for engine in (self.statement, self.transaction):
            event.listen(engine.sync_engine, "checkout", self._replace_if_old)

    async def run(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        """Run one statement as a transaction of its own."""

        async def once() -> CursorResult[Any]:
            async with self.statement.connect() as connection:
                return await connection.execute(statement, values)

        return await self._guarded(once)

    async def one(self, statement: Executable, values: Any = None) -> Row[Any] | None:
        """Run one statement and give its only row, if it has one."""
        return (await self.run(statement, values)).first()

    async def all(self, statement: Executable, values: Any = None) -> Sequence[Row[Any]]:
        """Run one statement and give its rows."""
        return (await self.run(statement, values)).all()

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in one transaction and return after its commit.

        A deadlock, lock timeout or serialization failure runs the whole of it again, `TRIES` times in all, so
        `work` must not touch anything but its connection.
        """

        async def once() -> T:
            async with self.transaction.begin() as connection:
                return await work(connection)

        return await self._guarded(once)

    async def write(self, values: Mapping[str, Any], *statements: UpdateBase) -> None:
        """Run writes that don't depend on one another's results as one transaction.

        PostgreSQL takes them as one statement, a CTE each: one round trip. MySQL takes them in turn.
        """
        if self.postgres:
            await self.run(_together(statements), values)
            return

        async def in_turn(connection: AsyncConnection) -> None:
            await execute_each(connection, values, statements)

        await self.transact(in_turn)

    async def _guarded(self, once: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                return await _retried(once)
        except PoolTimeoutError as error:
            raise BackendUnavailableError("all connections are busy") from error
        except OSError as error:  # TimeoutError and ConnectionError among them
            self.lost_at = time.monotonic()
            raise BackendUnavailableError(type(error).__name__) from error

    def _replace_if_old(self, connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        """A connection from before an outage may be dead without showing it, so no request begins with one."""
        if record.info.setdefault("since", time.monotonic()) < self.lost_at:
            driver = connection.driver_connection
            getattr(driver, "terminate", driver.close)()  # at once: what is dead would not say goodbye
            raise DisconnectionError

    async def dispose(self) -> None:
        """Close every connection; one whose host hangs is left to the operating system."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.gather(self.statement.dispose(), self.transaction.dispose())


@asynccontextmanager
async def opened(where: Where, label: str, connections: int = 2) -> AsyncIterator[Database]:
    """A database for a command that ends."""
    database = Database(where, label, connections)
    try:
        yield database
    finally:
        await database.dispose()


async def execute_each(
    connection: AsyncConnection, values: Mapping[str, Any], statements: Iterable[UpdateBase]
) -> None:
    """Run statements in turn, each with the values it names."""
    for statement in statements:
        await connection.execute(statement, {name: values[name] for name in _names(statement)})


async def execute_together(
    connection: AsyncConnection, values: Mapping[str, Any], statements: Sequence[UpdateBase], *, postgres: bool
) -> None:
    """Run writes that don't depend on one another's results: as one statement where that can be, else in turn."""
    if postgres:
        await connection.execute(_together(tuple(statements)), values)
    else:
        await execute_each(connection, values, statements)


@lru_cache
def _together(statements: tuple[UpdateBase, ...]) -> sa.Select[Any]:
    parts = [statement.cte(f"part_{number}") for number, statement in enumerate(statements)]
    return sa.select(sa.literal_column("1")).add_cte(*parts)


@lru_cache
def _names(statement: UpdateBase) -> frozenset[str]:
    return frozenset(part.key for part in iterate(statement) if isinstance(part, sa.BindParameter) and part.required)


def url_of(where: Where) -> sa.URL:
    """The address with its driver; it holds the password, so it is never printed."""
    driver = "postgresql+asyncpg" if where.postgres else "mysql+asyncmy"
    return sa.URL.create(driver, where.user, where.password or None, where.host, where.port, where.name)


def _engine(where: Where, label: str, connections: int, isolation: str) -> AsyncEngine:
    return create_async_engine(
        url_of(where),
        isolation_level=isolation,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=OPERATION_SECONDS / 2,
        pool_reset_on_return=None,  # every use commits or rolls back by itself; a third round trip is saved
        skip_autocommit_rollback=True,
        connect_args=_connect_arguments(where, label),
    )


def _connect_arguments(where: Where, label: str) -> dict[str, Any]:
    """READ COMMITTED for single statements too, and a bound on waiting for a lock that leaves time to try again."""
    if where.postgres:
        settings = {"application_name": f"dw-refserver {label}"[:63], "jit": "off", "lock_timeout": f"{LOCK_SECONDS}s",
                    "default_transaction_isolation": "read committed"}  # fmt: skip
        return {"timeout": 3, "server_settings": settings}
    first = f"SET transaction_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = {LOCK_SECONDS}"
    return {"connect_timeout": 3, "charset": "utf8mb4", "init_command": first}


async def _retried(once: Callable[[], Awaitable[T]]) -> T:
    for attempt in range(1, TRIES + 1):
        try:
            return await once()
        except RuntimeError as error:
            if not any(word in str(error) for word in _WENT_AWAY):
                raise
            raise ConnectionError("closed") from error
        except DBAPIError as error:
            if is_gone(error):
                raise ConnectionError(cause_of(error)) from error
            if not _asks_for_retry(error):
                raise
        await asyncio.sleep(0.005 * 2**attempt)  # let the other transaction finish first
    raise BackendUnavailableError(f"refused {TRIES} times")


def _asks_for_retry(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in _RETRY_SQLSTATES or _errno(error) in _RETRY_ERRNOS


def is_gone(error: DBAPIError) -> bool:
    """Whether the connection, not the statement, is what failed."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state[:2] in ("08", "57", "53") or _errno(error) in (1040, 2003, 2006, 2013)


def _errno(error: DBAPIError) -> int | None:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None
