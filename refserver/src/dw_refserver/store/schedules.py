"""Schedules: read, changed under their row's lock, fired in one transaction with the run that they start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Float, Row, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from dw_refserver.engine import TERMINAL
from dw_refserver.schedule_engine import Change, Schedule, missing, tick
from dw_refserver.store import workflows
from dw_refserver.store.database import Database
from dw_refserver.store.dialect import later, now
from dw_refserver.store.tables import instances, runs, schedule_events, schedules
from dw_refserver.ulid import new_ulid

S, E = schedules.c, schedule_events.c

_NAMED = select(schedules).where(S.namespace == bindparam("ns"), S.schedule_id == bindparam("name"))
_NAMED_LOCKED = _NAMED.with_for_update()
_PAGE = (
    select(schedules)
    .where(S.namespace == bindparam("ns"), S.schedule_id > bindparam("after"), S.status != "deleted")
    .order_by(S.schedule_id)
    .limit(bindparam("limit"))
)
_HISTORY = (
    select(schedule_events)
    .where(E.workflow_schedule_id == bindparam("schedule"), E.sequence > bindparam("after"))
    .order_by(E.sequence)
    .limit(bindparam("limit"))
)


async def find(db: Database, namespace: str, schedule_id: str) -> Row[Any] | None:
    """The schedule of this id, deleted ones too."""
    return await db.one(_NAMED, {"ns": namespace, "name": schedule_id})


async def page(db: Database, namespace: str, after: str, limit: int) -> Sequence[Row[Any]]:
    """The namespace's schedules with ids beyond `after`, in order."""
    return await db.all(_PAGE, {"ns": namespace, "after": after, "limit": limit})


async def history(db: Database, row_id: str, after: int, limit: int) -> Sequence[Row[Any]]:
    """A schedule's events with sequences beyond `after`, in order."""
    return await db.all(_HISTORY, {"schedule": row_id, "after": after, "limit": limit})


_IS_DUE = (S.status == "active") & (S.next_fire_at <= now())
_DUE = select(S.id, S.namespace, S.schedule_id).where(_IS_DUE).order_by(S.next_fire_at).limit(bindparam("limit"))
_DUE_LOCKED = select(schedules).where(S.id == bindparam("schedule"), _IS_DUE).with_for_update(skip_locked=True)
_POSTPONE = (
    update(schedules)
    .where(S.id == bindparam("schedule"), _IS_DUE)
    .values(failures_count=S.failures_count + 1, next_fire_at=later(bindparam("pause", type_=Float)), updated_at=now())
)


async def due(db: Database, limit: int) -> Sequence[Row[Any]]:
    """Active schedules whose time has come, the longest due first."""
    return await db.all(_DUE, {"limit": limit})


async def fire_due(db: Database, row_id: str) -> Change | None:
    """Take a due schedule's turn, once; None if it is no longer due or another scheduler is at it."""

    async def work(connection: AsyncConnection) -> Change | None:
        row = (await connection.execute(_DUE_LOCKED, {"schedule": row_id})).first()
        return None if row is None else await _changed(db, connection, row, tick)

    return await db.transact(work)


async def postpone(db: Database, row_id: str, seconds: float) -> None:
    """Count a failure of a schedule that is due and let others go first. Its row is not read: it may be unreadable."""
    await db.run(_POSTPONE, {"schedule": row_id, "pause": seconds})


async def change(db: Database, namespace: str, schedule_id: str, decide: Callable[[Schedule], Change]) -> Change:
    """Let `decide` say what to write about a schedule, under its row's lock. Refuses if it isn't there."""

    async def work(connection: AsyncConnection) -> Change:
        row = (await connection.execute(_NAMED_LOCKED, {"ns": namespace, "name": schedule_id})).first()
        if row is None or row.status == "deleted":
            raise missing(namespace, schedule_id)
        return await _changed(db, connection, row, decide)

    return await db.transact(work)


_BLANK = insert(schedules).values(
    id=bindparam("fresh"), namespace=bindparam("ns"), schedule_id=bindparam("name"), status="deleted"
)


async def create(db: Database, namespace: str, schedule_id: str, decide: Callable[[Schedule], Change]) -> Change:
    """Let `decide` make a schedule of the id's row: the one that is there, deleted or not, or a blank one."""
    values = {"ns": namespace, "name": schedule_id}

    async def work(connection: AsyncConnection) -> Change:
        row = (await connection.execute(_NAMED_LOCKED, values)).first()
        if row is None:
            await connection.execute(_BLANK, {**values, "fresh": new_ulid()})
            row = (await connection.execute(_NAMED_LOCKED, values)).one()
        return await _changed(db, connection, row, decide)

    try:
        return await db.transact(work)
    except IntegrityError:  # another create of the same id was quicker: its row is there now
        return await db.transact(work)


_OPEN_RUN = (
    select(runs.c.id)
    .join_from(instances, runs, runs.c.id == instances.c.current_run_id)
    .where(instances.c.id == bindparam("latest"), runs.c.status.not_in(TERMINAL))
)
_PRESENT = select(now().label("now"), _OPEN_RUN.exists().label("running"))


async def _changed(
    db: Database, connection: AsyncConnection, row: Row[Any], decide: Callable[[Schedule], Change]
) -> Change:
    """Decide about a locked row and write it. The clock and the run before are asked for after the lock was got, so
    that they are not older than what another transaction has just committed."""
    present = (await connection.execute(_PRESENT, {"latest": row.latest_workflow_instance_id})).one()
    before = Schedule(now=present.now, running=bool(present.running), **row._asdict())
    decided = decide(before)
    if decided.events:
        await _write(db, connection, before, decided)
    return decided


async def _write(db: Database, connection: AsyncConnection, before: Schedule, decided: Change) -> None:
    pairs = {column.name: (getattr(before, column.name), getattr(decided.after, column.name)) for column in S}
    changed = {name: new for name, (old, new) in pairs.items() if new != old} | {"updated_at": before.now}
    await connection.execute(update(schedules).where(S.id == before.id).values(changed))
    same = {"workflow_schedule_id": before.id, "namespace": before.namespace, "schedule_id": before.schedule_id}
    rows = [{**same, **asdict(event), "recorded_at": before.now} for event in decided.events]
    await connection.execute(insert(schedule_events), rows)
    if decided.start:
        await workflows.start_within(db, connection, decided.start, decided.run_id)
