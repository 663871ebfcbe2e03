"""What every decision appends: history events and new tasks; and reading history back in pages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import CTE, Float, Insert, Row, bindparam, insert, literal, select

from dw_refserver.store.database import Database
from dw_refserver.store.dialect import later, now
from dw_refserver.store.rows import from_json
from dw_refserver.store.tables import events, tasks

_EVENT = ("id", "sequence", "event_type", "payload", "workflow_task_id", "workflow_command_id")
_TASK = ("id", "queue", "target_type", "compatibility", "attempt_count", "task_type")


@lru_cache
def append_events(*, postgres: bool, given: CTE | None = None) -> Insert:
    """Append the rows of parameter `events` to the history of `run`; with `given`, only if it has a row."""
    rows = from_json(events, _EVENT, "events", postgres=postgres)
    source = select(bindparam("run"), now(), *(rows.c[name] for name in _EVENT))
    source = source.select_from(rows) if given is None else source.select_from(rows.join(given, literal(value=True)))
    return insert(events).from_select(["workflow_run_id", "recorded_at", *_EVENT], source)


@lru_cache
def create_tasks(*, postgres: bool, given: CTE | None = None) -> Insert:
    """Create the ready tasks of parameter `tasks` for `run` in namespace `ns`; with `given`, only if it has a row."""
    rows = from_json(tasks, _TASK, "tasks", postgres=postgres, delay=Float)
    source = select(bindparam("run"), bindparam("ns"), literal("ready"), later(rows.c.delay), now(),
                    *(rows.c[name] for name in _TASK))  # fmt: skip
    source = source.select_from(rows) if given is None else source.select_from(rows.join(given, literal(value=True)))
    names = ["workflow_run_id", "namespace", "status", "available_at", "created_at", *_TASK]
    return insert(tasks).from_select(names, source)


_PAGE = (
    select(events)
    .where(events.c.workflow_run_id == bindparam("run"))
    .where(events.c.sequence > bindparam("after"), events.c.sequence <= bindparam("upto"))
    .order_by(events.c.sequence)
)


async def page(db: Database, run_id: str, after: int, upto: int) -> Sequence[Row[Any]]:
    """The run's events with `after` < sequence <= `upto`, in order."""
    return await db.all(_PAGE, {"run": run_id, "after": after, "upto": upto})
