"""The one scheduler: its three passes in turn, a pause, and again, until SIGTERM.

Each pass is bounded and idempotent, with one transaction per item; one bad item stops no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from dw_refserver.activity_engine import Outcome
from dw_refserver.engine import NewTask
from dw_refserver.logs import name_node
from dw_refserver.settings import Settings
from dw_refserver.signals import Announcer, announcing
from dw_refserver.store import activities, maintenance, namespaces, schedules
from dw_refserver.store.database import BackendUnavailableError, Database, cause_of, opened
from dw_refserver.wake import Queue

_PER_NAMESPACE = 100
_EVENTS_PER_NAMESPACE = 1000
"""More than what schedule:evaluate writes meanwhile, so that schedules' histories can't outgrow their retention."""

_PAUSE_SECONDS = 60.0
"""How long a schedule that failed lets others go first."""


@dataclass
class Tally:
    """What one pass did."""

    done: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)
    also: str | None = None


async def evaluate_schedules(db: Database, limit: int, announcer: Announcer) -> Tally:
    """schedule:evaluate: fire each schedule that is due, once, and move it on to its next occurrence.

    One that fails, for whatever reason, is put off, so that it holds up no other; a database that went away
    meanwhile is no fault of the schedule's, so that costs it a second only.
    """
    tally = Tally()
    for row in await schedules.due(db, limit):
        try:
            change = await schedules.fire_due(db, row.id)
        except Exception as error:
            tally.failures.append(f"schedule {row.namespace}/{row.schedule_id}: {cause_of(error)}")
            await schedules.postpone(db, row.id, 1 if isinstance(error, BackendUnavailableError) else _PAUSE_SECONDS)
            continue
        start = change and change.start
        tally.done, tally.skipped = tally.done + bool(start), tally.skipped + (not start)
        if start:
            announcer.announce(Queue(start.namespace, start.queue), start.workflow_type)
    return tally


async def enforce_activity_timeouts(db: Database, limit: int, announcer: Announcer) -> Tally:
    """activity:timeout-enforce: end or retry each attempt that has passed a deadline."""
    tally = Tally()
    for row in await maintenance.expired_activities(db, limit):
        try:
            found = await activities.expire(db, row.id)
        except (DBAPIError, BackendUnavailableError, LookupError, TypeError, ValueError) as error:
            tally.failures.append(f"activity execution {row.id}: {cause_of(error)}")
        else:
            enforced = isinstance(found, Outcome)
            tally.done, tally.skipped = tally.done + enforced, tally.skipped + (not enforced)
            _announce(announcer, row.namespace, found.new_tasks if isinstance(found, Outcome) else ())
    return tally


def _announce(announcer: Announcer, namespace: str, new_tasks: Iterable[NewTask]) -> None:
    for task in new_tasks:
        announcer.announce_later(Queue(namespace, task.queue, task.task_type), task.target_type, task.delay)


async def prune_history(db: Database, limit: int, _: Announcer) -> Tally:
    """history:prune: delete closed runs past their namespace's retention, oldest first, archived ones never; and what
    schedules' histories hold past it."""
    tally, events = Tally(), 0
    found = await namespaces.every(db)
    for namespace in random.sample(found, len(found)):  # by lot, so that a busy one starves no other
        if namespace.retention_mode == namespaces.FOREVER:
            continue
        name, days = namespace.name, namespace.retention_days
        left = min(limit - tally.done - len(tally.failures), _PER_NAMESPACE)
        try:
            await _prune_runs(db, name, days, left, tally)
            events += await maintenance.prune_schedules(db, name, days, _EVENTS_PER_NAMESPACE)
        except (DBAPIError, BackendUnavailableError) as error:
            tally.failures.append(f"namespace {name}: {cause_of(error)}")
    tally.also = f"{events} rows of schedules' histories pruned." if events else None
    return tally


async def _prune_runs(db: Database, namespace: str, days: int, most: int, tally: Tally) -> None:
    for run_id in await maintenance.prunable_runs(db, namespace, days, most):
        try:
            pruned = await maintenance.prune_run(db, namespace, days, run_id)
        except (DBAPIError, BackendUnavailableError) as error:
            tally.failures.append(f"run {run_id}: {cause_of(error)}")
        else:
            tally.done, tally.skipped = tally.done + pruned, tally.skipped + (not pruned)


Pass = Callable[[Database, int, Announcer], Awaitable[Tally]]
PASSES: dict[str, tuple[Pass, str, str]] = {
    "schedule:evaluate": (evaluate_schedules, "No schedules due.", "fired"),
    "activity:timeout-enforce": (enforce_activity_timeouts, "No expired activity executions.", "timed out"),
    "history:prune": (prune_history, "No expired runs to prune.", "pruned"),
}
"""Each pass by its command's name, with what it prints when idle and the word for what it does."""


def run_pass(settings: Settings, name: str, limit: int) -> int:
    """Run one pass once. 0 if all items went well, else 1."""

    async def once() -> int:
        async with opened(settings.database, name) as db, announcing(settings.redis) as announcer:
            return 0 if await _pass(db, name, limit, announcer) else 1

    return asyncio.run(once())


def run_loop(settings: Settings, limit: int) -> int:
    """Loop until SIGTERM or SIGINT. Trouble with the database is said and tried again, never fatal."""
    name_node(settings.server_id)
    return asyncio.run(_loop(settings, limit))


async def _loop(settings: Settings, limit: int) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    async with opened(settings.database, "scheduler") as db, announcing(settings.redis) as announcer:
        while not stop.is_set():
            await _until(stopping, _all_passes(db, settings, limit, announcer))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.scheduler_interval):
                    await stop.wait()
    print("scheduler: stopped", flush=True)  # noqa: T201
    return 0


async def _until(stopping: asyncio.Task[Any], work: Coroutine[Any, Any, None]) -> None:
    """Do the work, but drop it when it is time to stop: every item is a transaction of its own."""
    task = asyncio.create_task(work)
    await asyncio.wait({stopping, task}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()  # a fault that no pass accounts for ends the scheduler, in sight of whoever restarts it
    task.cancel()
    await asyncio.wait({task}, timeout=0.5)


async def _all_passes(db: Database, settings: Settings, limit: int, announcer: Announcer) -> None:
    answered = [await _pass(db, name, limit, announcer) is not None for name in PASSES]
    if all(answered):
        Path(settings.scheduler_beat_file).touch()


async def _pass(db: Database, name: str, limit: int, announcer: Announcer) -> bool | None:
    """Run a pass and print its lines. True if all went well, False if items failed, None if it could not run."""
    work, idle, verb = PASSES[name]
    try:
        tally = await work(db, limit, announcer)
    except (BackendUnavailableError, DBAPIError) as error:
        print(f"{name}: could not run: {cause_of(error)}", flush=True)  # noqa: T201 - the scheduler's log, for people
        return None
    counts = f"{tally.done} {verb}, {tally.skipped} skipped, {len(tally.failures)} failed."
    lines = [
        counts if tally != Tally() else idle,
        *([tally.also] if tally.also else []),
        *(f"failed: {text}" for text in tally.failures),
    ]
    print("\n".join(f"{name}: {line}" for line in lines), flush=True)  # noqa: T201
    return not tally.failures
