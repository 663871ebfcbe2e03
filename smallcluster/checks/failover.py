"""Does the balancer serve on while one node is stopped, and is nothing lost or done twice that was acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from smallcluster.api import Exchange
from smallcluster.bodies import mappings, text
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.health import info_answers
from smallcluster.checks.judging import lacking
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

WHILE_STOPPED = 6
"""Rounds of start, poll and complete that must be served once the node is gone."""
STOPPED_SECONDS = 2.5
"""For how long there are such rounds: by then a balancer that left the node out after a failure tries it again."""
PAUSE_SECONDS = 0.05
MOST_ROUNDS = 200
RETURN_SECONDS = 30.0
"""How long the stopped node may take until it answers through the balancer again."""


@dataclass
class Failover:
    """Traffic through the balancer before, while and after one node was stopped."""

    node: str
    started: list[Exchange] = field(default_factory=list)
    completed: dict[str, Exchange] = field(default_factory=dict)
    """The answers to completions, by workflow."""
    unserved: list[Exchange] = field(default_factory=list)
    """What was not served once the node was gone: a stopped node is no excuse any more."""
    runs: dict[str, Exchange] = field(default_factory=dict)
    """The runs of each workflow whose start was acknowledged or may have taken effect, read afterwards."""
    returned: float | None = None
    """Seconds from the node's start until the balancer passed a request to it; None if it never did."""
    idle: str = ""
    """Which nodes did not run to begin with: nothing is stopped then."""
    problem: Exchange | None = None


def failover(live: Live) -> Failover:
    """Stop the last node while workflows are started and completed through the balancer, then start it again."""
    seen, worker = Failover(live.nodes[-1]), Worker(live, "failover")
    found = live.cluster.containers()
    seen.idle = ", ".join(node for node in live.nodes if node not in found or not found[node].running)
    if seen.idle:
        return seen
    registered = worker.register(BALANCER)
    if not registered.ok:
        seen.problem = registered
        return seen
    gone, back = threading.Event(), threading.Event()
    stopping = threading.Thread(target=_stop, args=(live, seen.node, gone, back), daemon=True)
    _round(worker, seen, 0)
    stopping.start()
    try:
        _keep_going(worker, seen, gone)
    finally:
        back.set()
        stopping.join()
    seen.returned = _return_of(live, seen.node)
    _settle(worker, seen)
    return seen


def _stop(live: Live, node: str, gone: threading.Event, back: threading.Event) -> None:
    with live.cluster.stopped(node):
        gone.set()
        back.wait()


def _keep_going(worker: Worker, seen: Failover, gone: threading.Event) -> None:
    """Rounds without a pause until enough were made with the node gone."""
    done_without, since = 0, 0.0
    for number in range(1, MOST_ROUNDS):
        if gone.is_set():
            since = since or time.monotonic()
        answers = _round(worker, seen, number)
        if since:
            done_without += 1
            seen.unserved += [one for one in answers if not one.ok]
        if since and done_without >= WHILE_STOPPED and time.monotonic() - since > STOPPED_SECONDS:
            return
        time.sleep(PAUSE_SECONDS)


def _round(worker: Worker, seen: Failover, number: int) -> list[Exchange]:
    """Start one workflow, poll for a task, complete it; each sent once."""
    started = worker.start(BALANCER, f"-{number}")
    polled = worker.poll(BALANCER, 1)
    seen.started.append(started)
    answers = [started, polled]
    if task := task_in(polled):
        done = finish(worker.live.api(BALANCER), task)
        seen.completed[text(task.get("workflow_id"))] = done
        answers.append(done)
    return answers


def _return_of(live: Live, node: str) -> float | None:
    began = time.monotonic()
    wanted = text(live.facts(info_answers)[node].body.get("server_id")) or node
    while (passed := time.monotonic() - began) < RETURN_SECONDS:
        if live.api(BALANCER).get("/api/cluster/info", "worker").body.get("server_id") == wanted:
            return passed
        time.sleep(0.05)
    return None


def _settle(worker: Worker, seen: Failover) -> None:
    """Complete what is left, then read the runs of everything that was asked for."""
    balancer = worker.live.api(BALANCER)
    for _ in range(MOST_ROUNDS):
        if not (task := task_in(worker.wait_for_task(BALANCER, 0 if _all_done(seen) else 6))):
            break
        done = finish(balancer, task)
        seen.completed.setdefault(text(task.get("workflow_id")), done)
    for started in seen.started:
        workflow = text((started.sent or {}).get("workflow_id"))
        seen.runs[workflow] = balancer.get(f"/api/workflows/{workflow}/runs")


def _all_done(seen: Failover) -> bool:
    return all(text(one.body.get("workflow_id")) in seen.completed for one in seen.started if one.ok)


def _wrong(seen: Failover) -> Iterator[str]:
    """What was lost or doubled, each with what shows it."""
    for started in seen.started:
        workflow = text((started.sent or {}).get("workflow_id"))
        runs = mappings(seen.runs[workflow].body.get("runs"))
        if started.ok and seen.runs[workflow].status == 404:
            yield f"lost: {started.shown} for {workflow}, then {seen.runs[workflow].shown}"
        if len(runs) > 1:
            yield f"doubled: {workflow} was started once and has {len(runs)} runs"
        if started.status == 409:
            yield f"doubled: {started.shown} for {workflow}, which was sent once"
        done = seen.completed.get(workflow)
        if done is not None and done.ok and runs and not runs[0].get("closed_at"):
            yield f"lost: {done.shown}, then the run is {runs[0].get('status')}"


@check(
    "balancer-fails-over", "shape.balancer", "api.history-in-database", probe=failover,
    needs=[Need.ENGINE, Need.WRITES], alone=True,
)  # fmt: skip
def balancer_fails_over(seen: Failover) -> Judgement:
    """With one node stopped the balancer serves on, nothing acknowledged is lost or done twice, and the node returns"""
    if seen.idle:
        return unknown(cause=f"{seen.idle} did not run, so no other node was stopped.", then="invoke status")
    if seen.problem is not None:
        return unknown(seen.problem.shown, cause=lacking(seen.problem) or "an earlier step failed.")
    acknowledged = sum(one.ok for one in seen.started), sum(one.ok for one in seen.completed.values())
    evidence = [
        f"{seen.node} stopped: {acknowledged[0]} of {len(seen.started)} starts acknowledged, "
        f"{acknowledged[1]} of {len(seen.completed)} completions",
        f"{seen.node} started again: {_told(seen.returned)}",
    ]
    wrong = list(_wrong(seen))
    if wrong:
        return broken(
            *evidence, *wrong, expected="everything acknowledged there once",
            cause="a node acknowledges before it has stored, or the balancer sends a request again that a node had.",
            then="invoke logs",
        )  # fmt: skip
    if seen.unserved or seen.returned is None:
        return broken(
            *evidence, *(one.shown for one in seen.unserved[:3]),
            expected="every request served by the nodes that are left, and by the stopped one when it is back",
            cause=lacking(*seen.unserved) or "the balancer does not try another node, or never tries this one again.",
            then="invoke logs --service=balancer",
        )  # fmt: skip
    unread = [one for one in seen.runs.values() if not one.ok and one.status != 404]
    if unread:
        return unknown(*evidence, unread[0].shown, cause="not every run could be read afterwards.")
    return holds(*evidence)


def _told(seconds: float | None) -> str:
    if seconds is None:
        return f"not reached through the balancer within {RETURN_SECONDS:g} s"
    return f"reached through the balancer after {seconds:.1f} s"
