"""What several judges do alike: one step over all pairs of nodes, and completions that must be refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from smallcluster.api import Exchange
from smallcluster.verdicts import Judgement, broken, holds, unknown


class Crossed(Protocol):
    """What crossed a pair of nodes."""

    @property
    def name(self) -> str:
        """Both nodes in order: `server-a → server-b`."""
        ...


C = TypeVar("C", bound=Crossed)


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
            problems.append(problem)
    if problems:
        return broken(*evidence, expected=step, cause=cause, then="invoke logs")
    if any(took_place(crossing) is None for crossing in crossings):
        return unknown(*evidence, cause="an earlier step failed, so this one was not reached.")
    return holds(*evidence)


def judge_refusals(crossings: Sequence[Crossed], refusals: Mapping[str, Sequence[str]]) -> Judgement:
    """Judge completions that no node may take: each a field of the crossing, with the reasons that refuse it."""
    evidence, accepted, untried = [], False, False
    for crossing in crossings:
        for kind, reasons in refusals.items():
            answer: Exchange | None = getattr(crossing, kind)
            if answer is None or answer.status is None:
                untried = True
                evidence.append(f"{crossing.name}, {kind}: {answer.shown if answer else 'not reached'}")
                continue
            evidence.append(f"{crossing.name}, {kind}: {answer.shown}")
            accepted = accepted or not refused(answer, reasons)
    if accepted:
        return broken(
            *evidence,
            expected="refused with the protocol's reason for each",
            cause="a node does not compare owner and attempt with the lease in the database.",
            then="invoke logs",
        )
    if untried:
        return unknown(*evidence, cause="an earlier step failed, so not every refusal was tried.")
    return holds(*evidence)


def refused(answer: Exchange, reasons: Sequence[str]) -> bool:
    """Whether a completion was turned away for one of these reasons; a 2xx must say that it recorded nothing."""
    turned_away = answer.body.get("recorded") is False if answer.ok else (answer.status or 500) < 500
    return turned_away and answer.body.get("reason") in reasons
