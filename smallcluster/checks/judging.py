"""What several judges do alike: one step over all pairs of nodes, and completions that must be refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from smallcluster.api import Exchange
from smallcluster.bodies import mapping
from smallcluster.verdicts import Judgement, broken, holds, unknown


class Crossed(Protocol):
    """What crossed a pair of nodes."""

    @property
    def name(self) -> str:
        """Both nodes in order: `server-a → server-b`."""
        ...


C = TypeVar("C", bound=Crossed)


NO_ROUTE = (None, "not_found", "method_not_allowed")
"""What an answer 404 or 405 gives as its reason where the route itself is not there; other reasons name what is."""


def lacking(*answers: Exchange | None) -> str:
    """What the server lacks, by the first answer that shows it: a route, a readable body, a task. Empty if nothing."""
    for answer in answers:
        if answer is None or answer.status is None:
            continue
        asked = f"{answer.method} {answer.path}"
        if answer.status in (404, 405) and answer.body.get("reason") in NO_ROUTE:
            return f"this server has no {asked}."
        if answer.status < 500 and not answer.body:
            return f"{answer.route} answers {asked} without a JSON object: something else answers there."
        if answer.ok and answer.path.endswith("-tasks/poll") and (odd := _odd_task(answer)):
            return f"{answer.route} answers {asked} with {odd}."
    return ""


def _odd_task(answer: Exchange) -> str:
    """What a poll's answer lacks; empty where it has a task with a history, an activity task, or null."""
    task = answer.body.get("task", "untold")
    if task is not None and not mapping(task):
        return "neither a task nor null"
    told = isinstance(mapping(task).get("history_events"), list) or "/activity-" in answer.path
    return "" if task is None or told else "a task without history_events"


def judge_each(
    crossings: Sequence[C],
    step: str,
    took_place: Callable[[C], Exchange | None],
    wrong: Callable[[C, Exchange], str | None],
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
            problems.append(answer)
    if problems:
        return broken(*evidence, expected=step, cause=lacking(*problems) or cause, then="invoke logs")
    if any(took_place(crossing) is None for crossing in crossings):
        return unknown(*evidence, cause="an earlier step failed, so this one was not reached.")
    return holds(*evidence)


def judge_refusals(crossings: Sequence[Crossed], refusals: Mapping[str, Sequence[str]]) -> Judgement:
    """Judge completions that no node may take: each a field of the crossing, with the reasons that refuse it."""
    evidence: list[str] = []
    accepted: list[Exchange] = []
    untried = False
    for crossing in crossings:
        for kind, reasons in refusals.items():
            answer: Exchange | None = getattr(crossing, kind)
            if answer is None or answer.status is None:
                untried = True
                evidence.append(f"{crossing.name}, {kind}: {answer.shown if answer else 'not reached'}")
                continue
            evidence.append(f"{crossing.name}, {kind}: {answer.shown}")
            accepted += [] if refused(answer, reasons) else [answer]
    if accepted:
        return broken(
            *evidence,
            expected="refused with the protocol's reason for each",
            cause=lacking(*accepted) or "a node does not compare owner and attempt with the lease in the database.",
            then="invoke logs",
        )
    if untried:
        return unknown(*evidence, cause="an earlier step failed, so not every refusal was tried.")
    return holds(*evidence)


def refused(answer: Exchange, reasons: Sequence[str]) -> bool:
    """Whether a completion was turned away for one of these reasons; a 2xx must say that it recorded nothing."""
    turned_away = answer.body.get("recorded") is False if answer.ok else (answer.status or 500) < 500
    return turned_away and answer.body.get("reason") in reasons
