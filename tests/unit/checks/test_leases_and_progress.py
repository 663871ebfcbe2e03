"""Leases, progress, queries, doors and clocks, judged from hand-made facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.made import answer

from smallcluster.api import Exchange
from smallcluster.checks.access import (
    Doors,
    credentials_are_the_same_everywhere,
    worker_token_opens_no_operator_route,
)
from smallcluster.checks.clocks import Offsets, clocks_agree, told_at
from smallcluster.checks.leases import (
    Handover,
    Kept,
    expired_lease_goes_to_another_worker,
    heartbeat_keeps_a_lease,
)
from smallcluster.checks.progress import (
    History,
    Resumed,
    failed_task_comes_again,
    history_is_in_order,
    timer_fires_once,
)
from smallcluster.checks.queries import Asked, queries_cross_nodes
from smallcluster.checks.repeats import Repeat, repeated_poll_gets_its_task_again
from smallcluster.verdicts import Judgement

POLL = "/api/worker/workflow-tasks/poll"
NO_ROUTE = answer(status=404, reason="not_found")


def told(judgement: Judgement) -> tuple[str, str]:
    return judgement.verdict.value, judgement.cause


def task(attempt: int = 1) -> Exchange:
    found = {"task_id": "t", "run_id": "r", "workflow_task_attempt": attempt, "history_events": []}
    return answer(path=POLL, task=found)


NOTHING = answer(path=POLL, task=None)
LATE = answer(status=409, reason="lease_owner_mismatch", recorded=False)
HANDED = Handover(
    first="server-a", second="server-b", lease=5.0, leased=task(), again=task(2), late=LATE,
    completed=answer(recorded=True), seconds=5.2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "verdict", "cause"),
    [
        ({}, "holds", ""),
        ({"again": NOTHING, "late": None, "completed": None}, "broken", "never given out again"),
        ({"seconds": 0.4}, "broken", "while another worker's lease lasts"),
        ({"again": task(1)}, "broken", "attempt 1"),
        ({"late": answer(recorded=True)}, "broken", "whose lease has gone"),
        ({"late": None}, "broken", "whose lease has gone"),
        ({"completed": answer(status=409, reason="x")}, "broken", "completion was refused"),
        ({"leased": NOTHING, "again": None}, "unknown", "earlier step"),
        ({"leased": NO_ROUTE, "again": None}, "unknown", "has no GET"),
    ],
)
def test_an_expired_lease(changed: dict[str, Any], verdict: str, cause: str) -> None:
    found, said = told(expired_lease_goes_to_another_worker.judge((HANDED, replace(HANDED, **changed))))
    assert (found, cause in said) == (verdict, True), said


KEPT: dict[str, Any] = {
    "first": "server-a", "second": "server-b", "lease": 5.0, "leased": task(), "beats": [answer(x=1)] * 7,
    "longest_gap": 1.2, "completed": answer(recorded=True),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "holds"),
        ({"stolen": task(2), "completed": None}, "broken"),
        ({"completed": answer(status=409, reason="lease_expired")}, "broken"),
        ({"beats": [answer(status=409, reason="lease_expired")], "completed": None}, "broken"),
        ({"completed": answer(status=409, reason="lease_expired"), "longest_gap": 4.5}, "unknown"),
        ({"beats": [NO_ROUTE], "completed": None}, "unknown"),
        ({"beats": [], "leased": NOTHING, "completed": None}, "unknown"),
    ],
)
def test_a_heartbeaten_lease(changed: dict[str, Any], verdict: str) -> None:
    assert heartbeat_keeps_a_lease.judge((Kept(**KEPT), Kept(**(KEPT | changed)))).verdict.value == verdict


REPEATED = Repeat(
    first="server-a", second="server-b", polled=task(), again=task(), completed=answer(recorded=True)
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "verdict", "said"),
    [
        ({}, "holds", ""),
        ({"again": NOTHING}, "broken", "no task"),
        ({"again": answer(path=POLL, task={"task_id": "u", "history_events": []})}, "broken", "another task"),
        ({"again": task(2)}, "broken", "attempt 2 after 1"),
        ({"again": answer(path=POLL, status=500)}, "broken", "not answered"),
        ({"again": answer(path=POLL, status=None)}, "broken", "not answered"),
        ({"completed": answer(status=409, reason="lease_expired")}, "broken", "409 lease_expired"),
        ({"polled": NOTHING, "again": None, "completed": None}, "unknown", "not reached"),
    ],
)
def test_a_repeated_poll(changed: dict[str, Any], verdict: str, said: str) -> None:
    judged = repeated_poll_gets_its_task_again.judge((REPEATED, replace(REPEATED, **changed)))
    assert (judged.verdict.value, said in judged.evidence[-1]) == (verdict, True), judged.evidence


def fired(times: int) -> Exchange:
    return answer(events=[{"event_type": "TimerFired"}] * times)


WOKEN = Resumed(node="server-a", taken=answer(x=1), reached=True, again=task(), seconds=1.1, history=fired(1))


@pytest.mark.parametrize(
    ("changed", "verdict", "cause"),
    [
        ({}, "holds", ""),
        ({"again": NOTHING, "history": None}, "broken", "nobody fires timers"),
        ({"seconds": 0.2}, "broken", "before its timer"),
        ({"history": fired(2)}, "broken", "fired 2 times"),
        ({"again": answer(path=POLL, status=None)}, "unknown", "earlier step"),
        ({"again": None, "taken": NO_ROUTE}, "unknown", "has no GET"),
    ],
)
def test_a_timer(changed: dict[str, Any], verdict: str, cause: str) -> None:
    found, said = told(timer_fires_once.judge((WOKEN, replace(WOKEN, **changed))))
    assert (found, cause in said) == (verdict, True), said


@pytest.mark.parametrize(
    ("again", "verdict", "cause"),
    [(task(2), "holds", ""), (task(1), "broken", "attempt 1"), (NOTHING, "broken", "its run hangs"),
     (None, "unknown", "earlier step")],
)  # fmt: skip
def test_a_failed_task(again: Exchange | None, verdict: str, cause: str) -> None:
    found, said = told(failed_task_comes_again.judge((replace(WOKEN, again=again),)))
    assert (found, cause in said) == (verdict, True), said


def history(node: str, numbers: list[int], paged: list[int] | None = None) -> History:
    pages = [answer(events=[{"sequence": number}]) for number in (numbers if paged is None else paged)]
    return History(node=node, whole=answer(events=[{"sequence": one} for one in numbers]), pages=tuple(pages))


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        (history("server-b", [1, 2, 3]), "holds"),
        (history("server-b", [1, 3, 2]), "broken"),
        (history("server-b", [1, 2, 3], [1, 3, 2]), "broken"),
        (history("server-b", [1, 2]), "broken"),
        (History(node="server-b", whole=answer(status=404, reason="run_not_found")), "unknown"),
        (History(node="server-b", whole=NO_ROUTE), "unknown"),
    ],
)
def test_a_history(other: History, verdict: str) -> None:
    assert history_is_in_order.judge((history("server-a", [1, 2, 3]), other)).verdict.value == verdict


def query(caller: str, node: str, status: int = 200, **body: Any) -> Asked:
    said = answer(status=status, path="/api/workflows/w/query/state", **({"result": "seen"} if status == 200 else body))
    return Asked(caller=caller, worker=node, answer=said, given=answer(path="/api/worker/query-tasks/poll", task=None))


@pytest.mark.parametrize(
    ("across", "verdict", "cause"),
    [
        (query("a", "b"), "holds", ""),
        (query("a", "b", 504, reason="query_worker_timeout"), "broken", "do not cross nodes"),
        (query("a", "b", 404, reason="not_found"), "unknown", "has no GET"),
        (query("a", "b", 409, reason="query_worker_unavailable"), "unknown", "nobody was asked"),
    ],
)
def test_a_query(across: Asked, verdict: str, cause: str) -> None:
    found, said = told(queries_cross_nodes.judge((query("a", "a"), across)))
    assert (found, cause in said) == (verdict, True), said


def test_queries_that_fail_on_one_node_too_are_not_blamed_on_the_crossing() -> None:
    lost = (query("a", "a", 503, reason="query_task_queue_unavailable"), query("a", "b", 503, reason="x"))
    assert "without it there are no queries" in queries_cross_nodes.judge(lost).cause


def door(**changed: Any) -> Doors:
    answers: dict[str, Any] = {
        "tokenless": answer(status=401, reason="unauthorized"), "admin": answer(status=403, reason="forbidden"),
        "nobody": answer(status=401, reason="unauthorized"), "worker": answer(x=1), "control": answer(x=1),
        "foreign": answer(status=403, reason="forbidden"),
    }  # fmt: skip
    return Doors(route="server-b", **(answers | changed))


@pytest.mark.parametrize(
    ("changed", "same", "roles"),
    [
        ({}, "holds", "holds"),
        ({"nobody": answer(x=1)}, "broken", "holds"),
        ({"tokenless": answer(x=1)}, "broken", "holds"),
        ({"admin": answer(status=422, reason="validation_failed")}, "holds", "broken"),
        ({"admin": None}, "holds", "holds"),
        ({"worker": answer(status=401, reason="unauthorized")}, "broken", "holds"),
        ({"foreign": answer(x=1)}, "holds", "broken"),
        ({"control": answer(status=None)}, "unknown", "holds"),
        ({"foreign": NO_ROUTE}, "holds", "unknown"),
    ],
)
def test_doors(changed: dict[str, Any], same: str, roles: str) -> None:
    seen = (door(), door(**changed))
    assert credentials_are_the_same_everywhere.judge(seen).verdict.value == same
    assert worker_token_opens_no_operator_route.judge(seen).verdict.value == roles


def test_roles_with_one_token_can_not_be_told_apart() -> None:
    assert worker_token_opens_no_operator_route.judge((door(foreign=None, admin=None),)).verdict.value == "unknown"


@pytest.mark.parametrize(
    ("offset", "verdict"),
    [
        ((0.4, 0.5), "holds"),
        ((-600.0, 0.5), "broken"),
        ((7.0, 3.0), "holds"),
        ((6.0, 0.5), "broken"),
        (None, "unknown"),
    ],
)
def test_clocks(offset: tuple[float, float] | None, verdict: str) -> None:
    assert clocks_agree.judge(Offsets({"server-a": (0.0, 0.5), "server-b": offset})).verdict.value == verdict


def test_a_date_is_read_or_it_is_none() -> None:
    assert told_at("Thu, 26 Nov 2026 12:00:00 GMT") == 1795694400.0
    assert [told_at(odd) for odd in ("", "yesterday", "Thu, 99 Nov 2026 12:00:00 GMT")] == [None] * 3
