"""Workflow tasks: claim, look, renew, settle. The task's row is the lease."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import Column, Float, Row, Select, String, UpdateBase, bindparam, case, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from dw_refserver.engine import Claim, Decision, Task, guard
from dw_refserver.store.continuation import begin_next
from dw_refserver.store.database import Database, execute_together
from dw_refserver.store.dialect import later, now, seconds_until, supports
from dw_refserver.store.history import OPENING, append_events, create_activities, create_tasks, to_json
from dw_refserver.store.tables import JsonText, runs, tasks, workers
from dw_refserver.waiting import Waiting

T, R, W = tasks.c, runs.c, workers.c

_LEASE = later(bindparam("lease", type_=Float))
_HELD = {
    "status": "leased",
    "lease_owner": bindparam("worker"),
    "poll_key": bindparam("poll"),
    "leased_at": now(),
    "lease_expires_at": _LEASE,
    "available_at": _LEASE,
}
_RUN_COLUMNS = (
    R.workflow_instance_id, R.workflow_type, R.payload_codec, R.arguments, R.status.label("run_status"),
    R.last_history_sequence, OPENING,
)  # fmt: skip


Leased: TypeAlias = Any
"""A task that was just leased: an attribute for each of its own and of its run's columns."""


@dataclass(frozen=True)
class Poll:
    """A worker that asks for a task. `lease` is in seconds."""

    namespace: str
    queue: str
    worker_id: str
    poll_request_id: str | None
    lease: float
    build_id: str | None = None
    task_type: str = "workflow"

    @property
    def key(self) -> str | None:
        """What tells this poll from every other: who asks where for what, under which request id."""
        if self.poll_request_id is None:
            return None
        parts = (self.namespace, self.queue, self.task_type, self.worker_id, self.poll_request_id)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def values(self) -> dict[str, Any]:
        """The claim's parameters."""
        return {"ns": self.namespace, "q": self.queue, "worker": self.worker_id, "poll": self.key,
                "lease": self.lease, "build": self.build_id, "kind": self.task_type}  # fmt: skip


_LENGTH = select(R.last_history_sequence).where(R.id == T.workflow_run_id)
_SEEN = _LENGTH.correlate(tasks).scalar_subquery().label("seen")
"""How much of the history the claim shows; what comes later needs another task."""


_MINE = (T.poll_key == bindparam("poll", type_=String)) & (T.status == "leased")


def _held_by_this_poll() -> Select[Any]:
    """The task that this very poll was given before, if its answer got lost. Its attempt rises only if it lapsed."""
    lapsed = case((T.lease_expires_at <= now(), 1), else_=0).label("bump")
    return select(T.id, lapsed, _SEEN).where(_MINE).with_for_update()


def _claimable(types: Column[Any], *columns: Any) -> Select[Any]:
    """The due tasks that this registered worker can run."""
    mine = (W.namespace == T.namespace) & (W.worker_id == bindparam("worker")) & (W.task_queue == T.queue)
    return (
        select(T.id, *columns)
        .join_from(tasks, workers, mine)
        .where(T.namespace == bindparam("ns"), T.queue == bindparam("q"), T.task_type == bindparam("kind"))
        .where(T.available_at <= now())
        .where(supports(types, T.target_type))
        .where(T.compatibility.is_(None) | (T.compatibility == W.build_id))
        .where(bindparam("build", type_=String).is_(None) | (bindparam("build", type_=String) == W.build_id))
    )


def _next_in_line(types: Column[Any] = W.supported_workflow_types) -> Select[Any]:
    """The longest-due task that this registered worker can run and nobody else is claiming right now."""
    due = _claimable(types, literal(1, sa.Integer).label("bump"), _SEEN)
    return due.order_by(T.available_at, T.id).limit(1).with_for_update(of=tasks, skip_locked=True)


def _who_waits(types: Column[Any]) -> Select[Any]:
    """The worker that polls, and whether its task may be under way: committed meanwhile, or still due and locked."""
    due, held = _claimable(types).correlate(None).exists(), select(T.id).where(_MINE).exists()
    under_way = bindparam("poll", type_=String).is_not(None) & (held | due)
    of_poll = (W.namespace == bindparam("ns")) & (W.worker_id == bindparam("worker"))
    return select(workers, types.label("types"), under_way.label("under_way")).where(of_poll)


