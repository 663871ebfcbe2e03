"""What becomes of a lease: one that lapses goes to another worker on another node, one that is heartbeaten stays."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial

from smallcluster.api import Exchange
from smallcluster.bodies import whole
from smallcluster.checks.base import Live, Need, Pair, check
from smallcluster.checks.judging import lacking, refused
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.verdicts import Judgement, broken, holds, unknown

LEASE = 5.0
"""Seconds of a lease in the environment rendered here (env/cluster.env)."""
LONGEST_LEASE = 10
"""Seconds of the longest lease that a check waits for; where leases are longer, what becomes of them is unknown."""
SLACK_SECONDS = 1.0
"""How much earlier than its end a lease may seem to end: the poll's answer came after the lease began."""
BEATS = 4
"""Heartbeats for each length of a lease."""
TOO_LATE = ("lease_owner_mismatch", "workflow_task_attempt_mismatch", "task_not_leased", "lease_expired", "run_closed")
"""What the protocol says to a holder whose lease has gone to another."""


def lease_of(live: Live) -> float:
    """Seconds that a workflow task's lease lasts, by the settings; 0 where they don't say."""
    said = live.settings.value("DW_WORKFLOW_TASK_TIMEOUT")
    return float(said) if said.isdecimal() else 0.0


@dataclass(frozen=True, kw_only=True)
class Handover(Pair):
    """A task leased through `first` and forgotten, then polled for through `second` by another worker."""

    lease: float
    leased: Exchange
    """The poll that got the task, or what failed on the way there."""
    again: Exchange | None = None
    late: Exchange | None = None
    """The forgetful worker's completion, through `second`, once another has the task."""
    completed: Exchange | None = None
    seconds: float = 0.0
    """From the lease to the second one."""


def handovers(live: Live) -> tuple[Handover, ...]:
    """Let a lease lapse for every ordered pair of nodes, all pairs at the same time."""
    return live.each_pair(_hand_over)


def leased_task(worker: Worker, route: str, request_id: str = "") -> Exchange:
    """Register, start and poll through one route; the poll's answer, or that of the step which failed."""
    for step in (worker.register, worker.start, partial(worker.poll, request_id=request_id)):
        answer = step(route)
        if not answer.ok:
            break
    return answer


def _hand_over(live: Live, first: str, second: str) -> Handover:
    worker = Worker(live, "lapse")
    seen = Handover(first=first, second=second, lease=lease_of(live), leased=leased_task(worker, first))
    task, began = task_in(seen.leased), time.monotonic()
    if not task:
        return seen
    heir = replace(worker, suffix="-heir")
    registered = heir.register(second)
    if not registered.ok:
        return replace(seen, leased=registered)
    again = heir.wait_for_task(second, seen.lease + live.patience)
    seen = replace(seen, again=again, seconds=time.monotonic() - began)
    if not task_in(again):
        return seen
    late = finish(live.api(second), task)
    return replace(seen, late=late, completed=finish(live.api(first), task_in(again)))


@check(
    "expired-lease-goes-to-another-worker", "api.one-owner", "api.leases-in-database", probe=handovers,
    needs=[Need.LEASES, Need.NODES, Need.WRITES], waits=LEASE,
)  # fmt: skip
def expired_lease_goes_to_another_worker(seen: tuple[Handover, ...]) -> Judgement:
    """A lease that lapses goes to another worker on another node, as a higher attempt; its late holder is refused."""
    evidence = [_told(one) for one in seen]
    unled = [one.leased for one in seen if one.again is None]
    wrong = [problem for one in seen if one.again is not None and (problem := _wrong(one))]
    if wrong:
        return broken(
            *evidence,
            expected=f"attempt 2 for another worker when {seen[0].lease:g} s are over, and a refusal for the first",
            cause=wrong[0],
            then="invoke logs",
        )
    if unled:
        return unknown(*evidence, cause=lacking(*unled) or "an earlier step failed, so no lease was let lapse.")
    return holds(*evidence)


