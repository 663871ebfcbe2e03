"""What the scheduler's passes look for, and the deletion of a closed run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, Float, Row, bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dw_refserver.store.database import Database
from dw_refserver.store.dialect import later, now
from dw_refserver.store.tables import (
    activities,
    attempts,
    commands,
    events,
    instances,
    runs,
    schedule_events,
    schedules,
    tasks,
)

_EXPIRED_ACTIVITIES = (
    select(activities.c.id, runs.c.namespace)
    .join_from(activities, runs, runs.c.id == activities.c.workflow_run_id)
    .where(activities.c.status.in_(("pending", "running")), activities.c.next_deadline_at <= now())
    .order_by(activities.c.next_deadline_at)
    .limit(bindparam("limit"))
)
_PAST_RETENTION = (
    (runs.c.namespace == bindparam("ns"))
    & (runs.c.closed_at < later(bindparam("ago", type_=Float)))
    & runs.c.archived_at.is_(None)
)
_PRUNABLE = select(runs.c.id).where(_PAST_RETENTION).order_by(runs.c.closed_at).limit(bindparam("limit"))
_CHOSEN = select(runs.c.id, runs.c.workflow_instance_id).where(_PAST_RETENTION, runs.c.id == bindparam("run"))


async def expired_activities(db: Database, limit: int) -> Sequence[Row[Any]]:
    """Open activity executions past one of their deadlines, with their namespace, the longest overdue first."""
    return await db.all(_EXPIRED_ACTIVITIES, {"limit": limit})


async def prunable_runs(db: Database, namespace: str, retention_days: int, limit: int) -> list[str]:
    """Closed runs of the namespace past its retention, oldest first."""
    values = {"ns": namespace, "ago": -86_400.0 * retention_days, "limit": limit}
    return [row.id for row in await db.all(_PRUNABLE, values)]


async def prune_run(db: Database, namespace: str, retention_days: int, run_id: str) -> bool:
    """Delete a run with all that belongs to it, in one transaction.

    False if it is no longer there or no longer past retention; the row lock keeps two passes from both counting it.
    """
    values = {"ns": namespace, "ago": -86_400.0 * retention_days, "run": run_id}

    async def work(connection: AsyncConnection) -> bool:
        chosen = (await connection.execute(_CHOSEN.with_for_update(skip_locked=True), values)).first()
        if chosen is None:
            return False
        await _delete_run(connection, run_id, chosen.workflow_instance_id)
        return True

    return await db.transact(work)


async def _delete_run(connection: AsyncConnection, run_id: str, workflow_id: str) -> None:
    for table in (events, tasks, attempts, activities, commands):
        await connection.execute(delete(table).where(table.c.workflow_run_id == run_id))
    await connection.execute(delete(runs).where(runs.c.id == run_id))
    others = select(runs.c.id).where(runs.c.workflow_instance_id == workflow_id).exists()
    await connection.execute(delete(instances).where(instances.c.id == workflow_id, ~others))


_CUTOFF = later(bindparam("ago", type_=Float))
_OLD_EVENTS = (
    select(schedule_events.c.id)
    .where(schedule_events.c.namespace == bindparam("ns"), schedule_events.c.recorded_at < _CUTOFF)
    .order_by(schedule_events.c.recorded_at)
    .limit(bindparam("limit"))
)
_IS_OVER = (
    (schedules.c.namespace == bindparam("ns"))
    & (schedules.c.status == "deleted")
    & (schedules.c.deleted_at < _CUTOFF)
    & ~select(schedule_events.c.id).where(schedule_events.c.workflow_schedule_id == schedules.c.id).exists()
)
_OVER = select(schedules.c.id).where(_IS_OVER).limit(bindparam("limit"))
_CHOSEN_IDS: BindParameter[str] = bindparam("ids", expanding=True)
_DELETE_EVENTS = delete(schedule_events).where(schedule_events.c.id.in_(_CHOSEN_IDS))
_DELETE_SCHEDULES = delete(schedules).where(schedules.c.id.in_(_CHOSEN_IDS), _IS_OVER)


async def prune_schedules(db: Database, namespace: str, retention_days: int, limit: int) -> int:
    """Delete schedules' events past the namespace's retention, oldest first, and deleted schedules without any left.

    How many rows that were; of each kind at most `limit`.
    """
    values, count = {"ns": namespace, "ago": -86_400.0 * retention_days, "limit": limit}, 0
    for chosen, statement in ((_OLD_EVENTS, _DELETE_EVENTS), (_OVER, _DELETE_SCHEDULES)):
        if ids := [row.id for row in await db.all(chosen, values)]:
            count += (await db.run(statement, values | {"ids": ids})).rowcount
    return count
