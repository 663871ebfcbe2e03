"""What every decision appends: history events and new tasks; and reading history back in pages.

New rows travel as one JSON parameter: such a statement is compiled once, whatever their number, and can stand inside a
larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy import CTE, Insert, Subquery, bindparam, insert, literal, select

from dw_refserver.store.database import Database
from dw_refserver.store.dialect import later, now, rows_as_json
from dw_refserver.store.tables import activities, events, runs, tasks

_EVENT = ("id", "sequence", "event_type", "payload", "workflow_task_id", "workflow_command_id")
_TASK = (
    "id", "queue", "target_type", "compatibility", "attempt_count", "task_type", "payload", "activity_execution_id",
)  # fmt: skip
_ACTIVITY = ("id", "sequence", "activity_type", "payload_codec", "arguments", "retry_policy", "parallel")
_WITHIN = ("start_within", "close_within", "deadline_within")


@lru_cache
def append_events(*, postgres: bool, given: CTE | None = None) -> Insert:
    """Append the rows of parameter `events` to the history of `run`; with `given`, only if it has a row."""
    rows = _from_json(events, _EVENT, "events", postgres=postgres)
    source = select(bindparam("run"), now(), *(rows.c[name] for name in _EVENT))
    return insert(events).from_select(["workflow_run_id", "recorded_at", *_EVENT], _only_if(given, rows, source))


@lru_cache
def create_tasks(*, postgres: bool, given: CTE | None = None) -> Insert:
    """Create the ready tasks of parameter `tasks` for `run` in namespace `ns`; with `given`, only if it has a row."""
    rows = _from_json(tasks, _TASK, "tasks", postgres=postgres, delay=sa.Float)
    source = select(bindparam("run"), bindparam("ns"), literal("ready"), later(rows.c.delay), now(),
                    *(rows.c[name] for name in _TASK))  # fmt: skip
    names = ["workflow_run_id", "namespace", "status", "available_at", "created_at", *_TASK]
    return insert(tasks).from_select(names, _only_if(given, rows, source))


@lru_cache
def create_activities(*, postgres: bool, given: CTE | None = None) -> Insert:
    """Create the pending executions of parameter `activities` for `run`; with `given`, only if it has a row."""
    within = dict.fromkeys(_WITHIN, sa.Float)
    rows = _from_json(activities, _ACTIVITY, "activities", postgres=postgres, **within)
    moments = later(rows.c.start_within), later(rows.c.close_within), later(rows.c.deadline_within)
    source = select(bindparam("run"), literal("pending"), now(), *moments, *(rows.c[name] for name in _ACTIVITY))
    names = ["workflow_run_id", "status", "created_at", "schedule_to_start_at", "schedule_to_close_at",
             "next_deadline_at", *_ACTIVITY]  # fmt: skip
    return insert(activities).from_select(names, _only_if(given, rows, source))


def _only_if(given: CTE | None, rows: Subquery, source: sa.Select[Any]) -> sa.Select[Any]:
    return source.select_from(rows if given is None else rows.join(given, literal(value=True)))


def _from_json(
    table: sa.Table, names: Sequence[str], parameter: str, *, postgres: bool, **extra: type[sa.types.TypeEngine[Any]]
) -> Subquery:
    """The named columns of `table`, and `extra` ones with their type, read from the JSON array that is bound."""
    types = {name: table.c[name].type for name in names} | {name: kind() for name, kind in extra.items()}
    sql = _postgres(parameter, types) if postgres else _mysql(parameter, types)
    return sa.text(sql).columns(*(sa.column(name, kind) for name, kind in types.items())).subquery(f"{parameter}_rows")


def to_json(rows: Sequence[Any]) -> str:
    """The value of a parameter `events`, `tasks` or `activities`: dataclass instances as an array of objects."""
    return orjson.dumps([asdict(row) for row in rows]).decode()


def _postgres(parameter: str, types: dict[str, sa.types.TypeEngine[Any]]) -> str:
    columns = ", ".join(f"{name} {_name_of(kind, 'text', 'integer')}" for name, kind in types.items())
    return f"SELECT * FROM json_to_recordset(CAST(:{parameter} AS json)) AS given({columns})"  # noqa: S608 - own names


def _mysql(parameter: str, types: dict[str, sa.types.TypeEngine[Any]]) -> str:
    each = [f"{name} {_name_of(kind, 'longtext', 'int')} PATH '$.{name}'" for name, kind in types.items()]
    return f"SELECT * FROM JSON_TABLE(:{parameter}, '$[*]' COLUMNS ({', '.join(each)})) AS given"  # noqa: S608


def _name_of(kind: sa.types.TypeEngine[Any], words: str, whole: str) -> str:
    if isinstance(kind, sa.Float):
        return "double precision"
    return whole if isinstance(kind, sa.Integer) else words


class Recorded(NamedTuple):
    """A history event as it is stored. `payload` is JSON text."""

    id: str
    sequence: int
    event_type: str
    payload: str
    workflow_task_id: str | None
    workflow_command_id: str | None
    recorded_at: datetime


_RECORDED = tuple(events.c[name] for name in Recorded._fields)
_PAGE = (
    select(*_RECORDED)
    .where(events.c.workflow_run_id == bindparam("run"))
    .where(events.c.sequence > bindparam("after"), events.c.sequence <= bindparam("upto"))
    .order_by(events.c.sequence)
)
SHORT = 16
"""So few events come with the claim of a task: even the longest that may be written then fit into one value."""
OPENING = sa.case(
    (
        runs.c.last_history_sequence <= SHORT,
        select(rows_as_json(*_RECORDED)).where(events.c.workflow_run_id == runs.c.id).correlate(runs).scalar_subquery(),
    )
).label("opening")
"""A short history whole, for a statement that reads its run; null for a longer one."""


async def page(db: Database, run_id: str, after: int, upto: int) -> Sequence[Recorded]:
    """The run's events with `after` < sequence <= `upto`, in order."""
    return [Recorded._make(row) for row in await db.all(_PAGE, {"run": run_id, "after": after, "upto": upto})]


async def first_page(db: Database, run: Any, size: int) -> Sequence[Recorded]:
    """The first events of a run that was read with its OPENING, at most so many; read here only if they are many."""
    if run.opening is None or run.last_history_sequence > size:
        return await page(db, run.workflow_run_id, 0, min(run.last_history_sequence, size))
    found = [Recorded._make((*row[:-1], datetime.fromisoformat(row[-1]))) for row in orjson.loads(run.opening)]
    return sorted(found, key=attrgetter("sequence"))
