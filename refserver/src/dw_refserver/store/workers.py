"""Worker registrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BindParameter, Float, Row, String, bindparam, delete, select, update
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dw_refserver.store.database import Database
from dw_refserver.store.dialect import now, seconds_until, supports
from dw_refserver.store.tables import tasks, workers

_KEY = (workers.c.namespace == bindparam("ns")) & (workers.c.worker_id == bindparam("worker"))
_FIND = select(workers, seconds_until(workers.c.last_heartbeat_at).label("heard_in")).where(_KEY)
_ALL = (
    select(workers, seconds_until(workers.c.last_heartbeat_at).label("heard_in"))
    .where(workers.c.namespace == bindparam("ns"))
    .order_by(workers.c.last_heartbeat_at.desc(), workers.c.worker_id)
)
_OF_QUEUE = _ALL.where(workers.c.task_queue == bindparam("q"))
_BEAT = update(workers).where(_KEY).values(last_heartbeat_at=now(), updated_at=now())

_ABLE = (
    select(workers.c.worker_id)
    .where(workers.c.namespace == bindparam("ns"), workers.c.task_queue == bindparam("q"))
    .where(workers.c.status == "active", workers.c.runtime != "php")
    .where(seconds_until(workers.c.last_heartbeat_at) >= -bindparam("stale_after", type_=Float))
    .where(supports(workers.c.supported_workflow_types, bindparam("type", type_=String)))
    .limit(1)
)


async def any_able(db: Database, namespace: str, queue: str, workflow_type: str, stale_after: float) -> bool:
    """Whether an active worker of the queue, heard of lately, can run the type; one that runs PHP can't be asked."""
    values = {"ns": namespace, "q": queue, "type": workflow_type, "stale_after": stale_after}
    return await db.one(_ABLE, values) is not None


async def find(db: Database, namespace: str, worker_id: str) -> Row[Any] | None:
    """The registration, or None. `heard_in` is minus the seconds since its last heartbeat."""
    return await db.one(_FIND, {"ns": namespace, "worker": worker_id})


async def every(db: Database, namespace: str, queue: str | None = None) -> Sequence[Row[Any]]:
    """The namespace's registrations, or one queue's, the last heard of first, with `heard_in` as above."""
    return await db.all(_ALL if queue is None else _OF_QUEUE, {"ns": namespace, "q": queue})


async def register(db: Database, row: Mapping[str, Any]) -> None:
    """Insert the registration or overwrite the one with the same worker id; its clock starts again."""
    kept = {name: value for name, value in row.items() if name not in ("namespace", "worker_id")}
    fresh = {"last_heartbeat_at": now(), "updated_at": now()}
    created = {**row, **fresh, "created_at": now()}
    if db.postgres:
        key = ["namespace", "worker_id"]
        insert = postgres_insert(workers).values(created)
        await db.run(insert.on_conflict_do_update(index_elements=key, set_={**kept, **fresh}))
    else:
        await db.run(mysql_insert(workers).values(created).on_duplicate_key_update({**kept, **fresh}))


async def beat(db: Database, namespace: str, worker_id: str) -> bool:
    """Note that the worker is alive; false if it isn't registered."""
    return (await db.run(_BEAT, {"ns": namespace, "worker": worker_id})).rowcount > 0


_REMOVE = delete(workers).where(_KEY)
_QUEUE = select(workers.c.task_queue).where(_KEY).with_for_update()
_LEASED = (
    select(tasks.c.id, tasks.c.queue, tasks.c.target_type)
    .where(tasks.c.namespace == bindparam("ns"), tasks.c.queue == bindparam("q"), tasks.c.task_type == "workflow")
    .where(tasks.c.available_at > now(), tasks.c.status == "leased", tasks.c.lease_owner == bindparam("worker"))
    .with_for_update()
)
_IDS: BindParameter[str] = bindparam("ids", expanding=True)
_RELEASE = (
    update(tasks)
    .where(tasks.c.id.in_(_IDS))
    .values(status="ready", lease_owner=None, poll_key=None, lease_expires_at=sa.null(), available_at=now())
)


async def remove(db: Database, namespace: str, worker_id: str) -> Sequence[Row[Any]] | None:
    """Delete the registration and release the workflow tasks that its worker holds, which are given; None if it isn't
    there. No poll of the worker claims anything afterwards: a claim asks for the registration."""
    key = {"ns": namespace, "worker": worker_id}

    async def work(connection: AsyncConnection) -> Sequence[Row[Any]] | None:
        queue = (await connection.execute(_QUEUE, key)).scalar()
        if queue is None:
            return None
        await connection.execute(_REMOVE, key)
        leased: Sequence[Any] = (await connection.execute(_LEASED, {**key, "q": queue})).all()
        if leased:
            await connection.execute(_RELEASE, {"ids": [task.id for task in leased]})
        return leased

    return await db.transact(work)
