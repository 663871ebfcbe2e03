"""What the protocol promises of a run's progress: a timer fires, a failed task comes again, its history is in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from smallcluster.api import Api, Exchange, JsonBody
from smallcluster.bodies import mappings, text, whole
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.judging import lacking
from smallcluster.checks.leases import leased_task
from smallcluster.checks.worker import Worker, finish, task_in
from smallcluster.verdicts import Judgement, broken, holds, unknown

TIMER_SECONDS = 1


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A workflow task taken on one node and what came of it: the next task, and the history at the end."""

    node: str
    taken: Exchange
    """The answer to what was done with the first task, or of the step that failed before."""
    reached: bool = False
    again: Exchange | None = None
    seconds: float = 0.0
    """Until the next task was leased."""
    history: Exchange | None = None

    @property
    def events(self) -> list[str]:
        """The event types of the history at the end."""
        body = self.history.body if self.history else {}
        return [str(event.get("event_type")) for event in mappings(body.get("events"))]


def timers(live: Live) -> tuple[Resumed, ...]:
    """Start a timer through each node, and poll for what follows through the next one."""
    command = {"type": "start_timer", "delay_seconds": TIMER_SECONDS}
    return _each(live, "timer", lambda api, task: api.complete_workflow_task(task, [command]))


def failures(live: Live) -> tuple[Resumed, ...]:
    """Fail a workflow task through each node, and poll for it again through the next one."""
    return _each(live, "failure", lambda api, task: api.fail_workflow_task(task, "on purpose, by a check"))


Take = Callable[[Api, JsonBody], Exchange]


def _each(live: Live, purpose: str, take: Take) -> tuple[Resumed, ...]:
    pairs = zip(live.nodes, (*live.nodes[1:], live.nodes[0]), strict=True)
    return live.each_pair(lambda live, node, other: _resumed(Worker(live, purpose), take, node, other), pairs)


def _resumed(worker: Worker, take: Take, node: str, other: str) -> Resumed:
    leased = leased_task(worker, node)
    task = task_in(leased)
    if not task:
        return Resumed(node=node, taken=leased)
    began = time.monotonic()  # before it is sent: the server's own count begins later, and never earlier
    taken = take(worker.live.api(node), task)
    seen = Resumed(node=node, taken=taken, reached=True)
    if not taken.ok:
        return seen
    again = worker.wait_for_task(other, TIMER_SECONDS + worker.live.patience)
    seen = replace(seen, again=again, seconds=time.monotonic() - began)
    if not task_in(again):
        return seen
    finish(worker.live.api(node), task_in(again))
    history = worker.live.api(other).history(str(task.get("workflow_id")), str(task.get("run_id")))
    return replace(seen, history=history)


@check("timer-fires-once", "protocol.timers", probe=timers, needs=[Need.WRITES], waits=TIMER_SECONDS)
def timer_fires_once(seen: tuple[Resumed, ...]) -> Judgement:
    """A timer fires once, not before its time, and wakes a worker at another node."""

    def wrong(one: Resumed) -> str:
        if not task_in(one.again):
            return "nobody fires timers: no node does, and no process of the topology either."
        if one.seconds < TIMER_SECONDS * 0.9:
            return "the workflow goes on before its timer is due."
        fired = one.events.count("TimerFired")
        return "" if one.history is None or not one.history.ok or fired == 1 else f"the timer fired {fired} times."

    return _judge(seen, f"one TimerFired, and the next task after {TIMER_SECONDS} s", wrong)


@check("failed-task-comes-again", "protocol.redelivery", probe=failures, needs=[Need.WRITES])
def failed_task_comes_again(seen: tuple[Resumed, ...]) -> Judgement:
    """A workflow task that a worker fails is given out again, with a higher attempt, at another node."""

    def wrong(one: Resumed) -> str:
        attempt = whole(task_in(one.again).get("workflow_task_attempt"))
        if attempt == 2:
            return ""
        return f"it came again as attempt {attempt}." if attempt else "a failed task is lost: its run hangs."

    return _judge(seen, "the same run's task again, as attempt 2", wrong)


def _judge(seen: tuple[Resumed, ...], expected: str, wrong: Callable[[Resumed], str]) -> Judgement:
    evidence = [_told(one) for one in seen]
    problems = [problem for one in seen if one.again is not None and one.again.ok and (problem := wrong(one))]
    if problems:
        return broken(*evidence, expected=expected, cause=problems[0], then="invoke logs")
    unled = [one.taken for one in seen if one.again is None] + [one.again for one in seen if one.again]
    if any(one.again is None or not one.again.ok for one in seen):
        return unknown(*evidence, cause=lacking(*unled) or "an earlier step failed, so nothing was waited for.")
    return holds(*evidence)


def _told(one: Resumed) -> str:
    if one.again is None:
        return f"{one.node}: {one.taken.shown}"
    attempt = task_in(one.again).get("workflow_task_attempt")
    told = f"the next task after {one.seconds:.1f} s, attempt {attempt}" if attempt else one.again.shown
    return f"{one.node}: {told}"


@dataclass(frozen=True, kw_only=True)
class History:
    """One closed run's history as a node tells it: whole, and in pages of one event."""

    node: str
    whole: Exchange
    pages: tuple[Exchange, ...] = ()

    @property
    def paged(self) -> list[int]:
        """The events' numbers, page after page."""
        return [whole(event.get("sequence")) for page in self.pages for event in mappings(page.body.get("events"))]


MOST_PAGES = 20


def histories(live: Live) -> tuple[History, ...]:
    """Finish a run, and read its history through every node."""
    worker = Worker(live, "history")
    leased = leased_task(worker, live.nodes[0])
    task = task_in(leased)
    if not task or not finish(live.api(live.nodes[0]), task).ok:
        return (History(node=live.nodes[0], whole=leased),)
    workflow, run = str(task.get("workflow_id")), str(task.get("run_id"))
    return tuple(_read(live.api(node), workflow, run) for node in live.nodes)


def _read(api: Api, workflow: str, run: str) -> History:
    pages, token = [], ""
    for _ in range(MOST_PAGES):
        pages.append(api.history(workflow, run, 1, token))
        token = text(pages[-1].body.get("next_page_token"))
        if not token:
            break
    return History(node=api.route, whole=api.history(workflow, run), pages=tuple(pages))


@check("history-is-in-order", "protocol.history-order", "api.history-in-database", probe=histories, needs=[Need.WRITES])
def history_is_in_order(seen: tuple[History, ...]) -> Judgement:
    """Every node tells a closed run's history whole and in order, at once and page by page."""
    bodies = [mappings(one.whole.body.get("events")) for one in seen]
    numbers = [[whole(event.get("sequence")) for event in events] for events in bodies]
    evidence = [f"{one.node}: events {told}, in pages {one.paged}" for one, told in zip(seen, numbers, strict=True)]
    if not all(one.whole.ok and one.pages and all(page.ok for page in one.pages) and numbers[0] for one in seen):
        answers = [answer for one in seen for answer in (one.whole, *one.pages) if not answer.ok]
        return unknown(*evidence, *(answer.shown for answer in answers[:3]),
                       cause=lacking(*answers) or "not every node told the history.")  # fmt: skip
    in_order = list(range(1, len(numbers[0]) + 1))
    alike = len({str(events) for events in bodies}) == 1
    if alike and all(told == in_order == one.paged for one, told in zip(seen, numbers, strict=True)):
        return holds(*evidence)
    return broken(
        *evidence,
        expected="the same events from every node, numbered from 1 without a gap, both ways",
        cause="a node reads another database, or gives history in the order in which it finds it.",
        then="invoke logs",
    )
