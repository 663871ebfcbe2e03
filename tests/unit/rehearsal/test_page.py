"""A rehearsal as a page: what it shows of a good run, of a failed one, and of one that never began."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from smallcluster.errors import ClusterBrokenError, PersonError
from smallcluster.evidence import Evidence
from smallcluster.rehearsal.backup import Backup
from smallcluster.rehearsal.journal import Done, Facts
from smallcluster.rehearsal.plan import STEPS, Plan
from smallcluster.rehearsal.prober import Outage, Stretch
from smallcluster.rehearsal.result import RehearsalReport
from smallcluster.report import rehearsal_junit, rehearsal_page
from smallcluster.report.rehearsal import rehearsal_as_data

BEGAN = 1_790_000_000.0
PLAN = Plan(
    database="pgsql", nodes=2, from_image="server:old", from_id="sha256:1", from_version="0.1.0",
    to_image="server:new", to_id="sha256:2", to_version="0.2.0", world="w", backups="/backups",
)  # fmt: skip


def report(steps: int = len(STEPS), problem: PersonError | None = None, **changed: Any) -> RehearsalReport:
    """A run of so many steps, a second each; the last one failed if there is a problem."""
    done = [
        Done(step, BEGAN + number, BEGAN + number + 0.9, ("seen <so>",)) for number, step in enumerate(STEPS[:steps])
    ]
    if problem is not None and done:
        done[-1].problem = problem
    served = [Stretch(BEGAN, BEGAN + 3, True, 30), Stretch(BEGAN + 3, BEGAN + 8, False, 50)]
    settings = SimpleNamespace(db=SimpleNamespace(value="pgsql"), nodes=2, project="p")
    values: dict[str, Any] = {
        "cluster": SimpleNamespace(images={}, settings=settings),
        "phases": (), "evidence": Evidence(Path("evidence"), ()), "brought_up": True, "left_running": False,
        "seconds": 60.0, "problem": problem, "plan": PLAN, "attempts": tuple(done),
        "outages": (Outage("control", BEGAN + 3, BEGAN + 8.2, 52, 1),), "stretches": {"control": served},
        "lateness": 0.04, "findings": (), "gone_back": False, "abandoned": False, "gaps": (), "resumable": False,
        "sdk": True, "facts": Facts(copy=Backup(Path("x.dump"), 7, "abc", 1.0), floor={"dump": 1.0, "node": 3.0}),
    }  # fmt: skip
    return RehearsalReport(**(values | changed))


def test_a_good_run_says_so_first_and_shows_its_window() -> None:
    page = rehearsal_page.page(report())
    body = page[page.index("<body>") :]
    assert body.index("Holds") < body.index("The window") < body.index("What was done")
    assert "The longest that a client was not served: <strong>5.2 s</strong>" in page
    assert "seen &lt;so&gt;" in page
    assert all(step.title in html.unescape(page) for step in STEPS)
    assert not re.search(r"(src|href)=|https?://", page), "it asks for nothing from anywhere"


def test_the_timeline_ends_with_the_window_and_its_bars_stay_within() -> None:
    drawn = rehearsal_page.timeline(report())
    assert drawn is not None
    names = [row.name for row in drawn.rows]
    assert names == [*(step.title for step in STEPS[:10]), "clients: control"]
    bars = [bar for row in drawn.rows for bar in row.bars]
    assert all(bar.x >= rehearsal_page.LEFT and bar.x + bar.width <= rehearsal_page.WIDTH + 1 for bar in bars)
    assert [bar.kind for bar in drawn.rows[-1].bars] == ["served", "refused"]
    svg = re.search(r"<svg.*</svg>", rehearsal_page.page(report()), re.DOTALL)
    assert svg is not None
    ElementTree.fromstring(svg[0])


@pytest.mark.parametrize("steps", [0, 6])
def test_a_run_that_stopped(steps: int) -> None:
    problem = ClusterBrokenError("The job ended with status 1.", seen="no such <type>", then="read the logs")
    outage = Outage("control", BEGAN + 3, None, 52, 1)
    stopped = report(steps, problem, outages=(outage,) if steps else ())
    page = rehearsal_page.page(stopped)
    assert "no such &lt;type&gt;" in page
    assert ("Broken" in page, "Unknown" in page) == (bool(steps), not steps)
    assert f"{len(STEPS) - max(steps - 1, 0)} of {len(STEPS)} steps were not verified" in page
    assert ('"broken">not verified' in page) == bool(steps)
    assert rehearsal_as_data(stopped)["verdict"] == ("broken" if steps else "unknown")


def test_the_downtime_is_held_against_the_floor_of_the_same_run() -> None:
    good = report()
    assert rehearsal_as_data(good)["downtime_ratio"] == 1.3
    assert "the least that it can take is 4.0 s (dump 1.0 s, node 3.0 s); it took 5.2 s, 1.30 times that" in (
        html.unescape(rehearsal_page.page(good))
    )
    cut_off = report(gaps=((BEGAN, BEGAN + 60),))
    assert rehearsal_as_data(cut_off)["downtime_ratio"] is None
    assert "60.0 s in which the rehearsal was cut off" in rehearsal_page.page(cut_off)
    assert "official SDK" in rehearsal_page.page(report(sdk=False))


def test_a_step_that_was_cut_off_and_done_again_counts_by_its_last_attempt() -> None:
    good = report()
    again = report(attempts=(Done(STEPS[0], BEGAN), *good.attempts))
    assert (again.verified, again.verdict.value) == (len(STEPS), "holds")
    never = report(attempts=(*good.attempts[:-1], Done(STEPS[-1], BEGAN)))
    assert (never.verified, never.verdict.value) == (len(STEPS) - 1, "unknown")
    failed = replace(good.attempts[3], problem=ClusterBrokenError("not so"))
    assert report(attempts=(failed, *good.attempts)).verdict.value == "holds"
    assert report(attempts=(*good.attempts, failed)).verdict.value == "broken"


def test_what_can_be_resumed_says_how() -> None:
    page = rehearsal_page.page(report(6, ClusterBrokenError("The job ended."), resumable=True))
    assert "invoke rehearse --db=pgsql --resume" in page
    assert "--abandon" in page


def test_abandoned_as_was_asked_is_no_verdict_and_no_failure() -> None:
    left = report(4, abandoned=True, gone_back=True)
    assert (left.verdict.value, int(left.exit_code)) == ("unknown", 0)
    stuck = report(4, ClusterBrokenError("no"), abandoned=True)
    assert int(stuck.exit_code) == 10


def test_junit_has_a_case_for_each_step(tmp_path: Path) -> None:
    problem = ClusterBrokenError("The job ended with status 1.", seen="no such <type>")
    path = tmp_path / "junit.xml"
    rehearsal_junit.write(report(6, problem), path)
    suite = ElementTree.parse(path).getroot()
    outcomes = [next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed")
                for case in suite.iter("testcase")]  # fmt: skip
    assert outcomes == [*["passed"] * 5, "failure", *["skipped"] * (len(STEPS) - 6)]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": str(len(STEPS)), "failures": "1", "errors": "0", "skipped": str(len(STEPS) - 6),
    }  # fmt: skip
    rehearsal_junit.write(report(attempts=(Done(STEPS[0], BEGAN),), problem=None), path)
    assert ElementTree.parse(path).getroot().get("errors") == "1"
