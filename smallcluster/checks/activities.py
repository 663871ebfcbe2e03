"""Activity tasks that cross nodes: leased, heartbeaten, completed through different ones; and one that lapses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from smallcluster.api import Exchange, JsonBody
from smallcluster.bodies import mapping, mappings, text
from smallcluster.checks.base import Live, Need, Pair, check
from smallcluster.checks.judging import judge_refusals, lacking, refused
from smallcluster.checks.rhythm import ROUND_SECONDS
from smallcluster.checks.worker import Worker, finish, schedule_activity, task_in
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

TIMEOUT_SECONDS = 1
"""How long the activity that is let lapse may take from its start to its close."""


@dataclass(frozen=True, kw_only=True)
class ActivityCrossing(Pair):
    """One activity, leased through `first`, heartbeaten through `second` and completed through the balancer.

    `scheduled` is the last exchange of what comes before: the workflow task that schedules the activity, or the step
    on the way there that failed. A later step that was not reached is None.
    """

    scheduled: Exchange
    leased: Exchange | None = None
    beaten: Exchange | None = None
    foreign: Exchange | None = None
    """A completion through `second` by a worker that does not hold the lease."""
    stale: Exchange | None = None
    """A completion through `second` by the holder, for an attempt that does not exist."""
    completed: Exchange | None = None
    repeated: Exchange | None = None
    """The same completion once more, through `first`."""
    resumed: Exchange | None = None
    """The poll, through `second`, for the workflow task that the activity's end creates."""
    described: Exchange | None = None


@dataclass(frozen=True, kw_only=True)
class Lapse:
    """An activity that its worker leased and then forgot. `seconds` went by from the lease to the workflow's next task.

    Where the lease was never got, `leased` is the exchange that failed on the way there.
    """

    leased: Exchange
    resumed: Exchange | None = None
    late: Exchange | None = None
    """The completion that the worker sends after all, too late."""
    seconds: float = 0.0


def activity_crossings(live: Live) -> tuple[ActivityCrossing, ...]:
    """Cross every ordered pair of nodes with one activity, all pairs at the same time."""
    return live.each_pair(_cross)


def _cross(live: Live, first: str, second: str) -> ActivityCrossing:
    worker = Worker(live, "activity")
    crossing = ActivityCrossing(first=first, second=second, scheduled=_scheduled(worker, first))
    if _not_scheduled(crossing, crossing.scheduled):
        return crossing
    crossing = replace(crossing, leased=worker.poll_activity(first))
    task = task_in(crossing.leased)
    return _settle(worker, crossing, task) if task else crossing


def _scheduled(worker: Worker, route: str, **timeouts: int) -> Exchange:
    """Bring a workflow to where its one activity is scheduled; the exchange that did it, or the one that failed."""
    for step in (worker.register, worker.start, worker.poll):
        answer = step(route)
        if not answer.ok:
            return answer
    task = task_in(answer)
    return schedule_activity(worker.live.api(route), task, **timeouts) if task else answer


def _settle(worker: Worker, crossing: ActivityCrossing, task: JsonBody) -> ActivityCrossing:
    """Heartbeat and complete through other ways in than the lease's, between tries that must be refused."""
    live, result = worker.live, task.get("arguments")
    first, second, balancer = (live.api(route) for route in (crossing.first, crossing.second, BALANCER))
    nobodys = task | {"activity_attempt_id": task.get("activity_execution_id")}  # an id, but no attempt's
    crossing = replace(
        crossing,
        beaten=second.heartbeat_activity_task(task),
        foreign=second.complete_activity_task(task | {"lease_owner": "smoke-thief"}, result),
        stale=second.complete_activity_task(nobodys, result),
        completed=balancer.complete_activity_task(task, result),
        repeated=first.complete_activity_task(task, result),
        resumed=worker.poll(crossing.second),
    )
    following = task_in(crossing.resumed)
    if not following:
        return crossing
    finish(first, following)
    workflow, run = str(task.get("workflow_id")), str(task.get("run_id"))
    return replace(crossing, described=balancer.describe(workflow, run))


Wrong = Callable[[ActivityCrossing, Exchange], str | None]


def _not_scheduled(_: ActivityCrossing, answer: Exchange) -> str | None:
    if not answer.ok or not answer.path.endswith("/complete"):
        return "no activity was scheduled"
    return "no activity was scheduled" if answer.body.get("created_task_ids") == [] else None


def _not_leased(_: ActivityCrossing, answer: Exchange) -> str | None:
    attempt = task_in(answer).get("attempt_number")
    return None if attempt == 1 else f"attempt {attempt!r} instead of 1" if attempt else "no activity task"


def _not_beaten(_: ActivityCrossing, answer: Exchange) -> str | None:
    return None if answer.ok and answer.body.get("can_continue") is True else "the holder was told to stop"


def _not_recorded(_: ActivityCrossing, answer: Exchange) -> str | None:
    return None if answer.ok and answer.body.get("recorded") is True else "not recorded"


def _not_resumed(crossing: ActivityCrossing, answer: Exchange) -> str | None:
    result = event_payload(task_in(answer), "ActivityCompleted").get("result")
    sent = mapping(task_in(crossing.leased).get("arguments")).get("blob")
    blob = mapping(result).get("blob") or text(result)
    return None if blob and blob == sent else "the workflow's next task does not show the result"


def _not_completed(_: ActivityCrossing, answer: Exchange) -> str | None:
    status = answer.body.get("status")
    return None if answer.ok and status == "completed" else f"status {status!r}"


