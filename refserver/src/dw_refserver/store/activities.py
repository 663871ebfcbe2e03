"""Activity tasks: claim, heartbeat, settle, expire. Each is one transaction under the locks of task and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row, Select, UpdateBase, bindparam, case, insert, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from dw_refserver import activity_engine as engine
from dw_refserver.activity_engine import Activity, Attempt, Claim, Deadlines, Outcome
from dw_refserver.store.database import Database, execute_together
from dw_refserver.store.dialect import now
from dw_refserver.store.history import append_events, create_tasks, to_json
from dw_refserver.store.tables import JsonText, Moment, activities, attempts, runs, tasks
from dw_refserver.store.tasks import TAKE, Poll, choose
from dw_refserver.waiting import Waiting

T, R, E, A = tasks.c, runs.c, activities.c, attempts.c

_DEADLINES = ("schedule_to_close", "schedule_to_start", "heartbeat", "start_to_close")
_SAME = (
    T.namespace, T.queue, T.compatibility, E.sequence, E.activity_type, E.status, E.attempt_count,
    E.current_attempt_id, E.payload_codec, E.arguments, E.retry_policy, E.last_heartbeat_at, R.workflow_type,
    R.last_history_sequence, R.resume_sequence, E.parallel, R.waiting_on,
)  # fmt: skip
_ACTIVITY: Select[Any] = (
    select(
        now().label("now"), T.id.label("task_id"), T.status.label("task_status"),
        T.lease_expires_at.label("task_lease_expires_at"), E.id.label("execution_id"), R.id.label("run_id"),
        R.workflow_instance_id.label("workflow_id"), R.status.label("run_status"),
        R.closed_reason.label("run_closed_reason"), R.closed_at.label("run_closed_at"), R.queue.label("run_queue"),
        *_SAME, *(E[f"{name}_at"] for name in _DEADLINES),
    )
    .join_from(tasks, activities, E.id == T.activity_execution_id)
    .join(runs, R.id == T.workflow_run_id)
    .with_for_update()
)  # fmt: skip
_OF_TASK = _ACTIVITY.where(T.id == bindparam("task"), T.namespace == bindparam("ns"))
_OF_EXECUTION = _ACTIVITY.where(E.id == bindparam("execution"), T.status.in_(("ready", "leased")))
_ATTEMPT = select(A.id, A.task_id, A.lease_owner, A.status).where(A.id == bindparam("attempt"))
_OPEN_TASK = (
    select(T.id)
    .where(T.workflow_run_id == bindparam("run"), T.task_type == "workflow", T.status.in_(("ready", "leased")))
    .limit(1)
)


def _activity(row: Row[Any]) -> Activity:
    fields = row._asdict()
    deadlines = Deadlines(**{name: fields.pop(f"{name}_at") for name in _DEADLINES})
    return Activity(waiting=Waiting.of(fields.pop("waiting_on")), **fields, deadlines=deadlines)


_MOMENTS = {E[f"{name}_at"]: bindparam(f"{name}_by", type_=Moment) for name in (*_DEADLINES, "next_deadline")}
_EXECUTION_AT, _RUN_AT = E.id == bindparam("execution"), R.id == bindparam("run")
_COUNT_EVENTS = {R.last_history_sequence: R.last_history_sequence + bindparam("appended", type_=sa.Integer)}
_START = (
    update(activities)
    .where(_EXECUTION_AT)
    .values({
        **_MOMENTS, E.status: "running", E.attempt_count: bindparam("nth"),
        E.current_attempt_id: bindparam("attempt"), E.last_heartbeat_at: sa.null(),
    })
)  # fmt: skip
_COUNT = update(runs).where(_RUN_AT).values(_COUNT_EVENTS)
_END_ATTEMPT = (
    update(attempts)
    .where(A.id == bindparam("before", type_=sa.String), A.status == "running")
    .values({A.status: bindparam("attempt_status"), A.closed_at: now()})
)
_NEW_ATTEMPT = insert(attempts).values(
    id=bindparam("attempt"), activity_execution_id=bindparam("execution"), workflow_run_id=bindparam("run"),
    task_id=bindparam("task"), lease_owner=bindparam("worker"), status=literal("running"), number=bindparam("nth"),
    started_at=now(),
)  # fmt: skip


def _moments(deadlines: Deadlines) -> dict[str, Any]:
    by = {f"{name}_by": getattr(deadlines, name) for name in _DEADLINES}
    return by | {"next_deadline_by": min(deadlines.given.values(), default=None)}


async def claim(db: Database, poll: Poll) -> Activity | None:
    """Lease the next activity to a worker, as a new attempt unless this poll holds it already; None if there is none.

    What belongs to a closed run is put away on the way.
    """
    for _ in range(10):
        try:
            claimed = await db.transact(lambda connection: _claim(db, connection, poll))
        except IntegrityError:  # the same poll, repeated on another node, was quicker: what it took is ours too
            continue
        if claimed is None or claimed.run_open:
            return claimed
    return None


async def _claim(db: Database, connection: AsyncConnection, poll: Poll) -> Activity | None:
    chosen = await choose(connection, poll)
    if chosen is None:
        return None
    row = (await connection.execute(_OF_TASK, {"task": chosen.id, "ns": poll.namespace})).one()
    activity = _activity(row)
    if not activity.run_open:
        await _write(db, connection, activity, engine.cancelled(activity))
        return activity
    values = {**poll.values, "chosen": chosen.id, "bump": chosen.bump, "seen": chosen.seen}
    writes: list[UpdateBase] = [TAKE]
    if chosen.bump:
        before, (activity, event) = activity.current_attempt_id, engine.started(activity)
        values |= {
            **_moments(activity.deadlines), "execution": activity.execution_id, "run": activity.run_id,
            "attempt": activity.current_attempt_id, "nth": activity.attempt_count, "task": activity.task_id,
            "before": before, "attempt_status": "expired", "appended": 1, "events": to_json([event]),
        }  # fmt: skip
        writes += [_START, _COUNT, *([_END_ATTEMPT] if before else []), _NEW_ATTEMPT]
        writes += [append_events(postgres=db.postgres)]
    await execute_together(connection, values, writes, postgres=db.postgres)
    return activity


async def _named(connection: AsyncConnection, namespace: str, claim: Claim) -> tuple[Activity, Attempt]:
    """The locked task and the attempt that a worker names; refuses a claim that doesn't fit."""
    row = (await connection.execute(_OF_TASK, {"task": claim.task_id, "ns": namespace})).first()
    found = (await connection.execute(_ATTEMPT, {"attempt": claim.attempt_id})).first() if row else None
    return engine.guard(row and _activity(row), found and Attempt(**found._asdict()), claim)