@lru_cache
def _claim_in_one() -> Select[Any]:
    held = _held_by_this_poll().cte("held")
    free = _next_in_line().where(~sa.exists(select(held.c.id))).cte("free")
    chosen = sa.union_all(select(held), select(free)).cte("chosen")
    claimed = (
        update(tasks)
        .where(T.id == chosen.c.id)
        .values(**_HELD, attempt_count=T.attempt_count + chosen.c.bump, seen_sequence=chosen.c.seen)
        .returning(tasks)
        .cte("claimed")
    )
    return select(claimed, *_RUN_COLUMNS).join(runs, R.id == claimed.c.workflow_run_id)


_HELD_BY_THIS_POLL = _held_by_this_poll()
_TYPES = {
    "workflow": W.supported_workflow_types, "activity": W.supported_activity_types, "query": W.supported_workflow_types,
}  # fmt: skip
"""Which of a worker's lists says what it can run, per kind of task."""
_NEXT_IN_LINE = {kind: _next_in_line(types) for kind, types in _TYPES.items()}
TAKE = (
    update(tasks)
    .where(T.id == bindparam("chosen"))
    .values(**_HELD, attempt_count=T.attempt_count + bindparam("bump"), seen_sequence=bindparam("seen"))
)


def _whole(choice: Select[Any], *, skip_locked: bool = False) -> Select[Any]:
    """The same choice, with all that the worker is told: so nothing has to be read again once it is leased."""
    columns = [column for column in tasks.c if column is not T.id]
    whole = choice.add_columns(*columns, *_RUN_COLUMNS, _LEASE.label("until"))
    return whole.join(runs, R.id == T.workflow_run_id).with_for_update(of=tasks, skip_locked=skip_locked)


_HELD_WHOLE, _NEXT_WHOLE = _whole(_HELD_BY_THIS_POLL), _whole(_NEXT_IN_LINE["workflow"], skip_locked=True)


_WHO_WAITS = {kind: _who_waits(types) for kind, types in _TYPES.items()}


async def who_waits(db: Database, poll: Poll) -> Row[Any] | None:
    """The registration of a poll's worker, None if there is none. `types` are those of this kind that it can run;
    `under_way` says, after a claim that found nothing, whether another poll under the same request id may have its
    task, or be about to."""
    return await db.one(_WHO_WAITS[poll.task_type], poll.values)


async def claim(db: Database, poll: Poll) -> Leased | None:
    """Lease the next task to a worker and give it with its run's columns; None if there is none for it."""
    for _ in range(3):
        try:
            if db.postgres:
                return await db.one(_claim_in_one(), poll.values)
            return await db.transact(lambda connection: _claim_in_turn(connection, poll))
        except IntegrityError:  # the same poll, repeated on another node, was quicker: what it took is ours too
            continue
    return None


async def _claim_in_turn(connection: AsyncConnection, poll: Poll) -> SimpleNamespace | None:
    chosen = await _first(connection, poll, _HELD_WHOLE, _NEXT_WHOLE)
    if chosen is None:
        return None
    await connection.execute(TAKE, {**poll.values, "chosen": chosen.id, "bump": chosen.bump, "seen": chosen.seen})
    taken = {"attempt_count": chosen.attempt_count + chosen.bump, "lease_owner": poll.worker_id,
             "lease_expires_at": chosen.until}  # fmt: skip
    return SimpleNamespace(**chosen._asdict() | taken)


async def choose(connection: AsyncConnection, poll: Poll) -> Row[Any] | None:
    """Lock the task that this poll holds already, or else the next in line for it."""
    return await _first(connection, poll, _HELD_BY_THIS_POLL, _NEXT_IN_LINE[poll.task_type])


async def _first(connection: AsyncConnection, poll: Poll, held: Select[Any], free: Select[Any]) -> Row[Any] | None:
    for choice in (held, free) if poll.poll_request_id else (free,):
        row: Row[Any] | None = (await connection.execute(choice, poll.values)).first()
        if row is not None:
            return row
    return None


