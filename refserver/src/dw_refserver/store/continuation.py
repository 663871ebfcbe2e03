"""A run that goes on as another: the next run of the same workflow id, in the transaction that ends the first."""

from __future__ import annotations

from sqlalchemy import Integer, bindparam, case, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dw_refserver.engine import Continued
from dw_refserver.store.database import Database, execute_together
from dw_refserver.store.dialect import later, now
from dw_refserver.store.history import append_events, create_tasks, to_json
from dw_refserver.store.tables import instances, runs

R = runs.c
_INHERITED = ("workflow_instance_id", "namespace", "business_key", "payload_codec", "compatibility", "memo",
              "run_timeout_seconds", "execution_deadline_at")  # fmt: skip
_DEADLINE, _LAST = case((R.run_timeout_seconds.is_not(None), later(R.run_timeout_seconds))), R.execution_deadline_at
_NEXT = {
    "id": bindparam("run"),
    "run_number": R.run_number + 1,
    "workflow_type": bindparam("type"),
    "queue": bindparam("q"),
    "arguments": func.coalesce(bindparam("blob", type_=R.arguments.type), R.arguments),
    "status": literal("pending"),
    "last_history_sequence": bindparam("last", type_=Integer),
    "run_deadline_at": _DEADLINE,
    "next_deadline_at": func.least(func.coalesce(_DEADLINE, _LAST), func.coalesce(_LAST, _DEADLINE)),
    "started_at": now(),
    "last_progress_at": now(),
    **{name: R[name] for name in _INHERITED},
}
_RUN = insert(runs).from_select(list(_NEXT), select(*_NEXT.values()).where(R.id == bindparam("before")))
_INSTANCE = (
    update(instances)
    .where(instances.c.id == select(R.workflow_instance_id).where(R.id == bindparam("before")).scalar_subquery())
    .values(current_run_id=bindparam("run"), run_count=instances.c.run_count + 1)
)


async def begin_next(
    db: Database, connection: AsyncConnection, namespace: str, before: str, next_run: Continued
) -> None:
    """Write the run that follows `before`, make it the workflow's current one and give it its first task."""
    values = {
        "before": before, "run": next_run.id, "ns": namespace, "type": next_run.workflow_type, "q": next_run.queue,
        "blob": next_run.arguments, "last": len(next_run.events), "events": to_json(next_run.events),
        "tasks": to_json([next_run.new_task]),
    }  # fmt: skip
    writes = [_RUN, _INSTANCE, append_events(postgres=db.postgres), create_tasks(postgres=db.postgres)]
    await execute_together(connection, values, writes, postgres=db.postgres)
