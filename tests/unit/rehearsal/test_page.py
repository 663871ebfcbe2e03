"""A rehearsal as a page: what it shows of a good run, of a failed one, and of one that never began."""

from __future__ import annotations

import html
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from smallcluster.errors import ClusterBrokenError, PersonError
from smallcluster.evidence import Evidence
from smallcluster.rehearsal.plan import STEPS, Plan
from smallcluster.rehearsal.prober import Outage, Stretch
from smallcluster.rehearsal.run import Done, RehearsalReport
from smallcluster.report import rehearsal_page
from smallcluster.report.rehearsal import rehearsal_as_data

BEGAN = 1_790_000_000.0
PLAN = Plan(
    database="pgsql", nodes=2, from_image="server:old", from_id="sha256:1", from_version="0.1.0",
    to_image="server:new", to_id="sha256:2", to_version="0.2.0", world="w",
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
        "seconds": 60.0, "problem": problem, "plan": PLAN, "steps": tuple(done),
        "outages": (Outage("control", BEGAN + 3, BEGAN + 8.2, 52, 1),), "stretches": {"control": served},
        "lateness": 0.04, "findings": (), "gone_back": False,
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
    assert f"{len(STEPS) - steps} of {len(STEPS)} steps were not begun" in page
    assert ("not verified" in page) == bool(steps)
    assert rehearsal_as_data(stopped)["verdict"] == ("broken" if steps else "unknown")
