"""Worker registrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Float, Row, String, bindparam, delete, select, update
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from dw_refserver.store.database import Database
from dw_refserver.store.dialect import now, seconds_until, supports
from dw_refserver.store.tables import workers

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


async def remove(db: Database, namespace: str, worker_id: str) -> bool:
    """Forget a registration; false if it isn't there."""
    return (await db.run(delete(workers).where(_KEY), {"ns": namespace, "worker": worker_id})).rowcount > 0


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
