"""Do the nodes' clocks agree with one another and with ours, by the Date of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.health import health_answers
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

BOUND_SECONDS = 5.0
"""How far a clock may be off. A Date has whole seconds, and leases and schedules are the database's to time."""


@dataclass(frozen=True)
class Offsets:
    """How far each node's clock is ahead of ours, in seconds (negative: behind), and by how much that may be wrong.

    None where no node of this protocol told a date.
    """

    by_node: Mapping[str, tuple[float, float] | None]


def offsets(live: Live) -> Offsets:
    """Compare the Date of each node's answer with our own clock in the middle of the exchange."""
    answers = {route: answer for route, answer in live.facts(health_answers).items() if route != BALANCER}
    found: dict[str, tuple[float, float] | None] = {}
    for node, answer in answers.items():
        told = told_at(answer.date) if answer.body else None
        middle = answer.at + answer.seconds / 2
        found[node] = None if told is None else (round(told + 0.5 - middle, 1), answer.seconds / 2 + 0.5)
    return Offsets(found)


def told_at(date: str) -> float | None:
    """A Date header in seconds since the epoch; None where it is none."""
    try:
        return parsedate_to_datetime(date).replace(tzinfo=UTC).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


@check("clocks-agree", "protocol.clocks", probe=offsets, needs=[Need.NODES])
def clocks_agree(seen: Offsets) -> Judgement:
    """The nodes' clocks agree with ours, and so with one another."""
    told = {node: offset for node, offset in seen.by_node.items() if offset is not None}
    evidence = [f"{node}: {offset:+.1f} s, ±{error:.1f} s" for node, (offset, error) in told.items()]
    far = [node for node, (offset, error) in told.items() if abs(offset) - error > BOUND_SECONDS]
    if far:
        return broken(
            *evidence,
            expected=f"within {BOUND_SECONDS:g} s of this machine's clock",
            cause=f"the clock of {', '.join(far)} is wrong, or this machine's is (compare with `date -u`).",
        )
    if len(told) < len(seen.by_node) or not told:
        return unknown(*evidence, cause="a node gave no answer with a Date to judge by.")
    return holds(*evidence)
