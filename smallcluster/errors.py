"""What a person reads when a verb cannot go on, and the exit code that goes with it.

Exit codes of every verb: 0 all rules hold, 10 a rule is broken, 11 unknown, 12 asked wrongly,
13 the machine can't, 14 the harness broke. Never 1: that is Invoke's own for a mistyped verb or flag.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The meaning of each exit status."""

    HOLDS = 0
    BROKEN = 10
    UNKNOWN = 11
    ASKED_WRONGLY = 12
    MACHINE_CANNOT = 13
    HARNESS_BROKE = 14


class PersonError(Exception):
    """A stop that a person can act on: what happened, where, what was seen, why, and what to do next.

    `str()` of it is the whole message. Subclasses carry the exit code.
    """

    code: ExitCode = ExitCode.HARNESS_BROKE

    def __init__(self, what: str, *, seen: str = "", why: str = "", then: str = "") -> None:
        """Keep the parts apart, so that reports can show them one by one.

        `what` names the thing and the place in a sentence; `seen` is raw evidence (may have several lines);
        `why` is the most likely cause; `then` the next command to type.
        """
        super().__init__(what)
        self.what, self.seen, self.why, self.then = what, seen, why, then

    def __str__(self) -> str:
        parts = [self.what]
        if self.seen:
            parts.append(f"Seen: {self.seen}")
        if self.why:
            parts.append(f"Likely: {self.why}")
        if self.then:
            parts.append(f"Next: {self.then}")
        return "\n  ".join(parts)


class AskedWronglyError(PersonError):
    """The harness was asked something it can't take: an unknown database, a malformed env line (exit 12)."""

    code = ExitCode.ASKED_WRONGLY


class MachineCannotError(PersonError):
    """The machine lacks something: an engine, an image, a port, a right (exit 13)."""

    code = ExitCode.MACHINE_CANNOT


class ClusterBrokenError(PersonError):
    """The cluster did not do what the contract promises, so nothing further could be judged (exit 10)."""

    code = ExitCode.BROKEN


class InterruptedRunError(PersonError):
    """A person or a supervisor stopped the run (Ctrl-C, SIGTERM) before it could judge (exit 11)."""

    code = ExitCode.UNKNOWN


class UnfitTargetError(PersonError):
    """A target that can't be judged: it does not answer, or is something else than it was taken for (exit 11)."""

    code = ExitCode.UNKNOWN
