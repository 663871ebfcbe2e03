"""Does the scheduler fire a schedule that has come due, and does it fire it once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote

from smallcluster.api import Exchange, JsonBody
from smallcluster.checks.base import Live, check
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
    def runs(self) -> int:
        """How many runs the first schedule has started, by the list of workflows."""
        found = self.listed.body.get("workflows") if self.listed else None
        return len(found) if isinstance(found, list) else 0

    @property
    def next_fire(self) -> str:
        """When the first schedule comes due next, as the cluster tells it."""
        told = self.described.body if self.described else {}
        info = told.get("info")
        return str(told.get("next_fire_at") or (info.get("next_fire") if isinstance(info, dict) else "") or "")

    @property
    def still_to_come(self) -> bool:
        """Whether that time lay in the future when it was asked for."""
        try:
            return datetime.fromisoformat(self.next_fire).timestamp() > (self.described.at if self.described else 0)
        except ValueError:
            return False


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
    seen = Firing(created=created)
    if not created.ok:
        return seen
    handed = first.wait_for_task(BALANCER, PATIENCE_SECONDS)
    seen = replace(seen, handed=handed, seconds=time.time() - due)
    if not task_in(handed):
        return replace(seen, described=live.api(BALANCER).get(f"/api/schedules/{first.queue}"))
    if not _schedule(later)[0].ok:
        return seen
    witnessed = later.wait_for_task(BALANCER, PATIENCE_SECONDS)
    balancer = live.api(BALANCER)
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
        if seen.still_to_come:
            cause = "it was created too late for its time to come, or the cluster's clock is not this machine's."
            return unknown(seen.created.shown, f"next due {seen.next_fire}", cause=cause)
        return broken(
            seen.created.shown,
            seen.handed.shown,
            expected=f"a run within {PATIENCE_SECONDS} s",
            cause="the scheduler is down, or its command leaves schedule:evaluate out.",
            then="invoke logs --service=scheduler",
        )
    evidence = [f"fired {seen.seconds:.1f} s after it came due", f"runs started: {seen.runs}"]
    if seen.runs > 1 or task_in(seen.again):
        return broken(
            *evidence,
            expected="one run",
            cause="two schedulers run, or the next due time is not moved in the transaction that starts the run.",
            then="invoke status",
        )
    if not task_in(seen.witnessed) or seen.runs != 1:
        shown = [one.shown for one in (seen.witnessed, seen.listed) if one is not None]
        return unknown(*evidence, *shown, cause="no later round was seen, so a second run may be to come.")
    return holds(*evidence, "a later round has fired another schedule meanwhile, and this one not again")


def _not_created(answer: Exchange) -> Judgement:
    cause = "no schedule could be created, so none could come due."
    if not answer.path.startswith("/api/schedules") or answer.status in (404, 405):
        return unknown(answer.shown, cause=cause)
    return broken(answer.shown, expected="201 with outcome created", cause=cause, then="invoke logs")