def _wrong(one: Handover) -> str:
    """What is amiss with a handover, as its most likely cause; empty where nothing is."""
    attempt = whole(task_in(one.again).get("workflow_task_attempt"))
    if not task_in(one.again):
        return "an expired lease is never given out again: it is kept by the node that gave it, or never ends."
    if one.seconds < one.lease - SLACK_SECONDS:
        return "a task is given out while another worker's lease lasts."
    if attempt != 2:
        return f"the second lease is attempt {attempt}: the claims are not counted in the database."
    if one.late is None or not refused(one.late, TOO_LATE):
        return "a node takes the completion of a worker whose lease has gone to another."
    if one.completed is None or not one.completed.ok:
        return "the new holder's completion was refused."
    return ""


def _told(one: Handover) -> str:
    if one.again is None:
        return f"{one.name}: {one.leased.shown}"
    attempt = task_in(one.again).get("workflow_task_attempt")
    late = f"; the late completion: {one.late.shown}" if one.late else ""
    return f"{one.name}: attempt {attempt or 'none'} after {one.seconds:.1f} s{late}"


@dataclass(kw_only=True)
class Kept:
    """A task leased through `first` and heartbeaten through `second` for longer than its lease."""

    first: str
    second: str
    lease: float
    leased: Exchange
    beats: list[Exchange] = field(default_factory=list)
    longest_gap: float = 0.0
    """Seconds between two heartbeats, or the lease and the first one."""
    stolen: Exchange | None = None
    """A poll of another worker that got the task meanwhile, or failed."""
    completed: Exchange | None = None


def kept_leases(live: Live) -> tuple[Kept, ...]:
    """Keep a lease for every ordered pair of nodes, all pairs at the same time."""
    return live.each_pair(_keep)


def _keep(live: Live, first: str, second: str) -> Kept:
    worker = Worker(live, "heartbeat")
    seen = Kept(first=first, second=second, lease=lease_of(live), leased=leased_task(worker, first))
    task = task_in(seen.leased)
    if not task:
        return seen
    rival = replace(worker, suffix="-rival")
    rival.register(second)
    last = over = time.monotonic()
    over += seen.lease * 1.5
    while time.monotonic() < over and seen.stolen is None:
        polled = rival.poll(first, 1)  # what it waits is the pause between two heartbeats
        seen.stolen = polled if task_in(polled) or not polled.ok else None
        seen.beats.append(live.api(second).heartbeat_workflow_task(task))
        seen.longest_gap, last = max(seen.longest_gap, time.monotonic() - last), time.monotonic()
        if not seen.beats[-1].ok:
            return seen
    seen.completed = finish(live.api(first), task)
    return seen


@check(
    "heartbeat-keeps-a-lease",
    "protocol.heartbeats",
    probe=kept_leases,
    needs=[Need.LEASES, Need.NODES, Need.WRITES],
    waits=LEASE * 1.5,
)
def heartbeat_keeps_a_lease(seen: tuple[Kept, ...]) -> Judgement:
    """A lease that is heartbeaten through another node lasts, and nobody else is given its task."""
    evidence = [f"{one.first} → {one.second}: {len(one.beats)} heartbeats, {_end(one)}" for one in seen]
    answers = [one.beats[-1] if one.beats else one.leased for one in seen]
    if lack := lacking(*answers):
        return unknown(*evidence, cause=lack)
    if any(not one.beats for one in seen):
        return unknown(*evidence, cause="an earlier step failed, so no lease was kept.")
    if all(one.stolen is None and one.completed is not None and one.completed.ok for one in seen):
        return holds(*evidence)
    if any(one.longest_gap > one.lease * 0.8 for one in seen):
        return unknown(*evidence, cause="a heartbeat came too late to keep anything: the machine is too busy.")
    return broken(
        *evidence,
        expected="every heartbeat taken, no other worker given the task, the completion recorded",
        cause="a heartbeat does not extend the lease in the database.",
        then="invoke logs",
    )


def _end(one: Kept) -> str:
    if one.stolen is not None:
        return f"then {one.stolen.shown} for another worker"
    return f"then {(one.completed or (one.beats or [one.leased])[-1]).shown}"
