"""The scheduler's three passes. Each is bounded, idempotent, one transaction per item; one bad item stops no other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from dw_refserver.store import maintenance, namespaces
from dw_refserver.store.database import BackendUnavailableError, Database, cause_of

_PER_NAMESPACE = 100


@dataclass
class Tally:
    """What one pass did."""

    name: str
    done: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def touched(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.done or self.skipped or self.failures)


async def evaluate_schedules(db: Database, limit: int) -> Tally:
    """schedule:evaluate: fire what is due."""
    tally = Tally("schedule:evaluate")
    for row in await maintenance.due_schedules(db, limit):
        tally.failures.append(f"schedule {row.namespace}/{row.schedule_id}: this server can't fire schedules")
    return tally


async def enforce_activity_timeouts(db: Database, limit: int) -> Tally:
    """activity:timeout-enforce: time out what has passed a deadline."""
    tally = Tally("activity:timeout-enforce")
    for row in await maintenance.expired_activities(db, limit):
        tally.failures.append(f"activity execution {row.id}: this server can't time out activities")
    return tally


async def prune_history(db: Database, limit: int) -> Tally:
    """history:prune: delete closed runs past their namespace's retention, oldest first, archived ones never."""
    tally = Tally("history:prune")
    for namespace, days in await namespaces.every(db):
        left = min(limit - tally.done - len(tally.failures), _PER_NAMESPACE)
        if left <= 0:
            break
        for run_id in await maintenance.prunable_runs(db, namespace, days, left):
            await _prune_one(db, tally, namespace, days, run_id)
    return tally


async def _prune_one(db: Database, tally: Tally, namespace: str, days: int, run_id: str) -> None:
    try:
        if await maintenance.prune_run(db, namespace, days, run_id):
            tally.done += 1
        else:
            tally.skipped += 1
    except (DBAPIError, BackendUnavailableError) as error:
        tally.failures.append(f"run {run_id}: {cause_of(error)}")


Pass = Callable[[Database, int], Awaitable[Tally]]
PASSES: dict[str, tuple[Pass, str, str]] = {
    "schedule:evaluate": (evaluate_schedules, "No schedules due.", "fired"),
    "activity:timeout-enforce": (enforce_activity_timeouts, "No expired activity executions.", "timed out"),
    "history:prune": (prune_history, "No expired runs to prune.", "pruned"),
}
"""Each pass by its command's name, with what it prints when idle and the word for what it does."""


def lines_of(tally: Tally) -> list[str]:
    """What a person reads: one line per pass, then one per failed item."""
    _, idle, verb = PASSES[tally.name]
    if not tally.touched:
        return [f"{tally.name}: {idle}"]
    summary = f"{tally.name}: {tally.done} {verb}, {tally.skipped} skipped, {len(tally.failures)} failed."
    return [summary, *(f"{tally.name}: failed: {text}" for text in tally.failures)]