STEPS: dict[str, Wrong] = {
    "scheduled": _not_scheduled,
    "leased": _not_leased,
    "beaten": _not_beaten,
    "completed": _not_recorded,
    "resumed": _not_resumed,
    "described": _not_completed,
}
"""Each step in its order, and what is amiss with its answer."""


def event_payload(task: JsonBody, kind: str) -> JsonBody:
    """The payload of the last history event of a kind that a workflow task shows; empty where there is none."""
    events = [event for event in mappings(task.get("history_events")) if event.get("event_type") == kind]
    return mapping(events[-1].get("payload")) if events else {}


@check(
    "activity-crosses-nodes",
    "api.no-sticky-sessions",
    "api.leases-in-database",
    probe=activity_crossings,
    needs=[Need.NODES, Need.WRITES],
)
def activity_crosses_nodes(seen: tuple[ActivityCrossing, ...]) -> Judgement:
    """An activity leased on one node is heartbeaten on another and completed through the balancer."""
    before = [crossing.scheduled for crossing in seen if not crossing.scheduled.path.endswith("/complete")]
    if before:
        cause = lacking(*before) or "an earlier step failed, so no activity was scheduled."
        return unknown(*(answer.shown for answer in before), cause=cause)
    told = [line for crossing in seen for line in _told(crossing)]
    evidence = [line for line, _ in told]
    if any(problem for _, problem in told):
        return broken(
            *evidence,
            expected="leased, heartbeaten, completed, and the workflow goes on with the result",
            cause=lacking(*(getattr(crossing, step) for crossing in seen for step in STEPS))
            or "the lease or the result is kept in the node that gave it, or the nodes share no database.",
            then="invoke logs",
        )
    return holds(*evidence)


def _told(crossing: ActivityCrossing) -> Iterator[tuple[str, bool]]:
    """The crossing step by step, up to the first that went wrong; what is told of a step, and whether it did."""
    for step, wrong in STEPS.items():
        answer: Exchange | None = getattr(crossing, step)
        problem = wrong(crossing, answer) if answer else "not reached"
        shown = answer.shown if answer else "no request"
        if problem or step in ("leased", "beaten", "completed"):
            yield f"{crossing.name}, {step}: {shown}" + (f"; {problem}" if problem else ""), bool(problem)
        if problem:
            return


REFUSALS = {
    "foreign": ("lease_owner_mismatch",),
    "stale": ("attempt_not_found", "task_mismatch", "stale_attempt"),
    "repeated": ("stale_attempt", "already_completed"),
}
"""Which reasons the protocol gives for each completion of an activity that must be refused."""


@check("activity-completions-are-fenced", "api.leases-in-database", probe=activity_crossings, needs=[Need.WRITES])
def activity_completions_are_fenced(seen: tuple[ActivityCrossing, ...]) -> Judgement:
    """An activity's wrong lease owner, wrong attempt and second completion are refused, on whichever node they come."""
    return judge_refusals(seen, REFUSALS)


def lapse(live: Live) -> Lapse:
    """Lease an activity with a short timeout, let it lapse, and wait for what the workflow is told."""
    worker = Worker(live, "lapse")
    scheduled = _scheduled(worker, BALANCER, start_to_close_timeout=TIMEOUT_SECONDS)
    if not scheduled.ok or not scheduled.path.endswith("/complete"):
        return Lapse(leased=scheduled)
    began = time.monotonic()  # before the lease can begin, so that what is shorter is too short
    leased = worker.poll_activity(BALANCER)
    task = task_in(leased)
    if not task:
        return Lapse(leased=leased)
    resumed = worker.wait_for_task(BALANCER, live.patience)
    seconds = time.monotonic() - began
    late = live.api(BALANCER).complete_activity_task(task, task.get("arguments"))
    if following := task_in(resumed):
        finish(live.api(BALANCER), following)
    return Lapse(leased=leased, resumed=resumed, late=late, seconds=seconds)


@check(
    "expired-activity-times-out",
    "scheduler.times-out",
    probe=lapse,
    needs=[Need.WRITES],
    waits=TIMEOUT_SECONDS + ROUND_SECONDS,
)
def expired_activity_times_out(seen: Lapse) -> Judgement:
    """An activity past its deadline is timed out by the maintenance pass, and its late completion is refused."""
    if seen.resumed is None or seen.late is None:
        cause = lacking(seen.leased) or "an earlier step failed: there was no lease to let lapse."
        return unknown(seen.leased.shown, cause=cause)
    told = event_payload(task_in(seen.resumed), "ActivityTimedOut")
    evidence = [
        f"start_to_close {TIMEOUT_SECONDS} s: the workflow was told {told.get('timeout_kind') or 'nothing'} "
        f"{seen.seconds:.1f} s after the lease",
        f"late completion: {seen.late.shown}",
    ]
    if not told:
        return broken(
            seen.resumed.shown,
            *evidence,
            expected="ActivityTimedOut, two rounds of the scheduler later at the latest",
            cause=lacking(seen.resumed) or "the scheduler is down, or its command leaves activity:timeout-enforce out.",
            then="invoke logs --service=scheduler",
        )
    if seen.seconds < TIMEOUT_SECONDS or not refused(seen.late, REFUSALS["repeated"]):
        return broken(
            *evidence,
            expected=f"not before {TIMEOUT_SECONDS} s, and the late completion refused",
            cause="the deadline is not the database's, or a closed attempt is still taken for the current one.",
            then="invoke logs",
        )
    return holds(*evidence)