_LOOK: Select[Any] = (
    select(
        now().label("now"), T.id, T.status, T.lease_owner, T.lease_expires_at, T.attempt_count, T.queue, T.namespace,
        T.compatibility, R.id.label("run_id"), R.status.label("run_status"),
        R.closed_reason.label("run_closed_reason"), R.closed_at.label("run_closed_at"), R.workflow_type,
        R.payload_codec, R.last_history_sequence, T.seen_sequence, R.last_step, R.resume_sequence,
        R.queue.label("run_queue"), R.run_number, R.waiting_on,
        sa.func.coalesce(R.next_deadline_at <= now(), sa.false()).label("timed_out"),
    )
    .join_from(tasks, runs, R.id == T.workflow_run_id)
    .where(T.id == bindparam("task"), T.namespace == bindparam("ns"), T.task_type == "workflow")
)  # fmt: skip
_LOOK_LOCKED = _LOOK.with_for_update()


async def held(db: Database, namespace: str, claim: Claim) -> Task:
    """The task with its run, for whoever holds it; refuses everybody else."""
    row = await db.one(_LOOK, {"task": claim.task_id, "ns": namespace})
    return guard(row and _task(row), claim)


def _task(row: Row[Any]) -> Task:
    fields = row._asdict()
    timed_out = bool(fields.pop("timed_out"))
    return Task(waiting=Waiting.of(fields.pop("waiting_on")), timed_out=timed_out, **fields)


_HOLDS = (
    (T.id == bindparam("task")) & (T.namespace == bindparam("ns")) & (T.status == "leased")
    & (T.lease_owner == bindparam("owner")) & (T.attempt_count == bindparam("attempt")) & (T.lease_expires_at > now())
)  # fmt: skip
_RENEW = update(tasks).where(_HOLDS).values(lease_expires_at=_LEASE, available_at=_LEASE)


async def renew(db: Database, namespace: str, claim: Claim, lease: float) -> bool:
    """Extend a lease that the claim holds; false if it doesn't hold it."""
    values = {"task": claim.task_id, "ns": namespace, "owner": claim.lease_owner, "attempt": claim.attempt}
    return (await db.run(_RENEW, values | {"lease": lease})).rowcount > 0


async def settle(db: Database, namespace: str, claim: Claim, judge: Callable[[Task], Decision]) -> Decision:
    """Close a task: read it, let `judge` decide, write what it decided. All of it or nothing is committed.

    `judge` may be asked more than once. On PostgreSQL the read takes no lock at first, and the write, one statement,
    holds only if nothing has changed since. On MySQL, for a run that goes on as another, and for one that much else
    happens to at the same time, the read locks both rows.
    """
    for _ in range(2 if db.postgres else 0):
        task = await held(db, namespace, claim)
        decision = judge(task)
        if decision.continued:
            break
        statement = _settle_in_one(timer=decision.timer_over is not None)
        if await db.one(statement, _settlement(task, decision)) is not None:
            return decision
    return await db.transact(lambda connection: _settle_locked(db, connection, namespace, claim, judge))


async def _settle_locked(
    db: Database, connection: AsyncConnection, namespace: str, claim: Claim, judge: Callable[[Task], Decision]
) -> Decision:
    row = (await connection.execute(_LOOK_LOCKED, {"task": claim.task_id, "ns": namespace})).first()
    task = guard(row and _task(row), claim)
    decision = judge(task)
    writes: list[UpdateBase] = [_CLOSE_TASK, _CLOSE_RUN] if db.postgres else [_CLOSE_BOTH]
    writes += [append_events(postgres=db.postgres)] if decision.events else []
    writes += [create_activities(postgres=db.postgres)] if decision.activities else []
    writes += [create_tasks(postgres=db.postgres)] if decision.new_tasks else []
    writes += [_END_TIMER] if decision.timer_over else []
    await execute_together(connection, _settlement(task, decision), writes, postgres=db.postgres)
    if decision.continued:
        await begin_next(db, connection, task.namespace, task.run_id, decision.continued)
    return decision


