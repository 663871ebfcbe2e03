"""Does a budget on active leases hold over all nodes, and not on each of them: the admission locks in Redis."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from smallcluster.api import Exchange
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.judging import lacking
from smallcluster.checks.leases import SLACK_SECONDS, lease_of
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

QUEUE = "smoke-budget"
LEASES = 2
"""What DW_TASK_QUEUE_ADMISSION_OVERRIDES (env/cluster.env) allows at a time on that queue."""


@dataclass
class Budgeted:
    """Polls through every node for more tasks than may be leased at a time."""

    polls: list[Exchange] = field(default_factory=list)
    """As many through each node as the budget allows in all, while no task is completed."""
    after: Exchange | None = None
    """A poll once one of the leased tasks was completed."""
    problem: Exchange | None = None
    """What failed before the first poll."""
    seconds: float = 0.0
    """From the first of the polls to the end of the last one."""
    lease: float = 0.0
    """Seconds that a lease lasts; one that ends between the polls frees a place."""

    @property
    def leased(self) -> list[Exchange]:
        """The polls that got a task."""
        return [one for one in self.polls if task_in(one)]


def budgeted(live: Live) -> Budgeted:
    """Start as many workflows as each node alone would lease, poll every node, then complete one and poll again."""
    worker, lease = Worker(live, "budget", only_queue=QUEUE), lease_of(live)
    seen = _look(live, worker, lease)
    if seen.problem is None and len(seen.leased) < LEASES and all(one.ok for one in seen.polls):
        _await_free(worker, lease)  # somebody who looked before was cut short, and left leases there
        seen = _look(live, worker, lease)
    return seen


def _look(live: Live, worker: Worker, lease: float) -> Budgeted:
    seen, wanted = Budgeted(lease=lease), LEASES * len(live.nodes)
    again = f"{time.monotonic():.0f}"
    answers = [worker.register(BALANCER)]
    answers += [worker.start(BALANCER, f"-{again}-{number}") for number in range(wanted)]
    seen.problem = next((answer for answer in answers if not answer.ok), None)
    if seen.problem is not None:
        return seen
    began = time.monotonic()
    seen.polls = [worker.poll(node, 0) for node in live.nodes for _ in range(LEASES)]
    seen.seconds = time.monotonic() - began
    held = [task_in(one) for one in seen.leased]
    if held and len(held) <= LEASES:  # more are broken already
        finish(live.api(live.nodes[-1]), held.pop(0))
        seen.after = worker.wait_for_task(live.nodes[0], live.patience)
    _tidy(worker, [*held, task_in(seen.after)], wanted)
    return seen


def _await_free(worker: Worker, lease: float) -> None:
    """Complete whatever comes, until for longer than a lease lasts nothing does."""
    while task := task_in(worker.poll(BALANCER, math.ceil(lease) + 1)):
        finish(worker.live.api(BALANCER), task)


def _tidy(worker: Worker, held: list[dict[str, object]], most: int) -> None:
    """Complete what is held, then whatever is left on the queue; a next smoke must find the budget free."""
    balancer = worker.live.api(BALANCER)
    for task in filter(None, held):
        finish(balancer, task)
    for _ in range(most):
        task = task_in(worker.poll(BALANCER, 1))
        if not task:
            return
        finish(balancer, task)


@check(
    "admission-budget-holds-over-nodes", "redis.admission", probe=budgeted, needs=[Need.BUDGET, Need.NODES, Need.WRITES]
)
def admission_budget_holds_over_nodes(seen: Budgeted) -> Judgement:
    """A budget on the active leases of a task queue holds over all nodes together, and frees what is completed."""
    by_route: dict[str, int] = {one.route: 0 for one in seen.polls}
    for one in seen.leased:
        by_route[one.route] += 1
    told = ", ".join(f"{route} {count}" for route, count in by_route.items()) or "no poll"
    evidence = [f"{LEASES} leases allowed at a time on {QUEUE}, {len(seen.leased)} given: {told}"]
    if seen.problem is not None:
        return unknown(*evidence, seen.problem.shown, cause=lacking(seen.problem) or "an earlier step failed.")
    if len(seen.leased) > LEASES:
        return _too_many(seen, evidence)
    failed = [one for one in seen.polls if not one.ok]
    if failed or len(seen.leased) < LEASES:
        cause = lacking(*failed) or "fewer tasks were leased than the budget allows: others hold leases there."
        return unknown(*evidence, *(one.shown for one in failed[:2]), cause=cause)
    if not task_in(seen.after):
        return broken(
            *evidence,
            f"after a completion: {seen.after.shown if seen.after else 'no poll'}",
            expected="another task, once a lease is free",
            cause="a lease that was completed still counts.",
            then="invoke logs",
        )
    return holds(*evidence, "another was given when one was completed")


def _too_many(seen: Budgeted, evidence: list[str]) -> Judgement:
    if seen.seconds > seen.lease - SLACK_SECONDS:
        cause = f"the polls took {seen.seconds:.1f} s, so that leases of {seen.lease:g} s may have ended between them."
        return unknown(*evidence, cause=cause)
    return broken(
        *evidence,
        expected=f"{LEASES} leases through all nodes together",
        cause="each node keeps to the budget for itself: its lock is not in the shared Redis, or it has no budget.",
        then="invoke render --explain",
    )
