"""What changes a run from outside its workflow tasks: commands of clients, and timers. One transaction each, under
the run's lock; a timer's own row is locked after it, a workflow or activity task's before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Float, Row, Select, UpdateBase, bindparam, case, insert, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from dw_refserver.engine import TERMINAL, NewTask, Refused
from dw_refserver.run_engine import Change, Left, Run, fire, time_out
from dw_refserver.store.database import Database, LostRaceError, execute_together
from dw_refserver.store.dialect import later, now, seconds_until
from dw_refserver.store.history import append_events, create_tasks, to_json
from dw_refserver.store.tables import JsonText, activities, attempts, commands, instances, runs, tasks
from dw_refserver.waiting import Waiting

_MOST_OF_A_RUN = 50
"""How many timers one transaction fires: it holds the run's lock."""

T, R, E, A, C = tasks.c, runs.c, activities.c, attempts.c, commands.c

_LOCK: Select[Any] = (
    select(
        now().label("now"), R.id, R.namespace, R.workflow_instance_id.label("workflow_id"), R.workflow_type,
        R.queue.label("run_queue"), R.compatibility, R.status, R.last_history_sequence, R.resume_sequence,
        R.last_command, R.waiting_on,
    )
    .where(R.id == bindparam("run"))
    .with_for_update()
)  # fmt: skip
_OPEN = T.status.in_(("ready", "leased"))
OPEN_TASK = select(T.id).where(T.workflow_run_id == bindparam("run"), T.task_type == "workflow", _OPEN).limit(1)
"""Whether a run has a workflow task: asked after the run is locked, so that it sees what others have committed."""


async def _locked(connection: AsyncConnection, run_id: str) -> Run | None:
    row = (await connection.execute(_LOCK, {"run": run_id})).first()
    if row is None:
        return None
    fields = row._asdict()
    waiting = Waiting.of(fields.pop("waiting_on"))
    found = (await connection.execute(OPEN_TASK, {"run": run_id})).first()
    return Run(**fields, waiting=waiting, open_task=found is not None)


_CHANGE = (
    update(runs)
    .where(R.id == bindparam("run"))
    .values({
        R.status: bindparam("status"), R.closed_reason: bindparam("closed_reason"),
        R.closed_at: case((bindparam("closes", type_=sa.Boolean), now())), R.last_progress_at: now(),
        R.next_deadline_at: case((bindparam("closes", type_=sa.Boolean), sa.null()), else_=R.next_deadline_at),
        R.last_history_sequence: bindparam("last", type_=sa.Integer),
        R.resume_sequence: bindparam("resume", type_=sa.Integer),
        R.last_command: bindparam("last_command", type_=sa.Integer),
        R.waiting_on: bindparam("waiting", type_=JsonText),
    })
)  # fmt: skip


async def _write(
    db: Database, connection: AsyncConnection, run: Run, change: Change, more: Sequence[UpdateBase] = (), **values: Any
) -> None:
    last = run.last_history_sequence + len(change.events)
    values |= {
        "run": run.id, "ns": run.namespace, "status": change.status, "closed_reason": change.closed_reason,
        "closes": change.closed_reason is not None, "last": last, "waiting": change.waiting.stored(),
        "resume": last if change.resumes else run.resume_sequence,
        "last_command": run.last_command + (change.command_id is not None),
        "events": to_json(change.events), "tasks": to_json(change.new_tasks),
    }  # fmt: skip
    writes = [_CHANGE, append_events(postgres=db.postgres), *more]
    writes += [create_tasks(postgres=db.postgres)] if change.new_tasks else []
    await execute_together(connection, values, writes, postgres=db.postgres)


@dataclass(frozen=True)
class Ask:
    """A command of a client. `fingerprint` tells it from another one under the same request id; `stops` says that the
    run ends with all that is open of it."""

    namespace: str
    workflow_id: str
    run_id: str | None
    request_id: str | None
    fingerprint: str
    stops: bool = False


Judge = Callable[[Run, Sequence[Left]], tuple[Change, Mapping[str, Any]]]
"""What a command changes in an open run, given what is open of it, and the receipt."""

