"""The admission budget over nodes and the namespaces apart, judged from hand-made facts."""

from __future__ import annotations

from typing import Any

import pytest
from support.made import answer

from smallcluster.api import Exchange
from smallcluster.checks.admission import Budgeted, admission_budget_holds_over_nodes
from smallcluster.checks.namespaces import Apart, namespaces_are_kept_apart

POLL = "/api/worker/workflow-tasks/poll"
NO_ROUTE = answer(status=404, reason="not_found")


def poll(route: str, *, task: bool) -> Exchange:
    given = {"task_id": "t", "history_events": []} if task else None
    return answer(route=route, path=POLL, task=given)


def polls(*given: bool) -> list[Exchange]:
    """Two polls at each of two nodes."""
    nodes = ("server-a", "server-a", "server-b", "server-b")
    return [poll(node, task=one) for node, one in zip(nodes, given, strict=True)]


AFTER = poll("server-a", task=True)


@pytest.mark.parametrize(
    ("seen", "verdict", "cause"),
    [
        (Budgeted(polls(True, True, False, False), AFTER), "holds", ""),
        (Budgeted(polls(True, False, True, False), AFTER), "holds", ""),
        (Budgeted(polls(True, True, True, True), AFTER, seconds=0.2, lease=5.0), "broken", "for itself"),
        (Budgeted(polls(True, True, True, True), AFTER, seconds=4.5, lease=5.0), "unknown", "may have ended"),
        (Budgeted(polls(True, True, False, False), poll("server-a", task=False)), "broken", "still counts"),
        (Budgeted(polls(True, False, False, False), AFTER), "unknown", "others hold leases"),
        (Budgeted([*polls(True, True, False, False), answer(path=POLL, status=None)], AFTER), "unknown", ""),
        (Budgeted(problem=NO_ROUTE), "unknown", "has no GET"),
    ],
)
def test_a_budget(seen: Budgeted, verdict: str, cause: str) -> None:
    judged = admission_budget_holds_over_nodes.judge(seen)
    assert (judged.verdict.value, cause in judged.cause) == (verdict, True), judged.cause


def apart(**changed: Any) -> Apart:
    both: dict[str, Any] = {
        "known": answer(name="n"), "described": answer(status=404, reason="instance_not_found"),
        "polled": poll("server-b", task=False), "listed": answer(workflows=[], x=1), "own": answer(x=1),
    }  # fmt: skip
    fields = {name: {"server-a": one, "server-b": changed.get(name, one)} for name, one in both.items()}
    return Apart(workflow="w", **fields)


@pytest.mark.parametrize(
    ("changed", "verdict", "cause"),
    [
        ({}, "holds", ""),
        ({"described": answer(x=1)}, "broken", "reads past the namespace"),
        ({"polled": poll("server-b", task=True)}, "broken", "reads past the namespace"),
        ({"listed": answer(workflows=[{"workflow_id": "w"}])}, "broken", "reads past the namespace"),
        ({"known": answer("server-b", 404, reason="namespace_not_found")}, "broken", "server-b does not read"),
        ({"known": NO_ROUTE}, "unknown", "has no GET"),
        ({"described": answer(status=None)}, "unknown", "could be asked"),
        ({"own": answer(status=503, reason="backend_unavailable")}, "unknown", "could be asked"),
    ],
)
def test_namespaces(changed: dict[str, Any], verdict: str, cause: str) -> None:
    judged = namespaces_are_kept_apart.judge(apart(**changed))
    assert (judged.verdict.value, cause in judged.cause) == (verdict, True), judged.cause


def test_a_namespace_that_can_not_be_made_is_unknown() -> None:
    judged = namespaces_are_kept_apart.judge(Apart(problem=answer(status=403, reason="forbidden")))
    assert judged.verdict.value == "unknown"
