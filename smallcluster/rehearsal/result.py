"""What a rehearsal comes to: its plan, its steps, what clients felt, what was proven and what was not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from smallcluster.errors import ExitCode
from smallcluster.rehearsal.journal import Done, Facts
from smallcluster.rehearsal.plan import Plan
from smallcluster.rehearsal.prober import Kind, Outage, Stretch
from smallcluster.verdicts import Finding, Verdict
from smallcluster.visits import Ended


@dataclass(frozen=True, kw_only=True)
class RehearsalReport(Ended):
    """A rehearsal as it came out, or as far as it came."""

    plan: Plan
    attempts: tuple[Done, ...]
    """Every attempt of a step, in order."""
    facts: Facts
    outages: tuple[Outage, ...]
    stretches: Mapping[Kind, Sequence[Stretch]]
    """How each kind of clients was served through time, to the end of the way forward."""
    lateness: float
    """The most that a probe was sent after its turn, in seconds."""
    findings: tuple[Finding, ...]
    """The smokes of the new cluster, and of the old one after the way back."""
    gone_back: bool
    """Whether the old release was put back, and that was seen."""
    abandoned: bool
    gaps: tuple[tuple[float, float], ...]
    """When the rehearsal itself was away, seconds since the epoch: it was killed, and resumed later."""
    resumable: bool
    """Whether it can be resumed or abandoned from here."""
    sdk: bool
    """Whether a worker of the official SDK took part."""

    def last(self, step: str) -> Done | None:
        """A step's last attempt."""
        return next((one for one in reversed(self.attempts) if one.step.id == step), None)

    @property
    def verified(self) -> int:
        """How many of the plan's steps were verified, by their last attempts."""
        return sum(one is not None and one.verified for one in (self.last(step.id) for step in self.plan.steps))

    @property
    def verdict(self) -> Verdict:
        """Holds where every step was verified, broken where one was not, unknown where the run did not come so far."""
        last = [self.last(one.step.id) for one in self.attempts]
        if any(one and one.problem is not None and one.problem.code is ExitCode.BROKEN for one in last):
            return Verdict.BROKEN
        whole = self.verified == len(self.plan.steps) and not self.abandoned
        return Verdict.HOLDS if whole and self.problem is None else Verdict.UNKNOWN

    @property
    def exit_code(self) -> ExitCode:
        """The verdict's code; of an unknown one, whatever stopped the run; 0 where it was abandoned as was asked."""
        if self.abandoned and self.gone_back and self.problem is None:
            return ExitCode.HOLDS
        if self.verdict is Verdict.UNKNOWN and self.problem is not None:
            return self.problem.code
        return {Verdict.HOLDS: ExitCode.HOLDS, Verdict.BROKEN: ExitCode.BROKEN}.get(self.verdict, ExitCode.UNKNOWN)

    @property
    def longest(self) -> float | None:
        """The longest that any kind of clients was not served, in seconds; None where one never was again."""
        lasted = [one.seconds for one in self.outages]
        return None if None in lasted else max((one for one in lasted if one is not None), default=0.0)

    @property
    def judged_downtime(self) -> float | None:
        """The downtime that can be held against the floor; None where the rehearsal itself was away meanwhile."""
        return None if self.gaps or not self.outages else self.longest

    @property
    def unjudged(self) -> Iterator[str]:
        """What nothing here could judge, a sentence each."""
        for since, until in self.gaps:
            yield (
                f"{until - since:.1f} s in which the rehearsal was cut off: nobody probed, and no event was seen; "
                "the downtime holds that time, too"
            )
        if not self.sdk:
            yield "workers of the official SDK: it is not installed here (pip install durable-workflow)"
        for name in sorted({one.check for one in self.findings if one.verdict is Verdict.UNKNOWN}):
            yield f"the smoke's {name}: it came out unknown"