_CURRENT = select(instances.c.current_run_id).where(
    instances.c.id == bindparam("workflow"), instances.c.namespace == bindparam("ns")
)
_REPEATED = select(C.fingerprint, C.receipt).where(
    C.workflow_instance_id == bindparam("workflow"), C.request_id == bindparam("request_id")
)
_REMEMBER = insert(commands).values(
    id=bindparam("command"), workflow_instance_id=bindparam("workflow"), namespace=bindparam("ns"),
    workflow_run_id=bindparam("run"), request_id=bindparam("request_id"), fingerprint=bindparam("fingerprint"),
    receipt=bindparam("receipt", type_=JsonText), created_at=now(),
)  # fmt: skip


async def command(db: Database, ask: Ask, judge: Judge) -> tuple[Change | None, Mapping[str, Any]]:
    """Carry out a command on an open run; without a change it was carried out before, under the same request id.

    A command without a run id is for the current run, whichever that is when its lock is had.
    """
    for _ in range(3):
        try:
            found = await db.transact(lambda connection: _command(db, connection, ask, judge))
        except IntegrityError:  # the same request, sent to another node and for the run before, was quicker
            continue
        if found is not None:
            return found
    raise LostRaceError(ask.workflow_id)


async def _command(
    db: Database, connection: AsyncConnection, ask: Ask, judge: Judge
) -> tuple[Change | None, Mapping[str, Any]] | None:
    """None if another run became the current one meanwhile."""
    names = {"workflow": ask.workflow_id, "ns": ask.namespace}
    current = (await connection.execute(_CURRENT, names)).scalar()
    if current is None:
        raise NoSuchRunError
    if ask.stops:
        await connection.execute(_LOCK_TASKS, {"run": ask.run_id or current})
    run = await _locked(connection, ask.run_id or current)
    if run is None or run.workflow_id != ask.workflow_id:
        raise NoSuchRunError
    if (await connection.execute(_CURRENT, names)).scalar() != current:
        return None
    repeated = ask.request_id and (await connection.execute(_REPEATED, {**names, "request_id": ask.request_id})).first()
    if repeated:
        return None, _same(ask, repeated)
    _refuse_unless_current(run, current)
    change, receipt = judge(run, await _left(connection, run) if ask.stops else ())
    more = [*(_STOP if ask.stops else ()), *([_REMEMBER] if ask.request_id else ())]
    await _write(
        db, connection, run, change, more, workflow=ask.workflow_id, command=change.command_id,
        request_id=ask.request_id, fingerprint=ask.fingerprint, receipt=receipt,
    )  # fmt: skip
    return change, receipt


class NoSuchRunError(Exception):
    """The namespace has no such workflow, or the workflow no such run."""


def _same(ask: Ask, repeated: Any) -> Mapping[str, Any]:
    if repeated.fingerprint == ask.fingerprint:
        receipt: Mapping[str, Any] = repeated.receipt
        return receipt
    text = f"The request id [{ask.request_id}] was used before, for another command or other input."
    raise Refused(409, "request_id_conflict", text, workflow_id=ask.workflow_id, request_id=ask.request_id)


class RejectedError(Exception):
    """A command that this run can't take: the run, and the reason."""

    def __init__(self, run: Run, reason: str) -> None:
        super().__init__(reason)
        self.run, self.reason = run, reason


def _refuse_unless_current(run: Run, current: str) -> None:
    """A command is for the current run and an open one."""
    if run.id != current:
        raise RejectedError(run, "historical_run_command_rejected")
    if run.status in TERMINAL:
        raise RejectedError(run, "run_not_active")


_LOCK_TASKS = (
    select(T.id)
    .where(T.workflow_run_id == bindparam("run"), T.task_type != "timer", _OPEN)
    .order_by(T.id)
    .with_for_update()
)
_OPEN_ACTIVITIES = (
    select(E.id, E.activity_type, E.sequence, E.current_attempt_id, E.attempt_count, E.parallel)
    .where(E.workflow_run_id == bindparam("run"), E.status.in_(("pending", "running")))
    .order_by(E.sequence)
)
_OPEN_TIMERS = (
    select(T.payload)
    .where(T.workflow_run_id == bindparam("run"), T.task_type == "timer", _OPEN)
    .order_by(T.id)
    .with_for_update()
)


