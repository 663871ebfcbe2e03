"""Instances and runs: start and read."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Float, Insert, Row, UpdateBase, bindparam, insert, select
from sqlalchemy.exc import IntegrityError

from dw_refserver.engine import Start, Started
from dw_refserver.store.database import Database
from dw_refserver.store.dialect import later, now
from dw_refserver.store.history import append_events, create_tasks
from dw_refserver.store.rows import to_json
from dw_refserver.store.tables import JsonText, instances, runs, tasks


@lru_cache
def _instance() -> Insert:
    return insert(instances).values(
        id=bindparam("workflow_id"),
        namespace=bindparam("ns"),
        workflow_type=bindparam("workflow_type"),
        business_key=bindparam("business_key"),
        current_run_id=bindparam("run"),
        run_count=1,
        execution_timeout_seconds=bindparam("execution_timeout"),
        created_at=now(),
    )


@lru_cache
def _run() -> Insert:
    return insert(runs).values(
        id=bindparam("run"),
        workflow_instance_id=bindparam("workflow_id"),
        run_number=1,
        namespace=bindparam("ns"),
        workflow_type=bindparam("workflow_type"),
        business_key=bindparam("business_key"),
        memo=bindparam("memo", type_=JsonText),
        search_attributes=bindparam("search_attributes", type_=JsonText),
        status="pending",
        payload_codec=bindparam("payload_codec"),
        arguments=bindparam("arguments"),
        queue=bindparam("queue"),
        last_history_sequence=bindparam("last_sequence"),
        run_timeout_seconds=bindparam("run_timeout"),
        execution_deadline_at=later(bindparam("execution_timeout", type_=Float)),
        run_deadline_at=later(bindparam("run_timeout", type_=Float)),
        started_at=now(),
        last_progress_at=now(),
    )


async def start(db: Database, ask: Start, started: Started) -> bool:
    """Write a new instance with its first run; false if the workflow id has been used before, by anyone."""
    values = {
        "ns": ask.namespace, "workflow_id": ask.workflow_id, "workflow_type": ask.workflow_type, "run": started.run_id,
        "business_key": ask.business_key, "memo": ask.memo, "search_attributes": ask.search_attributes,
        "payload_codec": ask.payload_codec, "arguments": ask.arguments, "queue": ask.queue,
        "execution_timeout": ask.execution_timeout_seconds, "run_timeout": ask.run_timeout_seconds,
        "last_sequence": len(started.events), "events": to_json(started.events), "tasks": to_json([started.task]),
    }  # fmt: skip
    history = append_events(postgres=db.postgres), create_tasks(postgres=db.postgres)
    statements: tuple[UpdateBase, ...] = (_instance(), _run(), *history)
    try:
        await db.write(values, *statements)
    except IntegrityError:
        return False
    return True


_OPEN_TASK = (
    select(tasks.c.status)
    .where(tasks.c.workflow_run_id == runs.c.id, tasks.c.status.in_(("ready", "leased")))
    .limit(1)
    .scalar_subquery()
    .label("open_task_status")
)
_RUN = select(
    runs, instances.c.run_count, instances.c.current_run_id, instances.c.execution_timeout_seconds, _OPEN_TASK
).join_from(instances, runs, runs.c.workflow_instance_id == instances.c.id)
_CURRENT = _RUN.where(instances.c.id == bindparam("workflow_id"), runs.c.id == instances.c.current_run_id)
_ONE = _RUN.where(instances.c.id == bindparam("workflow_id"), runs.c.id == bindparam("run_id"))


async def current_run(db: Database, workflow_id: str) -> Row[Any] | None:
    """The instance's current run, in whatever namespace it is."""
    return await db.one(_CURRENT, {"workflow_id": workflow_id})


async def one_run(db: Database, workflow_id: str, run_id: str) -> Row[Any] | None:
    """A named run of the instance."""
    return await db.one(_ONE, {"workflow_id": workflow_id, "run_id": run_id})
