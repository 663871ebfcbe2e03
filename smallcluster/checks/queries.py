"""Does a query go from a caller at one node to a worker at any other, through the shared Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

from smallcluster.api import ANSWER_SECONDS, Exchange
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.judging import lacking
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.verdicts import Judgement, broken, holds, unknown

HOLD_SECONDS = 10
"""How long the worker's poll for the query may be held."""
REPLY = "seen"
UNASKED = ("query_worker_unavailable", "query_not_supported", "runtime_capability_unsupported")
"""Refusals that say that nobody was asked, for a reason that lies with the worker."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A query from a caller at `caller` to a worker that polls `worker`."""

    caller: str
    worker: str
    answer: Exchange
    """The caller's answer, or that of a step on the way which failed."""
    given: Exchange | None = None
    """The worker's poll."""

    @property
    def answered(self) -> bool:
        """Whether the caller was told what the worker said."""
        return self.answer.ok and self.answer.body.get("result") == REPLY


def asked(live: Live) -> tuple[Asked, ...]:
    """Ask once for every pair of nodes, a node with itself included, all at the same time."""
    return live.each_pair(_ask, product(live.nodes, live.nodes))


def _ask(live: Live, caller: str, node: str) -> Asked:
    worker = Worker(live, "query")
    for step in (worker.register, worker.start):
        answer = step(node)
        if not answer.ok:
            return Asked(caller=caller, worker=node, answer=answer)
    workflow = str(answer.body.get("workflow_id"))
    with ThreadPoolExecutor(max_workers=1) as pool:
        asking = pool.submit(live.api(caller).query, workflow, "state", HOLD_SECONDS + ANSWER_SECONDS)
        given = live.api(node).poll_query_task(worker.name, worker.queue, HOLD_SECONDS)
        if task := task_in(given):
            live.api(node).complete_query_task(task, REPLY)
        answer = asking.result()
    if task := task_in(worker.poll(node)):
        finish(live.api(node), task)
    return Asked(caller=caller, worker=node, answer=answer, given=given)


@check("queries-cross-nodes", "redis.query-tasks", probe=asked, needs=[Need.NODES, Need.WRITES])
def queries_cross_nodes(seen: tuple[Asked, ...]) -> Judgement:
    """A query from a caller at any node is answered by a worker that polls at any other."""
    evidence = [f"caller at {one.caller}, worker at {one.worker}: {one.answer.shown}" for one in seen]
    unanswered = [one for one in seen if not one.answered]
    if not unanswered:
        return holds(*evidence)
    answers = [answer for one in unanswered for answer in (one.answer, one.given) if answer is not None]
    lack = lacking(*answers)
    unasked = all(one.given is None or one.answer.body.get("reason") in UNASKED for one in unanswered)
    if lack or unasked:
        return unknown(*evidence, cause=lack or "an earlier step failed, or nobody was asked: nothing to judge.")
    across = [one for one in unanswered if one.caller != one.worker]
    apart = len(across) == len(unanswered) and any(one.answered for one in seen)
    return broken(
        *evidence,
        expected="every caller is told what the worker said",
        cause="query tasks do not cross nodes: their queue is not in one shared Redis (REDIS_HOST, REDIS_DB, prefix)."
        if apart
        else "query tasks are lost, or Redis is down: without it there are no queries.",
        then="invoke logs --service=server-a",
    )