async def _left(connection: AsyncConnection, run: Run) -> list[Left]:
    """The activities and timers that are open of a run, as events tell of them."""
    of = {"run": run.id}
    found = [Left("Activity", _told(row)) for row in await connection.execute(_OPEN_ACTIVITIES, of)]
    return found + [Left("Timer", row.payload) for row in await connection.execute(_OPEN_TIMERS, of)]


def _told(row: Any) -> dict[str, Any]:
    return {"activity_execution_id": row.id, "activity_attempt_id": row.current_attempt_id,
            "activity_type": row.activity_type, "sequence": row.sequence, "attempt_number": row.attempt_count,
            **(row.parallel or {})}  # fmt: skip


_OVER = {"status": "cancelled", "closed_at": now()}
_STOP = (
    update(tasks)
    .where(T.workflow_run_id == bindparam("run"), _OPEN)
    .values(**_OVER, available_at=sa.null(), lease_expires_at=sa.null(), poll_key=sa.null()),
    update(activities)
    .where(E.workflow_run_id == bindparam("run"), E.status.in_(("pending", "running")))
    .values(**_OVER, next_deadline_at=sa.null()),
    update(attempts).where(A.workflow_run_id == bindparam("run"), A.status == "running").values(**_OVER),
)


_IS_TIMER = (T.task_type == "timer") & (T.status == "ready")
_DUE = (
    select(T.workflow_run_id)
    .where(_IS_TIMER, T.available_at <= now())
    .group_by(T.workflow_run_id)
    .order_by(sa.func.min(T.available_at))
    .limit(bindparam("most"))
)
_NEXT_TIMER = select(seconds_until(sa.func.min(T.available_at)).label("due_in")).where(
    T.task_type == "timer", T.available_at <= later(bindparam("within", type_=Float))
)
_DUE_OF_RUN = (
    select(T.id, T.payload)
    .where(T.workflow_run_id == bindparam("run"), _IS_TIMER, T.available_at <= now())
    .order_by(T.available_at, T.id)
    .limit(_MOST_OF_A_RUN)
    .with_for_update()
)
_FIRED = (
    update(tasks)
    .where(T.id == bindparam("task"))
    .values({T.status: bindparam("task_status"), T.closed_at: now(), T.available_at: sa.null()})
)


async def with_due_timers(db: Database, most: int) -> Sequence[Row[Any]]:
    """At most so many runs with timers that are due, the longest due first."""
    return await db.all(_DUE, {"most": most})


async def next_timer(db: Database, within: float) -> float | None:
    """In how many seconds the next timer is due, if that is so soon."""
    row = await db.one(_NEXT_TIMER, {"within": within})
    return None if row is None or row.due_in is None else float(row.due_in)


async def fire_timers(db: Database, run_id: str) -> tuple[Run, Sequence[NewTask]] | None:
    """Fire the timers of a run that are due, each exactly once, whoever else tries; the run and its new tasks."""

    async def work(connection: AsyncConnection) -> tuple[Run, Sequence[NewTask]] | None:
        run, new_tasks = await _locked(connection, run_id), list[NewTask]()
        if run is None:
            return None
        for timer in (await connection.execute(_DUE_OF_RUN, {"run": run_id})).all():
            change = fire(run, timer.payload, timer.id)
            if change is None:
                await connection.execute(_FIRED, {"task": timer.id, "task_status": "cancelled"})
                continue
            await _write(db, connection, run, change, [_FIRED], task=timer.id, task_status="completed")
            run, new_tasks = run.after(change), [*new_tasks, *change.new_tasks]
        return run, new_tasks

    return await db.transact(work)


_KIND = case((R.execution_deadline_at <= now(), literal("execution_timeout")), else_=literal("run_timeout"))
_OVERDUE = select(R.id, _KIND.label("kind")).where(R.next_deadline_at <= now()).limit(bindparam("most"))


async def overdue(db: Database, most: int) -> Sequence[Row[Any]]:
    """At most so many open runs that have passed a deadline, and which."""
    return await db.all(_OVERDUE, {"most": most})


async def time_out_run(db: Database, run_id: str, kind: str) -> None:
    """End a run that has passed its deadline, unless it has ended meanwhile."""

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_LOCK_TASKS, {"run": run_id})
        run = await _locked(connection, run_id)
        if run is not None and run.open:
            await _write(db, connection, run, time_out(run, kind, await _left(connection, run)), _STOP)

    await db.transact(work)
