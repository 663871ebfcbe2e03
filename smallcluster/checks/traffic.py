"""Worker traffic that crosses nodes: leased through one, completed through another, read through the balancer."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from smallcluster.api import Api, Exchange, JsonBody, with_own_input
from smallcluster.checks.base import Live, check
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

HOLD_SECONDS = 5
"""How long a node may hold the poll. The task is ready before the poll is sent, so no hold is expected."""

WORKFLOW_TYPE = "smallcluster.smoke"
GIVEN = ["small", "cluster"]


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """One workflow whose only task is leased through `first` and completed through `second`.

    A step that was not reached, because the one before it failed, is None.
    """

    first: str
    second: str
    registered: Exchange
    started: Exchange | None = None
    polled: Exchange | None = None
    foreign: Exchange | None = None
    """A completion through `second` by a worker that does not hold the lease."""
    stale: Exchange | None = None
    """A completion through `second` by the holder, for an attempt that is not the current one."""
    completed: Exchange | None = None
    repeated: Exchange | None = None
    """The same completion once more, through `first`."""
    described: Exchange | None = None

    @property
    def name(self) -> str:
        """Both nodes in order: `server-a → server-b`."""
        return f"{self.first} → {self.second}"

    @property
    def task(self) -> dict[str, Any]:
        """The leased task, or an empty mapping."""
        found = self.polled.body.get("task") if self.polled else None
        return found if isinstance(found, dict) else {}


Crossings = tuple[Crossing, ...]


def crossings(live: Live) -> Crossings:
    """Cross every ordered pair of nodes once, all pairs at the same time."""
    pairs = list(permutations(live.nodes, 2))
    with ThreadPoolExecutor(max_workers=len(pairs)) as pool:
        return tuple(pool.map(lambda pair: _cross(live, *pair), pairs))


def _cross(live: Live, first: str, second: str) -> Crossing:
    mark = secrets.token_hex(4)
    worker, queue, workflow = f"smoke-worker-{mark}", f"smoke-queue-{mark}", f"smoke-{mark}"
    balancer = live.api(BALANCER)
    registered = balancer.register_worker(worker, queue, WORKFLOW_TYPE)
    if not registered.ok:
        return Crossing(first=first, second=second, registered=registered)
    started = balancer.start_workflow(workflow, WORKFLOW_TYPE, queue, GIVEN)
    if not started.ok:
        return Crossing(first=first, second=second, registered=registered, started=started)
    polled = live.api(first).poll_workflow_task(worker, queue, HOLD_SECONDS)
    crossing = Crossing(first=first, second=second, registered=registered, started=started, polled=polled)
    if not crossing.task:
        return crossing
    return _settle(live, crossing)


def _settle(live: Live, crossing: Crossing) -> Crossing:
    """Complete the leased task through the other node, after two tries that must be refused and before a third."""
    task, other = crossing.task, live.api(crossing.second)
    foreign = finish(other, task | {"lease_owner": "smoke-thief"})
    stale = finish(other, task | {"workflow_task_attempt": int(task.get("workflow_task_attempt") or 0) + 1})
    crossing = replace(crossing, foreign=foreign, stale=stale, completed=finish(other, task))
    if crossing.completed is None or not crossing.completed.ok:
        return crossing
    workflow, run = task.get("workflow_id"), task.get("run_id")
    described = live.api(BALANCER).describe(str(workflow), str(run))
    return replace(crossing, repeated=finish(live.api(crossing.first), task), described=described)


def finish(api: Api, task: JsonBody) -> Exchange:
    """Complete a workflow with its own input as the result."""
    return api.complete_workflow_task(task, with_own_input(task))


def _judge_each(
    crossings: Crossings,
    step: str,
    took_place: Callable[[Crossing], Exchange | None],
    wrong: Callable[[Crossing, Exchange], str | None],
    cause: str,
) -> Judgement:
    """Judge one step over all crossings: `wrong` names what is amiss with an answer, or None."""
    evidence, problems = [], []
    for crossing in crossings:
        answer = took_place(crossing)
        if answer is None:
            evidence.append(f"{crossing.name}: not reached")
            continue
        problem = wrong(crossing, answer)
        evidence.append(f"{crossing.name}: {answer.shown}" + (f"; {problem}" if problem else ""))
        if problem:
            problems.append(problem)
    if problems:
        return broken(*evidence, expected=step, cause=cause, then="invoke logs")
    if any(took_place(crossing) is None for crossing in crossings):
        return unknown(*evidence, cause="an earlier step failed, so this one was not reached.")
    return holds(*evidence)


@check("worker-registers", "smoke.register", probe=crossings)
def worker_registers(seen: Crossings) -> Judgement:
    """An external worker registers through the balancer."""

    def wrong(_: Crossing, answer: Exchange) -> str | None:
        return None if answer.ok and answer.body.get("registered") is True else "not registered"

    return _judge_each(
        seen,
        "201 with registered: true",
        lambda crossing: crossing.registered,
        wrong,
        "the worker token is refused, or the server speaks another worker protocol.",
    )


@check("workflow-starts", "smoke.start", probe=crossings)
def workflow_starts(seen: Crossings) -> Judgement:
    """A workflow starts through the balancer."""

    def wrong(_: Crossing, answer: Exchange) -> str | None:
        started = answer.ok and answer.body.get("outcome") == "started_new" and answer.body.get("run_id")
        return None if started else "no new run"

    return _judge_each(
        seen,
        "201 with outcome started_new and a run_id",
        lambda crossing: crossing.started,
        wrong,
        "the operator token is refused, or the default namespace is missing.",
    )


@check("task-leased-on-one-node", "smoke.poll-one-node", "api.no-sticky-sessions", probe=crossings)
def task_leased_on_one_node(seen: Crossings) -> Judgement:
    """The task is leased by a poll to one node directly, whichever node took the start."""

    def wrong(crossing: Crossing, answer: Exchange) -> str | None:
        if not answer.ok:
            return "the poll was refused" if answer.status else "the poll got no answer"
        if not crossing.task:
            return f"no task within {answer.seconds:.1f} s"
        run = crossing.started.body.get("run_id") if crossing.started else None
        if crossing.task.get("run_id") != run:
            return f"a task of another run: {crossing.task.get('run_id')}"
        attempt = crossing.task.get("workflow_task_attempt")
        return None if attempt == 1 else f"attempt {attempt} instead of 1"

    return _judge_each(
        seen,
        "the started run's task, attempt 1, on the first poll",
        lambda crossing: crossing.polled,
        wrong,
        "the nodes do not share one database, or the poll waits on stale state.",
    )


@check("task-completed-on-other-node", "smoke.complete-other-node", "api.no-sticky-sessions", probe=crossings)
def task_completed_on_other_node(seen: Crossings) -> Judgement:
    """The leased task is completed through another node than the one that leased it."""

    def wrong(_: Crossing, answer: Exchange) -> str | None:
        return None if answer.ok and answer.body.get("recorded") is True else "not recorded"

    return _judge_each(
        seen,
        "200 with recorded: true",
        lambda crossing: crossing.completed,
        wrong,
        "the lease is kept in the node that gave it, not in the shared database.",
    )


@check("run-verified-through-balancer", "smoke.verify-run", probe=crossings)
def run_verified_through_balancer(seen: Crossings) -> Judgement:
    """The run is read as completed, with the result that was sent, through the balancer."""

    def wrong(crossing: Crossing, answer: Exchange) -> str | None:
        status, sent = answer.body.get("status"), crossing.task.get("arguments")
        if not answer.ok or status != "completed" or answer.body.get("is_terminal") is not True:
            return f"status {status!r}"
        read = answer.body.get("output_envelope")
        if not isinstance(sent, dict) or not sent.get("blob"):
            return "the task carried no input to send back"
        return None if read == sent else f"result {read} instead of {sent}"

    return _judge_each(
        seen,
        "status completed with the result that the worker sent",
        lambda crossing: crossing.described,
        wrong,
        "the completion was acknowledged but not committed, or nodes read another database.",
    )


REFUSALS = {
    "foreign": ("lease_owner_mismatch",),
    "stale": ("workflow_task_attempt_mismatch",),
    "repeated": ("task_not_leased", "run_closed", "run_already_closed"),
}
"""Which reasons the protocol gives for each completion that must be refused."""


@check("completions-are-fenced", "api.leases-in-database", probe=crossings)
def completions_are_fenced(seen: Crossings) -> Judgement:
    """A wrong lease owner, a wrong attempt and a second completion are refused, on whichever node they come"""
    evidence, accepted, untried = [], False, False
    for crossing in seen:
        for kind, reasons in REFUSALS.items():
            answer: Exchange | None = getattr(crossing, kind)
            if answer is None or answer.status is None:
                untried = True
                evidence.append(f"{crossing.name}, {kind}: {answer.shown if answer else 'not reached'}")
                continue
            evidence.append(f"{crossing.name}, {kind}: {answer.shown}")
            accepted = accepted or answer.status != 409 or answer.body.get("reason") not in reasons
    if accepted:
        return broken(
            *evidence,
            expected="409 with the protocol's reason for each",
            cause="a node does not compare owner and attempt with the lease in the database.",
            then="invoke logs",
        )
    if untried:
        return unknown(*evidence, cause="an earlier step failed, so not every refusal was tried.")
    return holds(*evidence)
