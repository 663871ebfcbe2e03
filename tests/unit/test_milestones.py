"""Compose's progress lines become words for a person and parts of the phase table."""

from __future__ import annotations

import io

import pytest

from smallcluster.milestones import Milestones
from smallcluster.progress import Progress

LINES = """\
Network p_private  Creating
Volume "p_data"  Created
Container p-database-1  Created
Container p-database-1  Starting
Container p-redis-1  Starting
Container p-redis-1  Started
Container p-database-1  Started
Container p-database-1  Waiting
Container p-redis-1  Waiting
Container p-redis-1  Healthy
Container p-database-1  Healthy
Container p-bootstrap-1  Started
Container p-bootstrap-1  Waiting
Container p-bootstrap-1  Exited
Container p-bootstrap-1  Exited
Container p-server-a-1  Started
Container p-server-b-1  Started
Container p-server-a-1  Healthy
Container p-server-b-1  Healthy
Container p-balancer-1  Started
"""

PARTS = [
    "networks, volume, containers made",
    "database and Redis healthy",
    "bootstrap completed",
    "nodes ready",
    "balancer started",
]


def replayed(lines: list[str]) -> tuple[Milestones, str]:
    stream = io.StringIO()
    with Progress(stream).step("up") as step:
        milestones = Milestones("p", step)
        for line in lines:
            milestones.line(line)
    return milestones, stream.getvalue()


def test_a_whole_start_has_all_parts_in_order() -> None:
    milestones, told = replayed(LINES.splitlines())
    phases = milestones.phases(["server-a", "server-b"])
    assert [phase.name for phase in phases] == PARTS
    assert all(phase.seconds >= 0 for phase in phases)
    assert "database healthy" in told
    assert told.count("bootstrap done") == 1
    assert "Network" not in told


@pytest.mark.parametrize("cut", range(len(LINES.splitlines())))
def test_a_start_that_was_cut_short_has_the_parts_that_ended(cut: int) -> None:
    milestones, _ = replayed(LINES.splitlines()[:cut])
    names = [phase.name for phase in milestones.phases(["server-a", "server-b"])]
    assert names == PARTS[: len(names)]


def test_an_unusual_line_is_passed_on_whole() -> None:
    _, told = replayed(["Error response from daemon: no space left on device"])
    assert "no space left on device" in told


def test_what_is_awaited_is_known() -> None:
    with Progress(io.StringIO()).step("up") as step:
        milestones = Milestones("p", step)
        for line in LINES.splitlines()[:10]:
            milestones.line(line)
        assert step.detail == "waiting for database"