_BEAT = (
    update(activities).where(_EXECUTION_AT).values({**_MOMENTS, E.last_heartbeat_at: bindparam("beat", type_=Moment)})
)
_EXTEND = (
    update(tasks)
    .where(T.id == bindparam("task"))
    .values({name: bindparam("until", type_=Moment) for name in (T.lease_expires_at, T.available_at)})
)


async def heartbeat(db: Database, namespace: str, claim: Claim, lease: float) -> dict[str, Any]:
    """Extend the lease and the heartbeat deadline; what the worker is told, whether it may go on or not."""

    async def work(connection: AsyncConnection) -> dict[str, Any]:
        activity, _ = await _named(connection, namespace, claim)
        reason = engine.heartbeat_reason(activity, claim)
        until, beat = activity.task_lease_expires_at, activity.last_heartbeat_at
        if reason is None:
            until, beat = activity.now + timedelta(seconds=lease), activity.now
            deadlines = replace(activity.deadlines, heartbeat=activity.after("heartbeat"))
            values = {**_moments(deadlines), "execution": activity.execution_id, "task": activity.task_id}
            values |= {"beat": beat, "until": until}
            await execute_together(connection, values, [_BEAT, _EXTEND], postgres=db.postgres)
        return {"reason": reason, "lease_expires_at": until, "last_heartbeat_at": beat,
                "run_closed_reason": activity.run_closed_reason, "run_closed_at": activity.run_closed_at}  # fmt: skip

    return await db.transact(work)


