"""Crossings between nodes, judged step by step on hand-made exchanges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.made import answer

from smallcluster.checks import traffic
from smallcluster.checks.traffic import Crossing
from smallcluster.verdicts import Verdict

ENVELOPE = {"codec": "avro", "blob": "AAA="}
TASK = {"task_id": "t", "run_id": "r", "workflow_task_attempt": 1, "lease_owner": "w", "arguments": ENVELOPE}
GOOD = Crossing(
    first="server-a",
    second="server-b",
    registered=answer(status=201, registered=True),
    started=answer(status=201, outcome="started_new", run_id="r"),
    polled=answer("server-a", task=TASK),
    foreign=answer("server-b", 409, reason="lease_owner_mismatch"),
    stale=answer("server-b", 409, reason="workflow_task_attempt_mismatch"),
    completed=answer("server-b", recorded=True),
    repeated=answer("server-a", 409, reason="run_closed"),
    described=answer(),
)
assert GOOD.described is not None
GOOD.described.body.update(status="completed", is_terminal=True, output_envelope=ENVELOPE)

STEPS = (
    traffic.worker_registers,
    traffic.workflow_starts,
    traffic.task_leased_on_one_node,
    traffic.task_completed_on_other_node,
    traffic.run_verified_through_balancer,
)


def verdicts(*crossings: Crossing) -> list[str]:
    return [check.judge(crossings).verdict.value for check in STEPS]


def test_a_whole_crossing_holds_at_every_step() -> None:
    back = replace(GOOD, first="server-b", second="server-a")
    assert verdicts(GOOD, back) == ["holds"] * 5


def described(**body: Any) -> Crossing:
    return replace(GOOD, described=answer().__class__(**_fields(answer()) | {"body": body}))


def _fields(exchange: Any) -> dict[str, Any]:
    return {name: getattr(exchange, name) for name in exchange.__dataclass_fields__}


@pytest.mark.parametrize(
    ("crossing", "expected"),
    [
        (
            Crossing(first="a", second="b", registered=answer(status=401, reason="unauthorized")),
            ["broken", "unknown", "unknown", "unknown", "unknown"],
        ),
        (
            replace(GOOD, started=answer(status=409), polled=None, completed=None, described=None),
            ["holds", "broken", "unknown", "unknown", "unknown"],
        ),
        (
            replace(GOOD, polled=answer(task=None), completed=None, described=None),
            ["holds", "holds", "broken", "unknown", "unknown"],
        ),
        (
            replace(GOOD, completed=answer(status=409, reason="task_not_leased"), described=None),
            ["holds", "holds", "holds", "broken", "unknown"],
        ),
        (described(status="waiting", is_terminal=False), ["holds", "holds", "holds", "holds", "broken"]),
        (
            described(status="completed", is_terminal=True, output_envelope=None),
            ["holds", "holds", "holds", "holds", "broken"],
        ),
        (replace(GOOD, completed=answer(status=None)), ["holds", "holds", "holds", "broken", "holds"]),
        (replace(GOOD, polled=answer(task=TASK | {"run_id": "x"})), ["holds", "holds", "broken", "holds", "holds"]),
        (
            replace(GOOD, polled=answer(task=TASK | {"workflow_task_attempt": 2})),
            ["holds", "holds", "broken", "holds", "holds"],
        ),
    ],
)
def test_the_step_that_failed_is_broken_and_the_unreached_ones_unknown(crossing: Crossing, expected: list[str]) -> None:
    assert verdicts(GOOD, crossing) == expected


@pytest.mark.parametrize("kind", ["foreign", "stale", "repeated"])
@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (answer(status=200, recorded=True), "broken"),
        (answer(status=409, reason="invalid_commands"), "broken"),
        (answer(status=500), "broken"),
        (answer(status=None), "unknown"),
        (None, "unknown"),
    ],
)
def test_a_completion_that_is_not_refused_as_it_must_be(kind: str, exchange: Any, verdict: str) -> None:
    assert traffic.completions_are_fenced.judge((GOOD,)).verdict.value == "holds"
    assert traffic.completions_are_fenced.judge((GOOD, replace(GOOD, **{kind: exchange}))).verdict.value == verdict


def test_a_result_that_was_never_sent_proves_nothing() -> None:
    empty = replace(GOOD, polled=answer("server-a", task=TASK | {"arguments": None}), described=answer())
    assert empty.described is not None
    empty.described.body.update(status="completed", is_terminal=True, output_envelope=None)
    assert traffic.run_verified_through_balancer.judge((empty,)).verdict is Verdict.BROKEN


def test_a_poll_for_another_runs_task_says_so() -> None:
    odd = replace(GOOD, polled=answer(task=TASK | {"run_id": "x"}))
    judged = traffic.task_leased_on_one_node.judge((odd,))
    assert "a task of another run: x" in " ".join(judged.evidence)
    assert judged.verdict is Verdict.BROKEN
