"""Task queues as operators and admission see them: names, what is ready, what is leased. A queue has no row of its own.

Closed tasks are not read: the claim index keeps them apart by their empty `available_at`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row, bindparam, case, func, select

from dw_refserver.store.database import Database
from dw_refserver.store.dialect import now, seconds_until
from dw_refserver.store.tables import runs, tasks

T, R = tasks.c, runs.c
KINDS = ("workflow", "activity")

_MOST_LEASES = 1000


def _first_name(*after: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    return (
        select(T.queue).where(T.namespace == bindparam("ns"), *after).order_by(T.queue).limit(1).scalar_subquery()
    )  # fmt: skip


def _walked() -> sa.Select[Any]:
    """PostgreSQL must be led along the index, one step per queue; MySQL takes these steps where it groups by it."""
    walk = select(_first_name().label("name")).cte("walk", recursive=True)
    walk = walk.union_all(select(_first_name(T.queue > walk.c.name)).where(walk.c.name.is_not(None)))
    return select(walk.c.name).where(walk.c.name.is_not(None))


_GROUPED = select(T.queue.label("name")).where(T.namespace == bindparam("ns")).group_by(T.namespace, T.queue)
_WALKED = _walked()
_OPEN = (
    sa.tuple_(T.namespace, T.queue, T.task_type).in_(bindparam("queues", expanding=True))
    & T.available_at.is_not(None)
)  # fmt: skip
_READY = (T.status == "ready") & (T.available_at <= now())
_HELD = (T.status == "leased") & (T.lease_expires_at > now())
_EXPIRED = (T.status == "leased") & (T.lease_expires_at <= now())


def _count(name: str, which: sa.ColumnElement[bool]) -> sa.Label[Any]:
    return func.count(case((which, 1))).label(name)


_COUNTS = (
    select(T.queue, T.task_type, _count("ready_count", _READY), _count("leased_count", _HELD),
           _count("expired_lease_count", _EXPIRED))
    .where(_OPEN)
    .group_by(T.queue, T.task_type)
)  # fmt: skip
_IN_LINE = (
    select(T.id, T.queue, T.task_type, T.workflow_run_id, T.available_at,
           func.row_number().over(partition_by=T.queue, order_by=(T.available_at, T.id)).label("place"))
    .where(_OPEN, _READY)
    .subquery("in_line")
)  # fmt: skip
_OLDEST = (
    select(_IN_LINE, R.workflow_instance_id, seconds_until(_IN_LINE.c.available_at).label("due_in"))
    .join_from(_IN_LINE, runs, R.id == _IN_LINE.c.workflow_run_id)
    .where(_IN_LINE.c.place == 1)
)
_LEASES = (
    select(T.id, T.task_type, R.workflow_instance_id, T.workflow_run_id, T.lease_owner, T.lease_expires_at,
           T.attempt_count, seconds_until(T.lease_expires_at).label("ends_in"))
    .join_from(tasks, runs, R.id == T.workflow_run_id)
    .where(_OPEN, T.status == "leased")
    .order_by(T.lease_expires_at, T.id)
    .limit(_MOST_LEASES)
)  # fmt: skip
_LEASED = (
    select(T.queue, func.count().label("leased"))
    .where(_OPEN, T.available_at > now(), _HELD)
    .where(T.poll_key.is_(None) | (T.poll_key != bindparam("poll", type_=sa.String)))
    .group_by(T.queue)
)


def _queues(namespace: str, names: Sequence[str], kinds: Sequence[str] = KINDS) -> dict[str, Any]:
    return {"queues": [(namespace, name, kind) for name in names for kind in kinds]}


async def names(db: Database, namespace: str) -> list[str]:
    """The queues on which the namespace has, or keeps, tasks; as quick as there are few queues, however many tasks."""
    return [row.name for row in await db.all(_WALKED if db.postgres else _GROUPED, {"ns": namespace})]


async def counts(db: Database, namespace: str, queues: Sequence[str]) -> Sequence[Row[Any]]:
    """Per queue and kind of task that has any: how many are ready, leased, and leased for too long."""
    return await db.all(_COUNTS, _queues(namespace, queues)) if queues else ()


async def oldest(db: Database, namespace: str, queues: Sequence[str]) -> Sequence[Row[Any]]:
    """Per queue the task that has been ready for longest; `due_in` is minus its seconds."""
    return await db.all(_OLDEST, _queues(namespace, queues)) if queues else ()


async def leases(db: Database, namespace: str, queue: str) -> Sequence[Row[Any]]:
    """The queue's leased tasks, at most a thousand, the first to end first; `ends_in` is in seconds."""
    return await db.all(_LEASES, _queues(namespace, [queue]))


async def leased(db: Database, namespace: str, kind: str, names: Sequence[str], poll_key: str | None) -> dict[str, int]:
    """How many tasks of a kind are leased per queue, without what the poll of this key holds already."""
    values = {**_queues(namespace, names, [kind]), "poll": poll_key or ""}
    return {row.queue: row.leased for row in await db.all(_LEASED, values)} if names else {}
