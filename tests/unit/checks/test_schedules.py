"""Firings, judged on hand-made outcomes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from support.made import answer

from smallcluster.checks.schedules import Firing, due_schedule_fires_once

HANDED = answer(task={"task_id": "t", "run_id": "r"})
NOTHING = answer(task=None)
GOOD = Firing(
    created=answer(status=201, path="/api/schedules", outcome="created"),
    handed=HANDED,
    seconds=0.7,
    witnessed=HANDED,
    again=NOTHING,
    listed=answer(workflows=[{"run_id": "r"}]),
    described=answer(fires_count=1),
)


LATE = {"handed": NOTHING, "witnessed": None, "again": None, "listed": None}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "holds"),
        ({"handed": NOTHING, "witnessed": None, "again": None, "listed": None}, "broken"),
        (LATE | {"described": answer(next_fire_at="1970-01-01T00:59:00Z")}, "unknown"),
        (LATE | {"described": answer(info={"next_fire": "1970-01-01T00:59:00+00:00"})}, "unknown"),
        (LATE | {"described": answer(next_fire_at="1969-12-31T23:59:59Z")}, "broken"),
        (LATE | {"described": answer(info={"next_fire": "soon"})}, "broken"),
        ({"again": HANDED}, "broken"),
        ({"listed": answer(workflows=[{"run_id": "r"}, {"run_id": "s"}])}, "broken"),
        ({"witnessed": NOTHING}, "unknown"),
        ({"witnessed": None, "again": None, "listed": None}, "unknown"),
        ({"listed": answer(status=500)}, "unknown"),
        ({"created": answer(status=404, path="/api/schedules"), "handed": None}, "unknown"),
        ({"created": answer(status=401, path="/api/worker/register"), "handed": None}, "unknown"),
        ({"created": answer(status=500, path="/api/schedules"), "handed": None}, "broken"),
        ({"created": answer(status=None, path="/api/schedules"), "handed": None}, "broken"),
    ],
)
def test_firings(changed: dict[str, Any], verdict: str) -> None:
    assert due_schedule_fires_once.judge(replace(GOOD, **changed)).verdict.value == verdict


LATE_BY_ITS_CLOCK = {"created_at": "2026-01-01T00:00:02Z"}


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"info": {"next_fire": "2026-01-01T01:00:01+00:00"}, **LATE_BY_ITS_CLOCK}, "unknown"),  # as 0.2.10 tells it
        ({"next_fire_at": "2026-01-01T01:00:01Z", **LATE_BY_ITS_CLOCK}, "unknown"),
        ({"next_fire_at": "2026-01-01T01:00:01Z"}, "broken"),  # in time, moved on, and nothing started
        ({"next_fire_at": "2026-01-01T01:00:01Z", "created_at": "2026-01-01T00:00:00Z"}, "broken"),
        ({"info": {"next_fire": "2026-01-01T00:00:01+00:00"}}, "broken"),  # due, and nobody fires it
        ({"next_fire_at": "soon"}, "broken"),
        ({}, "broken"),
    ],
)
def test_a_due_time_that_the_server_missed_is_not_the_schedulers_fault(told: dict[str, Any], verdict: str) -> None:
    due = datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC).timestamp()
    seen = Firing(created=GOOD.created, due=due, handed=NOTHING, described=answer(**told))
    assert due_schedule_fires_once.judge(seen).verdict.value == verdict


def test_without_a_list_of_workflows_nobody_knows_how_often_it_fired() -> None:
    judged = due_schedule_fires_once.judge(replace(GOOD, listed=answer(status=404, path="/api/workflows")))
    assert (judged.verdict.value, judged.cause) == ("unknown", "this server has no GET /api/workflows.")
