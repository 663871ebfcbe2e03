"""Does the scheduler fire a schedule that has come due, and does it fire it once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote

from smallcluster.api import Exchange, JsonBody
from smallcluster.bodies import mapping, text
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.judging import lacking
from smallcluster.checks.rhythm import ROUND_SECONDS
from smallcluster.checks.worker import GIVEN, Worker, finish, task_in
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

FAR_SECONDS = 60
"""A due time that lies so much later is another one."""
LEADS_SECONDS = (1.5, 4.5, 13.5)
"""How far ahead, give or take half a second, a schedule's one occurrence lies when its creation is sent.

The next one is tried where the creation came too late.
"""


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

    late: bool = False
    """Whether the first schedule's creation was answered after its due time."""
    left: tuple[str, ...] = ()
    """What came of the deletion of schedules that may still be there."""

    @property
    def missed(self) -> bool:
        """Whether it was taken in after its due time, by our clock or the server's, and waits for the next."""
        body = self.described.body if self.described else {}
        told = text(body.get("next_fire_at")) or text(mapping(body.get("info")).get("next_fire"))
        late = self.late or _epoch(text(body.get("created_at"))) >= self.due
        return late and _epoch(told) > self.due + FAR_SECONDS

    @property
    def runs(self) -> int:
        """How many runs the first schedule has started, by the list of workflows."""
        found = self.listed.body.get("workflows") if self.listed else None
        return len(found) if isinstance(found, list) else 0


@dataclass(frozen=True)
class _Planned:
    """A schedule of a worker's own: what came of its creation, when it comes due, whether that was over by then."""

    worker: Worker
    created: Exchange
    due: float
    late: bool = False


def firing(live: Live) -> Firing:
    """Let one schedule come due, then another one, and count what the first has started."""
    made: list[Worker] = []
    try:
        seen = _fired(live, made)
    finally:
        answers = [live.api(BALANCER).delete(f"/api/schedules/{worker.queue}") for worker in made]
    return replace(seen, left=tuple(one.shown for one in answers if not (one.ok or one.status == 404)))


def _fired(live: Live, made: list[Worker]) -> Firing:
    plan, balancer = _planned(live, "schedule", made), live.api(BALANCER)
    seen = Firing(created=plan.created, due=plan.due, late=plan.late)
    if not (plan.created.ok and plan.created.body.get("outcome") == "created"):
        return seen
    handed = plan.worker.wait_for_task(BALANCER, live.patience)
    seen = replace(seen, handed=handed, seconds=time.time() - plan.due)
    if not task_in(handed):
        return replace(seen, described=balancer.get(f"/api/schedules/{plan.worker.queue}"))
    finish(balancer, task_in(handed))  # at once: its lease may end before the later round, and it would come again
    later = _planned(live, "schedule-witness", made)
    if not later.created.ok:
        return seen
    witnessed = later.worker.wait_for_task(BALANCER, live.patience)
    seen = replace(
        seen,
        witnessed=witnessed,
        again=plan.worker.poll(BALANCER, hold=0),
        listed=balancer.get(f"/api/workflows?workflow_type={quote(plan.worker.workflow_type)}"),
        described=balancer.get(f"/api/schedules/{plan.worker.queue}"),
    )
    for answer in (witnessed, seen.again):
        if task := task_in(answer):
            finish(balancer, task)
    return seen


def _planned(live: Live, purpose: str, made: list[Worker]) -> _Planned:
    """Register a worker and create a schedule for it that comes due soon, and then not for an hour.

    Where the worker can't register, the exchange is that failure. A creation that is answered after the due time may
    have missed it, or not: another schedule, of another worker and with a longer lead, is made instead.
    """
    for lead in LEADS_SECONDS:
        worker = Worker(live, purpose)
        registered = worker.register(BALANCER)
        if not registered.ok:
            return _Planned(worker, registered, 0)
        made.append(worker)
        due = int(time.time() + lead - 0.5) + 1
        created = live.api(BALANCER).post("/api/schedules", _body(worker, due), "control")
        plan = _Planned(worker, created, due, late=time.time() >= due)
        if not (created.ok and plan.late):
            break
    return plan


def _body(worker: Worker, due: int) -> JsonBody:
    """A schedule with one occurrence an hour: an interval's are counted from the epoch, so the offset chooses it."""
    return {
        "schedule_id": worker.queue,
        "spec": {"intervals": [{"every": "PT1H", "offset": f"PT{due % 3600}S"}], "timezone": "UTC"},
        "action": {"workflow_type": worker.workflow_type, "task_queue": worker.queue, "input": GIVEN},
        "overlap_policy": "allow_all",  # what is fired twice is started twice, and seen
        "max_runs": 2,  # and no more, should nobody be able to delete it
    }


@check(
    "due-schedule-fires-once",
    "scheduler.fires-once",
    probe=firing,
    needs=[Need.WRITES],
    waits=2 * (LEADS_SECONDS[0] + ROUND_SECONDS),
)
def due_schedule_fires_once(seen: Firing) -> Judgement:
    """A schedule that has come due starts its workflow, once, also after another round of the scheduler."""
    if seen.handed is None:
        return _not_created(seen.created)
    if not task_in(seen.handed):
        return _not_fired(seen, seen.handed)
    evidence = [f"fired {seen.seconds:.1f} s after it came due", f"runs started: {seen.runs}"]
    evidence += [f"may be left behind: {one}" for one in seen.left]
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
        expected="a run, two rounds of the scheduler later at the latest",
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
