"""Worker traffic that crosses nodes: leased through one, completed through another, read through the balancer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from smallcluster.api import Exchange, JsonBody
from smallcluster.bodies import mapping, text, whole
from smallcluster.checks.base import Live, Need, Pair, check
from smallcluster.checks.judging import judge_each, judge_refusals
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement


@dataclass(frozen=True, kw_only=True)
class Crossing(Pair):
    """One workflow whose only task is leased through `first` and completed through `second`.

    A step that was not reached, because the one before it failed, is None.
    """

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
    def task(self) -> JsonBody:
        """The leased task, or an empty mapping."""
        return task_in(self.polled)


Crossings = tuple[Crossing, ...]


def crossings(live: Live) -> Crossings:
    """Cross every ordered pair of nodes once, all pairs at the same time."""
    return live.each_pair(_cross)


def _cross(live: Live, first: str, second: str) -> Crossing:
    worker = Worker(live, "crossing")
    registered = worker.register(BALANCER)
    if not registered.ok:
        return Crossing(first=first, second=second, registered=registered)
    started = worker.start(BALANCER)
    if not started.ok:
        return Crossing(first=first, second=second, registered=registered, started=started)
    polled = worker.poll(first)
    crossing = Crossing(first=first, second=second, registered=registered, started=started, polled=polled)
    if not crossing.task:
        return crossing
    return _settle(live, crossing)


def _settle(live: Live, crossing: Crossing) -> Crossing:
    """Complete the leased task through the other node, after two tries that must be refused and before a third."""
    task, other = crossing.task, live.api(crossing.second)
    foreign = finish(other, task | {"lease_owner": "smoke-thief"})
    stale = finish(other, task | {"workflow_task_attempt": whole(task.get("workflow_task_attempt")) + 1})
    crossing = replace(crossing, foreign=foreign, stale=stale, completed=finish(other, task))
    if crossing.completed is None or not crossing.completed.ok:
        return crossing
    workflow, run = task.get("workflow_id"), task.get("run_id")
    described = live.api(BALANCER).describe(str(workflow), str(run))
    return replace(crossing, repeated=finish(live.api(crossing.first), task), described=described)


@check("worker-registers", "smoke.register", "shape.external-workers", probe=crossings, needs=[Need.WRITES])
def worker_registers(seen: Crossings) -> Judgement:
    """An external worker registers through the balancer."""

    def wrong(_: Crossing, answer: Exchange) -> str | None:
        return None if answer.ok and answer.body.get("registered") is True else "not registered"

    return judge_each(
        seen,
        "201 with registered: true",
        lambda crossing: crossing.registered,
        wrong,
        "the worker token is refused, or the server speaks another worker protocol.",
    )


@check("workflow-starts", "smoke.start", probe=crossings, needs=[Need.WRITES])
def workflow_starts(seen: Crossings) -> Judgement:
    """A workflow starts through the balancer."""

    def wrong(_: Crossing, answer: Exchange) -> str | None:
        started = answer.ok and answer.body.get("outcome") == "started_new" and text(answer.body.get("run_id"))
        return None if started else "no new run"

    return judge_each(
        seen,
        "201 with outcome started_new and a run_id",
        lambda crossing: crossing.started,
        wrong,
        "the operator token is refused, or the default namespace is missing.",
    )


@check(
    "task-leased-on-one-node",
    "smoke.poll-one-node",
    "api.no-sticky-sessions",
    "shape.one-database",
    probe=crossings,
    needs=[Need.NODES, Need.WRITES],
)
def task_leased_on_one_node(seen: Crossings) -> Judgement:
    """The task is leased by a poll to one node directly, whichever node took the start."""

    def wrong(crossing: Crossing, answer: Exchange) -> str | None:
        if not answer.ok:
            return "the poll was refused" if answer.status else "the poll got no answer"
        if not crossing.task:
            return f"no task within {answer.seconds:.1f} s"
        run = text(crossing.started.body.get("run_id")) if crossing.started else ""
        if not run or crossing.task.get("run_id") != run:
            return f"a task of another run: {crossing.task.get('run_id')} instead of {run or 'the one started'}"
        attempt = crossing.task.get("workflow_task_attempt")
        return None if attempt == 1 else f"attempt {attempt!r} instead of 1"

    return judge_each(
        seen,
        "the started run's task, attempt 1, on the first poll",
        lambda crossing: crossing.polled,
        wrong,
        "the nodes do not share one database, or the poll waits on stale state.",
    )


@check(
    "task-completed-on-other-node",
    "smoke.complete-other-node",
    "api.no-sticky-sessions",
    probe=crossings,
    needs=[Need.NODES, Need.WRITES],
)
def task_completed_on_other_node(seen: Crossings) -> Judgement:
    """The leased task is completed through another node than the one that leased it."""

    def wrong(_: Crossing, answer: Exchange) -> str | None:
        return None if answer.ok and answer.body.get("recorded") is True else "not recorded"

    return judge_each(
        seen,
        "200 with recorded: true",
        lambda crossing: crossing.completed,
        wrong,
        "the lease is kept in the node that gave it, not in the shared database.",
    )


@check(
    "run-verified-through-balancer", "smoke.verify-run", "api.history-in-database", probe=crossings, needs=[Need.WRITES]
)
def run_verified_through_balancer(seen: Crossings) -> Judgement:
    """The run is read as completed, with the result that was sent, through the balancer."""

    def wrong(crossing: Crossing, answer: Exchange) -> str | None:
        status, sent = answer.body.get("status"), crossing.task.get("arguments")
        if not answer.ok or status != "completed" or answer.body.get("is_terminal") is not True:
            return f"status {status!r}"
        read = answer.body.get("output_envelope")
        if not mapping(sent).get("blob"):
            return "the task carried no input to send back"
        return None if read == sent else f"result {read} instead of {sent}"

    return judge_each(
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


@check("completions-are-fenced", "api.leases-in-database", probe=crossings, needs=[Need.WRITES])
def completions_are_fenced(seen: Crossings) -> Judgement:
    """A wrong lease owner, a wrong attempt and a second completion are refused, on whichever node they come"""
    return judge_refusals(seen, REFUSALS)