async def settle(
    db: Database, namespace: str, claim: Claim, outcome: str, judge: Callable[[Activity], Outcome]
) -> Outcome:
    """End an attempt: `judge` decides under the locks, and what it decided is written. All of it or nothing."""

    async def work(connection: AsyncConnection) -> Outcome:
        activity, attempt = await _named(connection, namespace, claim)
        engine.current(activity, attempt, claim, outcome)
        decided = judge(await _with_open_task(connection, activity))
        await _write(db, connection, activity, decided)
        return decided

    return await db.transact(work)


async def expire(db: Database, execution_id: str) -> Outcome | str:
    """Enforce an execution's passed deadline, or say in a word why there is nothing to do."""

    async def work(connection: AsyncConnection) -> Outcome | str:
        row = (await connection.execute(_OF_EXECUTION, {"execution": execution_id})).first()
        if row is None:
            return "execution_not_found"
        activity = await _with_open_task(connection, _activity(row))
        found = engine.timed_out(activity)
        if isinstance(found, Outcome):
            await _write(db, connection, activity, found)
        elif found == "run_already_terminal":
            await _write(db, connection, activity, engine.cancelled(activity))
        return found

    return await db.transact(work)


async def _with_open_task(connection: AsyncConnection, activity: Activity) -> Activity:
    """Looked up by a statement of its own, after the run is locked, so that it sees what others have committed."""
    found = (await connection.execute(_OPEN_TASK, {"run": activity.run_id})).first()
    return replace(activity, open_task=found is not None)


_CLOSE_TASK = (
    update(tasks)
    .where(T.id == bindparam("task"))
    .values({T.status: bindparam("task_status"), T.closed_at: now(), T.available_at: sa.null(), T.poll_key: sa.null()})
)
_CLOSE = (
    update(activities)
    .where(_EXECUTION_AT)
    .values({
        **_MOMENTS, E.status: bindparam("activity_status"), E.attempt_count: bindparam("nth"),
        E.outcome: bindparam("told", type_=JsonText),
        E.closed_at: case((bindparam("closes", type_=sa.Boolean), now())),
    })
)  # fmt: skip
_ADVANCE = (
    update(runs)
    .where(_RUN_AT)
    .values({
        **_COUNT_EVENTS, R.resume_sequence: bindparam("resume", type_=sa.Integer),
        R.waiting_on: bindparam("waiting", type_=JsonText),
    })
)  # fmt: skip


async def _write(db: Database, connection: AsyncConnection, activity: Activity, outcome: Outcome) -> None:
    values = {
        **_moments(outcome.deadlines), "ns": activity.namespace, "run": activity.run_id, "task": activity.task_id,
        "execution": activity.execution_id, "before": activity.current_attempt_id,
        "task_status": outcome.task_status, "activity_status": outcome.status, "nth": outcome.attempt_count,
        "attempt_status": outcome.attempt_status, "told": outcome.outcome, "closes": outcome.status != "pending",
        "appended": len(outcome.events), "events": to_json(outcome.events), "tasks": to_json(outcome.new_tasks),
        "waiting": (outcome.waiting or activity.waiting).stored(),
        "resume": activity.last_history_sequence + 1 if outcome.resumes else activity.resume_sequence,
    }  # fmt: skip
    writes: Sequence[UpdateBase] = (
        _CLOSE_TASK,
        _CLOSE,
        *([_END_ATTEMPT] if activity.current_attempt_id else []),
        *([_ADVANCE, append_events(postgres=db.postgres)] if outcome.events else []),
        *([create_tasks(postgres=db.postgres)] if outcome.new_tasks else []),
    )
    await execute_together(connection, values, writes, postgres=db.postgres)
