"""Prunings, judged on hand-made outcomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.made import answer

from smallcluster.checks.retention import Pruning, closed_run_is_pruned

GOOD = Pruning(
    retention=30,
    gone={"past": True, "witness": True},
    rows={"workflow_runs": 0, "workflow_tasks": 0},
    kept={"within on server-a": answer(), "open on server-b": answer()},
)


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "holds"),
        ({"gone": {"past": False}, "rows": {}, "kept": {}}, "broken"),
        ({"rows": {"workflow_runs": 0, "workflow_tasks": 2}}, "broken"),
        ({"kept": {"within on server-a": answer(status=404)}}, "broken"),
        ({"gone": {"past": True, "witness": False}, "rows": {}, "kept": {}}, "unknown"),
        ({"problem": answer(status=404, path="/api/namespaces/default"), "gone": {}}, "unknown"),
    ],
)
def test_prunings(changed: dict[str, Any], verdict: str) -> None:
    assert closed_run_is_pruned.judge(replace(GOOD, **changed)).verdict.value == verdict


def test_what_was_lost_or_left_is_named() -> None:
    seen = replace(GOOD, rows={"workflow_tasks": 2}, kept={"open on server-b": answer("server-b", 404)})
    evidence = closed_run_is_pruned.judge(seen).evidence
    assert "2 rows of it left in workflow_tasks" in evidence
    assert any(line.startswith("open on server-b: GET") for line in evidence)
