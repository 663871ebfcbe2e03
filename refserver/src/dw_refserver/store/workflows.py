"""Instances and runs: start and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, Label, Row, Select, UpdateBase, bindparam, insert, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from dw_refserver.engine import Event, NewTask, Start
from dw_refserver.engine import start as first_of
from dw_refserver.store.database import Database, execute_together
from dw_refserver.store.dialect import later, now
from dw_refserver.store.history import append_events, create_tasks, to_json
from dw_refserver.store.tables import JsonText, instances, runs, tasks

_BOTH: dict[str, Any] = {
    "namespace": bindparam("ns"),
    "workflow_type": bindparam("type"),
    "business_key": bindparam("key"),
}
_INSTANCE = insert(instances).values(
    **_BOTH,
    id=bindparam("workflow"),
    current_run_id=bindparam("run"),
    run_count=1,
    execution_timeout_seconds=bindparam("execution_timeout"),
    created_at=now(),
)
_RUN = insert(runs).values(
    **_BOTH,
    id=bindparam("run"),
    workflow_instance_id=bindparam("workflow"),
    run_number=1,
    memo=bindparam("kept", type_=JsonText),
    status="pending",
    payload_codec=bindparam("codec"),
    arguments=bindparam("blob"),
    queue=bindparam("q"),
    last_history_sequence=bindparam("last"),
    run_timeout_seconds=bindparam("run_timeout"),
    execution_deadline_at=later(bindparam("execution_timeout", type_=Float)),
    run_deadline_at=later(bindparam("run_timeout", type_=Float)),
    next_deadline_at=later(bindparam("first_timeout", type_=Float)),
    started_at=now(),
    last_progress_at=now(),
)


async def start(db: Database, ask: Start, run_id: str, events: Sequence[Event], task: NewTask) -> bool:
    """Write a new instance with its first run; false if the workflow id has been used before, by anyone."""
    values, writes = _started(ask, run_id, events, task, postgres=db.postgres)
    try:
        await db.write(values, *writes)
    except IntegrityError:
        return False
    return True


async def start_within(db: Database, connection: AsyncConnection, ask: Start, run_id: str) -> None:
    """Write a new instance with its first run as part of a transaction; its workflow id must be a fresh one."""
    values, writes = _started(ask, run_id, *first_of(ask, run_id), postgres=db.postgres)
    await execute_together(connection, values, writes, postgres=db.postgres)


def _started(
    ask: Start, run_id: str, events: Sequence[Event], task: NewTask, *, postgres: bool
) -> tuple[dict[str, Any], list[UpdateBase]]:
    values = {
        "ns": ask.namespace, "workflow": ask.workflow_id, "type": ask.workflow_type, "run": run_id,
        "key": ask.business_key, "kept": ask.memo, "codec": ask.payload_codec, "blob": ask.arguments, "q": ask.queue,
        "execution_timeout": ask.execution_timeout_seconds, "run_timeout": ask.run_timeout_seconds,
        "first_timeout": min(filter(None, (ask.execution_timeout_seconds, ask.run_timeout_seconds)), default=None),
        "last": len(events), "events": to_json(events), "tasks": to_json([task]),
    }  # fmt: skip
    return values, [_INSTANCE, _RUN, append_events(postgres=postgres), create_tasks(postgres=postgres)]


def _open_task(name: str, label: str) -> Label[Any]:
    """A column of an open task of the run: of its workflow task if it has one, else of a timer or an activity."""
    return (
        select(tasks.c[name])
        .where(tasks.c.workflow_run_id == runs.c.id, tasks.c.status.in_(("ready", "leased")))
        .order_by(tasks.c.task_type.desc())
        .limit(1)
        .scalar_subquery()
        .label(label)
    )


_RUNS = (
    select(
        runs, instances.c.run_count, instances.c.current_run_id, instances.c.execution_timeout_seconds,
        _open_task("task_type", "open_task_type"), _open_task("status", "open_task_status"),
    )
    .join_from(instances, runs, runs.c.workflow_instance_id == instances.c.id)
    .where(instances.c.id == bindparam("workflow"))
)  # fmt: skip
_CURRENT = _RUNS.where(runs.c.id == instances.c.current_run_id)
_ONE = _RUNS.where(runs.c.id == bindparam("run"))


async def current_run(db: Database, workflow_id: str) -> Row[Any] | None:
    """The instance's current run, in whatever namespace it is."""
    return await db.one(_CURRENT, {"workflow": workflow_id})


async def one_run(db: Database, workflow_id: str, run_id: str) -> Row[Any] | None:
    """A named run of the instance."""
    return await db.one(_ONE, {"workflow": workflow_id, "run": run_id})


_BRIEF_COLUMNS = (
    "id", "workflow_instance_id", "run_number", "workflow_type", "business_key", "status", "queue", "compatibility",
    "started_at", "closed_at",
)  # fmt: skip
_BRIEF = select(*(runs.c[name] for name in _BRIEF_COLUMNS))
_OF_ONE = runs.c.workflow_instance_id == bindparam("workflow"), runs.c.namespace == bindparam("ns")
_ALL_OF_ONE = _BRIEF.where(*_OF_ONE).order_by(runs.c.run_number)
_EVENTS = select(runs.c.last_history_sequence, runs.c.closed_at).where(runs.c.id == bindparam("run"), *_OF_ONE)


@dataclass(frozen=True)
class Wanted:
    """Which runs of a namespace a list holds; None or nothing asks for any."""

    namespace: str
    workflow_type: str | None = None
    statuses: Sequence[str] = ()
    part: str | None = None
    """What the workflow id or the business key holds, upper and lower case told apart."""
    before: str | None = None
    """The id of the run that the page before ended with."""


async def newest(db: Database, wanted: Wanted, most: int) -> Sequence[Row[Any]]:
    """At most so many of the wanted runs, the newest id first: ids sort by creation and never move."""
    return await db.all(_wanted(wanted).order_by(runs.c.id.desc()).limit(most))


def _wanted(wanted: Wanted) -> Select[Any]:
    found = _BRIEF.where(runs.c.namespace == wanted.namespace)
    if wanted.workflow_type is not None:
        found = found.where(runs.c.workflow_type == wanted.workflow_type)
    if wanted.statuses:
        found = found.where(runs.c.status.in_(wanted.statuses))
    if wanted.part is not None:
        texts = runs.c.workflow_instance_id, runs.c.business_key
        found = found.where(or_(*(text.contains(wanted.part, autoescape=True) for text in texts)))
    return found if wanted.before is None else found.where(runs.c.id < wanted.before)


async def all_runs(db: Database, namespace: str, workflow_id: str) -> Sequence[Row[Any]]:
    """The instance's runs, oldest first; none if the namespace doesn't have it."""
    return await db.all(_ALL_OF_ONE, {"ns": namespace, "workflow": workflow_id})


async def history_length(db: Database, namespace: str, workflow_id: str, run_id: str) -> tuple[int, bool] | None:
    """How many events the run has, and whether it is open; None if the namespace doesn't have it."""
    row = await db.one(_EVENTS, {"ns": namespace, "workflow": workflow_id, "run": run_id})
    return row and (row.last_history_sequence, row.closed_at is None)
