"""Three verdicts, what a check says, and how many findings make one verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from smallcluster.errors import ExitCode
from smallcluster.redaction import redact


class Verdict(StrEnum):
    """What is known about a rule after looking: it holds, it is broken, or the look was too weak to tell."""

    HOLDS = "holds"
    BROKEN = "broken"
    UNKNOWN = "unknown"


EXIT_CODES = {
    Verdict.HOLDS: ExitCode.HOLDS,
    Verdict.BROKEN: ExitCode.BROKEN,
    Verdict.UNKNOWN: ExitCode.UNKNOWN,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A check's answer. `evidence` is what was seen, line by line; the rest says more where it doesn't hold."""

    verdict: Verdict
    evidence: tuple[str, ...] = ()
    expected: str = ""
    cause: str = ""
    then: str = ""


def holds(*evidence: str) -> Judgement:
    """The rule holds, and this was seen."""
    return Judgement(verdict=Verdict.HOLDS, evidence=evidence)


def broken(*evidence: str, expected: str, cause: str, then: str = "") -> Judgement:
    """The rule is broken: what was expected, what was seen, the most likely cause, the next command."""
    return Judgement(verdict=Verdict.BROKEN, evidence=evidence, expected=expected, cause=cause, then=then)


def unknown(*evidence: str, cause: str = "", then: str = "") -> Judgement:
    """Nothing was proven either way, for this reason."""
    return Judgement(verdict=Verdict.UNKNOWN, evidence=evidence, cause=cause, then=then)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One check's judgement in a run, with what the check is and how long it took (seconds).

    `waits` is how much of that the check had to let pass, by its own statement.
    """

    check: str
    title: str
    rules: tuple[str, ...]
    judgement: Judgement
    seconds: float
    waits: float = 0.0
    warning: bool = False
    """Whether it decides nothing: its rules are the protocol's alone, and the run is not strict."""

    @property
    def verdict(self) -> Verdict:
        """The judgement's verdict."""
        return self.judgement.verdict

    def hidden(self, secrets: tuple[str, ...]) -> Finding:
        """The finding without any secret that a server has put into its answers."""
        said = self.judgement
        clean = replace(
            said,
            evidence=tuple(redact(line, secrets) for line in said.evidence),
            expected=redact(said.expected, secrets),
            cause=redact(said.cause, secrets),
        )
        return replace(self, judgement=clean)


def merged(findings: Sequence[Finding]) -> Verdict:
    """One verdict for a run: broken if any rule is, else unknown if any is. Warnings don't count.

    A run without findings is unknown.
    """
    verdicts: Iterable[Verdict] = [finding.verdict for finding in findings if not finding.warning]
    if Verdict.BROKEN in verdicts:
        return Verdict.BROKEN
    if Verdict.UNKNOWN in verdicts or not verdicts:
        return Verdict.UNKNOWN
    return Verdict.HOLDS
