"""Are namespaces the same on every node, and kept apart on every node."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from smallcluster.api import Exchange
from smallcluster.bodies import mappings
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.judging import lacking
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

OTHER = "smallcluster-smoke"
"""The namespace that the check looks from. It is made once and stays: the protocol has no way to remove one."""


@dataclass(kw_only=True)
class Apart:
    """A run in the default namespace, looked for from another one through each node, and from its own.

    `problem` is the exchange that kept the look from being taken.
    """

    problem: Exchange | None = None
    known: dict[str, Exchange] = field(default_factory=dict)
    """How each node describes the other namespace, which was made through the balancer."""
    described: dict[str, Exchange] = field(default_factory=dict)
    polled: dict[str, Exchange] = field(default_factory=dict)
    listed: dict[str, Exchange] = field(default_factory=dict)
    own: dict[str, Exchange] = field(default_factory=dict)
    workflow: str = ""


def apart(live: Live) -> Apart:
    """Make the namespace, start a run outside of it, and look for the run from inside through every node."""
    seen, worker = Apart(), Worker(live, "apart")
    balancer = live.api(BALANCER)
    inside = replace(balancer, namespace=OTHER)
    made = balancer.post("/api/namespaces", {"name": OTHER, "description": "made by a smoke"}, "admin")
    answers = [made] if not made.ok and made.status != 409 else []
    answers += [worker.register(BALANCER), started := worker.start(BALANCER)]
    answers += [inside.register_worker(worker.name, worker.queue, worker.workflow_type)]
    seen.problem = next((answer for answer in answers if not answer.ok), None)
    if seen.problem is None:
        seen.workflow = str(started.body.get("workflow_id"))
        _look(live, worker, seen)
    inside.deregister_worker(worker.name)
    return seen


def _look(live: Live, worker: Worker, seen: Apart) -> None:
    for node in live.nodes:
        api = live.api(node)
        inside = replace(api, namespace=OTHER)
        seen.known[node] = api.get(f"/api/namespaces/{OTHER}")
        seen.described[node] = inside.describe(seen.workflow)
        seen.listed[node] = inside.get(f"/api/workflows?workflow_type={worker.workflow_type}")
        seen.polled[node] = inside.poll_workflow_task(worker.name, worker.queue, 0)
        seen.own[node] = api.describe(seen.workflow)
    if task := task_in(worker.poll(BALANCER)):
        finish(live.api(BALANCER), task)


@check("namespaces-are-kept-apart", "api.namespaces-in-database", probe=apart, needs=[Need.WRITES])
def namespaces_are_kept_apart(seen: Apart) -> Judgement:
    """A namespace made through one node is known to all, and on none does it see another namespace's run or task."""
    if seen.problem is not None:
        return unknown(seen.problem.shown, cause=lacking(seen.problem) or "an earlier step failed.")
    evidence = [answer.shown for answer in (*seen.known.values(), *seen.described.values())]
    leaks = [answer for answer in seen.described.values() if answer.ok]
    leaks += [answer for answer in seen.polled.values() if task_in(answer)]
    leaks += [answer for answer in seen.listed.values() if answer.ok and mappings(answer.body.get("workflows"))]
    strange = [answer for answer in seen.known.values() if answer.status == 404 and not lacking(answer)]
    if leaks or strange:
        return broken(
            *evidence,
            *(answer.shown for answer in leaks),
            expected=f"the namespace {OTHER} known to every node, and nothing of another one told in it",
            cause="a node reads past the namespace of a request."
            if leaks
            else f"{strange[0].route} does not read namespaces from the shared database.",
            then="invoke logs",
        )
    refused = all(answer.status == 404 for answer in seen.described.values())
    told = (*seen.known.values(), *seen.listed.values(), *seen.polled.values(), *seen.own.values())
    if not refused or not all(answer.ok and answer.body for answer in told):
        odd = [answer for answer in told if not (answer.ok and answer.body)]
        return unknown(*evidence, *(answer.shown for answer in odd[:2]),
                       cause=lacking(*odd) or "not every node could be asked.")  # fmt: skip
    return holds(*evidence)
