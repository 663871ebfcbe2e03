"""Transactions: a deadlock runs the whole of one again, and what readers see is what has been committed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dw_refserver.settings import load
from dw_refserver.store import database
from dw_refserver.store import namespaces as store
from dw_refserver.store.database import LOCK_SECONDS, BackendUnavailableError, Database, opened
from dw_refserver.store.tables import namespaces
from sqlalchemy import event, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from refserver.harness import Cluster

pytestmark = pytest.mark.refserver


class Crossing:
    """Two transactions that lock the same two rows in opposite order, and meet in the middle on their first try."""

    def __init__(self, db: Database) -> None:
        self.db, self.meet, self.tries = db, asyncio.Barrier(2), 0

    async def go(self, first: str, second: str) -> None:
        mine = 0

        async def work(connection: AsyncConnection) -> None:
            nonlocal mine
            mine, self.tries = mine + 1, self.tries + 1
            await self.lock(connection, first)
            if mine == 1:
                await self.meet.wait()
            await self.lock(connection, second)

        await self.db.transact(work)

    async def lock(self, connection: AsyncConnection, name: str) -> None:
        days = namespaces.c.retention_days
        await connection.execute(update(namespaces).where(namespaces.c.name == name).values(retention_days=days + 1))


def test_a_deadlock_is_tried_again_whole(cluster: Cluster) -> None:
    async def scenario() -> tuple[int, list[int]]:
        async with opened(load(cluster.env).database, "test", connections=4) as db:
            for name in ("left", "right"):
                await store.seed(db, name, 30)
            crossing = Crossing(db)
            await asyncio.gather(crossing.go("left", "right"), crossing.go("right", "left"))
            days = {row.name: row.retention_days for row in await store.every(db)}
            return crossing.tries, [days["left"], days["right"]]

    tries, days = asyncio.run(scenario())
    assert tries >= 3, "one of the two must have been the victim"
    assert days == [32, 32], "each took effect once"


def test_a_lock_that_is_held_too_long_is_waited_for_again(cluster: Cluster) -> None:
    async def scenario() -> tuple[int, int]:
        tries, days = 0, namespaces.c.retention_days
        statement = update(namespaces).where(namespaces.c.name == "held").values(retention_days=days + 1)

        async def work(connection: AsyncConnection) -> None:
            nonlocal tries
            tries += 1
            await connection.execute(statement)

        async with opened(load(cluster.env).database, "test", connections=4) as db:
            await store.seed(db, "held", 30)
            async with db.transaction.begin() as holding:
                await holding.execute(statement)
                waiting = asyncio.create_task(db.transact(work))
                await asyncio.sleep(LOCK_SECONDS + 0.5)
            await waiting
            held = await store.find(db, "held")
            assert held is not None
            return tries, held.retention_days

    assert asyncio.run(scenario()) == (2, 32)


def test_an_outage_leaves_no_connection_behind(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What timed out is closed, and so is what was idle meanwhile; nothing waits for the garbage collector."""
    monkeypatch.setattr(database, "OPERATION_SECONDS", 0.3)

    async def scenario() -> list[bool]:
        async with opened(load(cluster.env).database, "test", connections=4) as db:
            kept: list[Any] = []
            event.listen(db.statement.sync_engine, "connect", lambda raw, _: kept.append(raw.driver_connection))
            nap = text("select pg_sleep(2)" if db.postgres else "select sleep(2)")
            await asyncio.gather(*(db.run(text("select 1")) for _ in range(4)))
            with pytest.raises(BackendUnavailableError):
                await db.run(nap)
            old = list(kept)
            await asyncio.gather(*(db.run(text("select 1")) for _ in range(4)))
            return [raw.is_closed() if db.postgres else not raw.connected for raw in old]

    assert asyncio.run(scenario()) == [True] * 4


def test_both_databases_read_committed(cluster: Cluster) -> None:
    """A row committed by another connection is seen by a later read of the same transaction."""

    async def scenario() -> list[Any]:
        async with opened(load(cluster.env).database, "test", connections=4) as db:
            query = select(namespaces.c.name).where(namespaces.c.name == "between")
            async with db.transaction.begin() as reading:
                before = (await reading.execute(query)).first()
                await store.seed(db, "between", 30)
                after = (await reading.execute(query)).first()
            await db.run(text("delete from workflow_namespaces where name = 'between'"))
            return [before, after]

    before, after = asyncio.run(scenario())
    assert before is None
    assert after is not None
