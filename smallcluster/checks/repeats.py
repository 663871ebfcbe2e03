"""Does a poll that is sent again, as a client does whose answer got lost, get its task again from another node."""

from __future__ import annotations

from dataclasses import dataclass, replace

from smallcluster.api import Exchange
from smallcluster.checks.base import Live, Need, Pair, check
from smallcluster.checks.judging import judge_each
from smallcluster.checks.leases import leased_task
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.verdicts import Judgement

HOLD_SECONDS = 1
"""How long the second poll may be held: its task is there already."""


@dataclass(frozen=True, kw_only=True)
class Repeat(Pair):
    """One poll, sent through `first`, and sent again through `second` under the same request id."""

    polled: Exchange
    """The poll that got the task, or what failed on the way there."""
    again: Exchange | None = None
    completed: Exchange | None = None
    """The completion, through `first`, of what the second poll was given."""


def repeats(live: Live) -> tuple[Repeat, ...]:
    """Send a poll again over every ordered pair of nodes, all pairs at the same time."""
    return live.each_pair(_repeat)


def _repeat(live: Live, first: str, second: str) -> Repeat:
    worker = Worker(live, "repeat")
    request_id = f"{worker.name}-poll"
    seen = Repeat(first=first, second=second, polled=leased_task(worker, first, request_id))
    if not task_in(seen.polled):
        return seen
    again = worker.poll(second, HOLD_SECONDS, request_id=request_id)
    return replace(seen, again=again, completed=finish(live.api(first), task_in(again) or task_in(seen.polled)))


@check(
    "repeated-poll-gets-its-task-again",
    "protocol.repeated-polls",
    probe=repeats,
    needs=[Need.NODES, Need.WRITES],
)
def repeated_poll_gets_its_task_again(seen: tuple[Repeat, ...]) -> Judgement:
    """A poll that is sent again to another node, under its request id, gets the task that it holds"""
    return judge_each(
        seen,
        "the task of the first poll, under the same attempt, and its completion taken",
        lambda one: one.again,
        _wrong,
        "one node alone knows which poll holds a task, by its memory or by a cache that is not shared: a worker whose "
        "answer got lost gets the task when its lease has ended.",
    )


def _wrong(one: Repeat, again: Exchange) -> str | None:
    """What is amiss with the second answer."""
    task, first = task_in(again), task_in(one.polled)
    if not again.ok:
        return "not answered as a poll is"
    if not task:
        return "no task"
    if task.get("task_id") != first.get("task_id"):
        return "another task"
    if task.get("workflow_task_attempt") != first.get("workflow_task_attempt"):
        return f"attempt {task.get('workflow_task_attempt')} after {first.get('workflow_task_attempt')}"
    if one.completed is None or not one.completed.ok:
        return f"and then {one.completed.shown if one.completed else 'no completion'}"
    return None
