"""Does the scheduler prune closed runs past retention, whole, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from smallcluster import waiting
from smallcluster.api import Exchange
from smallcluster.bodies import text, whole
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.judging import lacking
from smallcluster.checks.rhythm import ROUND_SECONDS
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.containers import BALANCER
from smallcluster.database import days_ago
from smallcluster.errors import ClusterBrokenError
from smallcluster.verdicts import Judgement, broken, holds, unknown

TABLES = ("workflow_runs", "workflow_history_events", "workflow_tasks")
"""Where a pruned run must leave no row."""


@dataclass(frozen=True)
class Run:
    """A run that the check has made: its workflow and run id, and which column was moved how many days back."""

    workflow: str
    id: str
    column: str = ""
    days: float = 0.0


@dataclass
class Pruning:
    """Runs past retention and runs that must stay, and what became of them."""

    retention: int = 0
    """Days that the namespace keeps closed runs."""
    problem: Exchange | None = None
    """The exchange that kept the look from being taken."""
    gone: dict[str, bool] = field(default_factory=dict)
    """Each run past retention, by name: whether it was pruned in time."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows of the first pruned run that are left, by table."""
    kept: dict[str, Exchange] = field(default_factory=dict)
    """Each run that must stay, by name and node: how that node describes it at the end."""


def pruning(live: Live) -> Pruning:
    """Make runs, move some of them past retention in the database, and see which the scheduler takes.

    One more run is moved past retention when the first is gone: once that one is gone too, the round that took the
    first is over, and whatever else it would have taken is gone.
    """
    seen, worker = Pruning(), Worker(live, "retention")
    runs = _made(worker, seen)
    if seen.problem is not None:
        return seen
    for name in ("past", "witness"):
        there = live.api(BALANCER).describe(runs[name].workflow, runs[name].id)
        if there.status != 200:
            seen.problem = there
            return seen
        _backdate(live, runs[name])
        answer = _pruned(live, runs[name])
        seen.gone[name] = answer.status == 404
        if answer.status != 404:
            seen.problem = None if answer.ok else answer
            return seen
    seen.rows = {table: _rows(live, table, runs["past"].id) for table in TABLES}
    seen.kept = {
        f"{name} on {node}": live.api(node).describe(runs[name].workflow, runs[name].id)
        for name in ("within", "just closed", "open")
        for node in live.nodes
    }
    if task := task_in(worker.poll(BALANCER)):  # the open run's, which has served its purpose
        finish(live.api(BALANCER), task)
    return seen


def _made(worker: Worker, seen: Pruning) -> Mapping[str, Run]:
    """Closed runs, one of them still within retention and one just closed, and an open one that began long ago."""
    live = worker.live
    namespace = live.settings.value("DW_DEFAULT_NAMESPACE") or "default"
    told = live.api(BALANCER).get(f"/api/namespaces/{namespace}")
    seen.retention = whole(told.body.get("retention_days"))
    seen.problem = None if seen.retention else told
    worker.register(BALANCER)
    days = seen.retention
    wanted = {
        "past": ("closed_at", days + 1.0),
        "witness": ("closed_at", days + 0.01),
        "within": ("closed_at", days - 0.5),
        "just closed": ("", 0.0),
        "open": ("started_at", days + 100.0),
    }
    runs = {name: _run(worker, name, seen, *moved) for name, moved in wanted.items() if seen.problem is None}
    for name in ("within", "open"):
        if name in runs:
            _backdate(live, runs[name])
    return runs


def _run(worker: Worker, name: str, seen: Pruning, column: str, days: float) -> Run:
    """Start a run and, unless it is to stay open, close it."""
    started = worker.start(BALANCER, f"-{name.replace(' ', '-')}")
    made = Run(text(started.body.get("workflow_id")), text(started.body.get("run_id")), column, days)
    if not (started.ok and made.workflow and made.id):
        seen.problem = started
    elif name != "open":
        polled = worker.poll(BALANCER)
        closed = finish(worker.live.api(BALANCER), task_in(polled)) if task_in(polled) else polled
        seen.problem = None if closed.ok and task_in(polled) else closed
    return made


def _backdate(live: Live, run: Run) -> None:
    moment = days_ago(live.settings.db, run.days)
    live.cluster.query(f"UPDATE workflow_runs SET {run.column} = {moment} WHERE id = '{run.id}'")  # noqa: S608 - our ids


def _pruned(live: Live, run: Run) -> Exchange:
    """Wait until the run is gone; gives the last answer, which is a 200 where it is still there."""
    last = live.api(BALANCER).describe(run.workflow, run.id)

    def there() -> str | None:
        nonlocal last
        last = live.api(BALANCER).describe(run.workflow, run.id)
        return f"history:prune to take {run.workflow}" if last.status == 200 else None

    with suppress(ClusterBrokenError):  # the judge sees a run that is still there, and says so
        waiting.until_none("it is pruned", there, deadline=live.patience)
    return last


def _rows(live: Live, table: str, run: str) -> int:
    column = "id" if table == "workflow_runs" else "workflow_run_id"
    return int(live.cluster.query(f"SELECT count(*) FROM {table} WHERE {column} = '{run}'")[0])  # noqa: S608 - our ids


@check(
    "closed-run-is-pruned",
    "scheduler.prunes",
    probe=pruning,
    needs=[Need.ENGINE, Need.DATABASE, Need.WRITES],
    waits=2 * ROUND_SECONDS,
)
def closed_run_is_pruned(seen: Pruning) -> Judgement:
    """A closed run past retention is pruned, whole; one within it, one just closed and an old open one stay."""
    if seen.problem is not None:
        return unknown(seen.problem.shown, cause=_unmade(seen.problem))
    if not seen.gone.get("past"):
        return broken(
            f"a run that closed {seen.retention + 1} days ago is still there, {seen.retention} are kept",
            expected="404 for it, two rounds of the scheduler later at the latest",
            cause="the scheduler is down, or its command leaves history:prune out.",
            then="invoke logs --service=scheduler",
        )
    left = [f"{count} rows of it left in {table}" for table, count in seen.rows.items() if count]
    lost = [f"{name}: {answer.shown}" for name, answer in seen.kept.items() if answer.status == 404]
    unseen = [
        f"{name}: {answer.shown}" for name, answer in seen.kept.items() if not (answer.ok or answer.status == 404)
    ]
    evidence = [f"closed {seen.retention + 1} days ago, {seen.retention} kept: pruned", *left, *lost, *unseen]
    if left or lost:
        return broken(
            *evidence,
            expected="no row of the pruned run, and every other run described on every node",
            cause="the pass deletes too little or too much.",
            then="invoke logs --service=scheduler",
        )
    if unseen:
        return unknown(*evidence, cause="not every node told whether the runs that must stay are there.")
    if not seen.gone.get("witness"):
        return unknown(*evidence, cause="no later round was seen, so more may be deleted yet.")
    return holds(*evidence, f"still there: {', '.join(seen.kept)}")


def _unmade(answer: Exchange) -> str:
    """Why there was nothing to prune."""
    untold = f"{answer.path} tells no retention_days." if answer.ok and "/namespaces/" in answer.path else ""
    return lacking(answer) or untold or "an earlier step failed, so there was nothing to prune."