def _settlement(task: Task, decision: Decision) -> dict[str, Any]:
    return {
        "task": task.id, "owner": task.lease_owner, "attempt": task.attempt_count, "ns": task.namespace,
        "run": task.run_id, "seen_status": task.run_status, "seen": task.last_history_sequence,
        "task_status": decision.task_status, "task_error": decision.task_error,
        "run_status": decision.run_status, "closed_reason": decision.closed_reason, "output": decision.output,
        "closes": decision.closed_reason is not None, "appended": len(decision.events),
        "events": to_json(decision.events), "tasks": to_json(decision.new_tasks),
        "activities": to_json(decision.activities), "step": decision.last_step,
        "waiting": decision.waiting.stored(), "timer": decision.timer_over,
    }  # fmt: skip


_CLOSED_TASK = {
    T.status: bindparam("task_status"),
    T.last_error: bindparam("task_error"),
    T.closed_at: now(),
    T.available_at: sa.null(),
    T.poll_key: sa.null(),
}
_CLOSED_RUN = {
    R.status: bindparam("run_status"),
    R.closed_reason: bindparam("closed_reason"),
    R.output: bindparam("output", type_=JsonText),
    R.closed_at: case((bindparam("closes", type_=sa.Boolean), now())),
    R.next_deadline_at: case((bindparam("closes", type_=sa.Boolean), sa.null()), else_=R.next_deadline_at),
    R.last_progress_at: now(),
    R.last_history_sequence: R.last_history_sequence + bindparam("appended", type_=sa.Integer),
    R.last_step: bindparam("step", type_=sa.Integer),
    R.waiting_on: bindparam("waiting", type_=JsonText),
}


_CLOSE_BOTH = (
    update(tasks).where(T.id == bindparam("task"), R.id == T.workflow_run_id).values({**_CLOSED_TASK, **_CLOSED_RUN})
)
"""Both rows in one statement, as MySQL can."""
_CLOSE_TASK = update(tasks).where(T.id == bindparam("task")).values(_CLOSED_TASK)
_CLOSE_RUN = update(runs).where(R.id == bindparam("run")).values(_CLOSED_RUN)
_OVER: dict[Any, Any] = {T.status: "cancelled", T.closed_at: now(), T.available_at: sa.null()}
_END_TIMER = update(tasks).where(T.id == bindparam("timer"), T.status == "ready").values(_OVER)


@lru_cache
def _settle_in_one(*, timer: bool) -> Select[Any]:
    unchanged = (
        select(T.id, R.id.label("run_id"))
        .join_from(tasks, runs, R.id == T.workflow_run_id)
        .where(_HOLDS, R.last_history_sequence == bindparam("seen"), R.status == bindparam("seen_status"))
        .with_for_update()
        .cte("unchanged")
    )
    close_task = update(tasks).where(T.id == unchanged.c.id).values(_CLOSED_TASK)
    close_run = update(runs).where(R.id == unchanged.c.run_id).values(_CLOSED_RUN)
    appends = (make(postgres=True, given=unchanged) for make in (append_events, create_activities, create_tasks))
    end_timer = _END_TIMER.where(sa.exists(select(unchanged.c.id)))
    parts: list[UpdateBase] = [close_task, close_run, *appends, *([end_timer] if timer else [])]
    return select(unchanged.c.id).add_cte(*(part.cte(f"part_{number}") for number, part in enumerate(parts)))


_DUE = (
    select(T.namespace, T.queue, T.task_type, T.target_type, sa.func.count().label("ready"),
           seconds_until(sa.func.min(T.available_at)).label("due_in"))
    .where(sa.tuple_(T.namespace, T.queue, T.task_type).in_(bindparam("queues", expanding=True)))
    .where(T.available_at <= later(bindparam("within", type_=Float)))
    .group_by(T.namespace, T.queue, T.task_type, T.target_type)
    .limit(1000)
)  # fmt: skip


async def due(db: Database, queues: Sequence[tuple[str, str, str]], within: float) -> Sequence[Row[Any]]:
    """What is claimable on these (namespace, queue, task type) now or within so many seconds, per target type."""
    return await db.all(_DUE, {"queues": list(queues), "within": within})
