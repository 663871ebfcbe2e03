"""A rehearsal as one HTML page that stands alone: what an operator shows in a change review."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from smallcluster.rehearsal import floor
from smallcluster.rehearsal.journal import Done
from smallcluster.rehearsal.plan import STEPS, WINDOW
from smallcluster.rehearsal.result import RehearsalReport
from smallcluster.verdicts import Verdict

TEMPLATE = "rehearsal.html.j2"
WIDTH, LEFT = 960, 240
"""The timeline's width, and where its bars begin: names stand left of it. Pixels."""
ROW = 22
_MARGIN_SECONDS = 2.0
_TICK_WORD = 50
"""How wide the word under a mark is, in pixels."""
_WORDS = {
    Verdict.HOLDS: "Every step was verified, and nothing that was acknowledged was lost or doubled.",
    Verdict.BROKEN: "A step could not be verified.",
    Verdict.UNKNOWN: "The rehearsal did not come to its end, so it proves nothing.",
}
PROVING = ("back-up", "bootstrap", "compare", "prove-backup", "restore", "compare-back")
"""The steps whose words say what was proven."""


@dataclass(frozen=True)
class Bar:
    """A rectangle of the timeline, in pixels, with what it says when it is pointed at."""

    x: float
    width: float
    kind: str
    told: str


@dataclass(frozen=True)
class Row:
    """One line of the timeline."""

    name: str
    y: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Timeline:
    """The window as it went: the steps, and how each kind of clients was served."""

    rows: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]
    height: int


def page(report: RehearsalReport) -> str:
    """The whole page; it asks for nothing from anywhere."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True
    )
    return environment.get_template(TEMPLATE).render(
        report=report, plan=report.plan, words=_WORDS[report.verdict], timeline=timeline(report), width=WIDTH,
        left=LEFT, row=ROW, steps=[_told(done) for done in report.attempts], longest=report.longest,
        undone=list(dict.fromkeys(done.step for done in reversed(report.attempts) if done.step.undone)),
        moment=_moment, images=report.cluster.images, proven=list(proven(report)),
        floor=floor.told(report.facts.floor, report.judged_downtime) if report.facts.floor else "",
    )  # fmt: skip


def timeline(report: RehearsalReport) -> Timeline | None:
    """The way forward up to the scheduler's start, and a little around it; None where no step was begun."""
    names = {step.id for step in STEPS}
    done = [one for one in report.attempts if one.step.id in names]
    upto = next((number for number, one in enumerate(done) if one.step.id == "smoke"), len(done))
    window = done[:upto]
    if not window:
        return None
    since = window[0].began - _MARGIN_SECONDS
    until = max(one.ended or one.began for one in window) + _MARGIN_SECONDS
    scale = (WIDTH - LEFT) / (until - since)

    def bar(begin: float, end: float, kind: str, told: str) -> Bar:
        begin, end = max(begin, since), min(max(end, begin), until)
        return Bar(round(LEFT + (begin - since) * scale, 1), round(max((end - begin) * scale, 1.5), 1), kind, told)

    rows = [
        Row(one.step.title, 0, (bar(one.began, one.ended or one.began, _kind(one), f"{one.seconds:.1f} s"),))
        for one in window
    ]
    for kind, stretches in report.stretches.items():
        bars = [
            bar(one.since, one.until, "served" if one.served else "refused",
                f"{one.requests} requests {'served' if one.served else 'not served'}, {one.until - one.since:.1f} s")
            for one in stretches
            if one.until > since and one.since < until
        ]  # fmt: skip
        rows.append(Row(f"clients: {kind}", 0, tuple(bars)))
    placed = tuple(Row(one.name, number * ROW, one.bars) for number, one in enumerate(rows))
    return Timeline(placed, tuple(_ticks(since, until, scale)), len(rows) * ROW)


def proven(report: RehearsalReport) -> Iterator[str]:
    """What is known for certain after it, with its numbers: what the proving steps saw."""
    for step in PROVING:
        done = report.last(step)
        if done is not None and done.verified:
            yield from done.seen


def _kind(done: Done) -> str:
    if not done.verified:
        return "failed"
    return "window" if done.step.id in WINDOW else "step"


def _ticks(since: float, until: float, scale: float) -> Iterator[tuple[float, str]]:
    """A mark every so many seconds that there are some ten of them."""
    every = next(one for one in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600) if (until - since) / one <= 12)
    first = int(since // every + 1) * every
    for at in range(first, int(until) + 1, every):
        x = round(LEFT + (at - since) * scale, 1)
        if x < WIDTH - _TICK_WORD / 2:  # the word under it would be cut
            yield x, f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def _told(done: Done) -> dict[str, Any]:
    began = f"{datetime.fromtimestamp(done.began, UTC):%H:%M:%S}"
    return {"title": done.step.title, "why": done.step.why, "verified": done.step.verified, "undone": done.step.undone,
            "seen": done.told, "failed": not done.verified, "began": began,
            "seconds": f"{done.seconds:.1f}"}  # fmt: skip


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
