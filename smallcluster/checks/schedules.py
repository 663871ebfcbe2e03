"""Does the scheduler fire a schedule that has come due, and does it fire it once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote

from smallcluster.api import Exchange, JsonBody
from smallcluster.bodies import mapping, text
from smallcluster.checks.base import Live, check
from smallcluster.checks.judging import lacking
from smallcluster.checks.rhythm import PATIENCE_SECONDS, ROUND_SECONDS
from smallcluster.checks.worker import GIVEN, Worker, finish, task_in
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

LEADS_SECONDS = (1.5, 4.5, 13.5)
"""How far ahead at most a schedule's one occurrence lies when its creation is sent; the next one where it came late."""


@dataclass(frozen=True, kw_only=True)
class Firing:
    """A schedule that comes due once within the hour, and a later one that shows when another round is over.

    A step that was not reached, because the one before it failed, is None. `seconds` is how long after its due time
    the first run's task was handed out.
    """

    created: Exchange
    due: float = 0.0
    """When the first schedule comes due, seconds since the epoch."""
    handed: Exchange | None = None
    seconds: float = 0.0
    witnessed: Exchange | None = None
    """The task of the later schedule's run: it was fired by a round that began after the first run was there."""
    again: Exchange | None = None
    """A second poll for a run of the first schedule, after that later round."""
    listed: Exchange | None = None
    """All runs of the first schedule's workflow type."""
    described: Exchange | None = None

    @property
    def missed(self) -> bool:
        """Whether the server itself says that the schedule comes due much later: it took it in after its due time."""
        body = self.described.body if self.described else {}
        told = text(body.get("next_fire_at")) or text(mapping(body.get("info")).get("next_fire"))
        return _epoch(told) > self.due + 2 * PATIENCE_SECONDS

    @property
    def runs(self) -> int:
        """How many runs the first schedule has started, by the list of workflows."""
        found = self.listed.body.get("workflows") if self.listed else None
        return len(found) if isinstance(found, list) else 0


def firing(live: Live) -> Firing:
    """Let one schedule come due, then another one, and count what the first has started."""
    first, later = Worker(live, "schedule"), Worker(live, "schedule-witness")
    try:
        return _fired(live, first, later)
    finally:
        for worker in (first, later):
            live.api(BALANCER).delete(f"/api/schedules/{worker.queue}")


def _fired(live: Live, first: Worker, later: Worker) -> Firing:
    created, due = _schedule(first)
    seen = Firing(created=created, due=due)
    if not (created.ok and created.body.get("outcome") == "created"):
        return seen
    handed, balancer = first.wait_for_task(BALANCER, PATIENCE_SECONDS), live.api(BALANCER)
    seen = replace(seen, handed=handed, seconds=time.time() - due)
    if not task_in(handed):
        return replace(seen, described=balancer.get(f"/api/schedules/{first.queue}"))
    if not _schedule(later)[0].ok:
        return seen
    witnessed = later.wait_for_task(BALANCER, PATIENCE_SECONDS)
    seen = replace(
        seen,
        witnessed=witnessed,
        again=first.poll(BALANCER, hold=0),
        listed=balancer.get(f"/api/workflows?workflow_type={quote(first.workflow_type)}"),
        described=balancer.get(f"/api/schedules/{first.queue}"),
    )
    for answer in (handed, witnessed, seen.again):
        if task := task_in(answer):
            finish(balancer, task)
    return seen


def _schedule(worker: Worker) -> tuple[Exchange, float]:
    """Register the worker and create a schedule for it that comes due soon, and then not for an hour.

    Gives the exchange (the one that failed, if the worker could not register) and the due time, seconds since the
    epoch. A creation that was answered after the due time may have missed it: that schedule is deleted and another
    one, with a longer lead, is made instead.
    """
    answer, due = worker.register(BALANCER), 0
    for lead in LEADS_SECONDS if answer.ok else ():
        due = int(time.time() + lead - 0.5) + 1
        answer = worker.live.api(BALANCER).post("/api/schedules", _body(worker, due), "control")
        if not answer.ok or time.time() < due:
            break
        worker.live.api(BALANCER).delete(f"/api/schedules/{worker.queue}")
    return answer, due


def _body(worker: Worker, due: int) -> JsonBody:
    """A schedule with one occurrence an hour: an interval's are counted from the epoch, so the offset chooses it."""
    return {
        "schedule_id": worker.queue,
        "spec": {"intervals": [{"every": "PT1H", "offset": f"PT{due % 3600}S"}], "timezone": "UTC"},
        "action": {"workflow_type": worker.workflow_type, "task_queue": worker.queue, "input": GIVEN},
        "overlap_policy": "allow_all",  # what is fired twice is started twice, and seen
    }


@check(
    "due-schedule-fires-once",
    "scheduler.fires-once",
    probe=firing,
    waits=2 * (LEADS_SECONDS[0] + ROUND_SECONDS),
)
def due_schedule_fires_once(seen: Firing) -> Judgement:
    """A schedule that has come due starts its workflow, once, also after another round of the scheduler."""
    if seen.handed is None:
        return _not_created(seen.created)
    if not task_in(seen.handed):
        return _not_fired(seen, seen.handed)
    evidence = [f"fired {seen.seconds:.1f} s after it came due", f"runs started: {seen.runs}"]
    if seen.runs > 1 or task_in(seen.again):
        return broken(
            *evidence,
            expected="one run",
            cause="two schedulers run, or the next due time is not moved in the transaction that starts the run.",
            then="invoke status",
        )
    shown = [one.shown for one in (seen.witnessed, seen.listed) if one is not None]
    if not task_in(seen.witnessed):
        return unknown(*evidence, *shown, cause="no later round was seen, so a second run may be to come.")
    if seen.runs != 1:
        return unknown(*evidence, *shown, cause=lacking(seen.listed) or "the list of workflows does not show the run.")
    return holds(*evidence, "a later round has fired another schedule meanwhile, and this one not again")


def _not_fired(seen: Firing, handed: Exchange) -> Judgement:
    if seen.missed:
        cause = "the schedule's one due time was over when the server took it in, or the server knows no offset."
        return unknown(seen.created.shown, handed.shown, cause=cause)
    return broken(
        seen.created.shown,
        handed.shown,
        expected=f"a run within {PATIENCE_SECONDS} s",
        cause=lacking(handed) or "the scheduler is down, or its command leaves schedule:evaluate out.",
        then="invoke logs --service=scheduler",
    )


def _not_created(answer: Exchange) -> Judgement:
    cause = "no schedule could be created, so none could come due."
    if lack := lacking(answer):
        return unknown(answer.shown, cause=lack)
    if not answer.path.startswith("/api/schedules") or answer.ok:
        return unknown(answer.shown, cause=cause)
    return broken(answer.shown, expected="201 with outcome created", cause=cause, then="invoke logs")


def _epoch(moment: str) -> float:
    """An ISO 8601 moment in seconds since the epoch; 0 where it is none."""
    try:
        return datetime.fromisoformat(moment).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
