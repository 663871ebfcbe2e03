"""Activities that cross nodes and one that lapses, judged step by step on hand-made exchanges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.made import answer

from smallcluster.checks import activities
from smallcluster.checks.activities import ActivityCrossing, Lapse

ENVELOPE = {"codec": "avro", "blob": "AAA="}
LEASED = {"task_id": "t", "activity_attempt_id": "a", "attempt_number": 1, "arguments": ENVELOPE}


def shows(kind: str, **payload: Any) -> Any:
    """A poll's answer with a workflow task whose history ends with this event."""
    events = [{"event_type": "WorkflowStarted", "payload": {}}, {"event_type": kind, "payload": payload}]
    return answer("server-b", task={"task_id": "w", "history_events": events})


GOOD = ActivityCrossing(
    first="server-a",
    second="server-b",
    scheduled=answer("server-a", path="/api/worker/workflow-tasks/w/complete", created_task_ids=["t"]),
    leased=answer("server-a", task=LEASED),
    beaten=answer("server-b", can_continue=True),
    foreign=answer("server-b", 409, reason="lease_owner_mismatch"),
    stale=answer("server-b", 404, reason="attempt_not_found"),
    completed=answer(recorded=True),
    repeated=answer("server-a", 409, reason="stale_attempt", recorded=False),
    resumed=shows("ActivityCompleted", result="AAA="),
    described=replace(answer(), body={"status": "completed"}),
)


def crosses(crossing: ActivityCrossing) -> str:
    back = replace(GOOD, first="server-b", second="server-a")
    return activities.activity_crosses_nodes.judge((back, crossing)).verdict.value


def test_a_whole_crossing_holds() -> None:
    assert crosses(GOOD) == "holds"
    assert activities.activity_completions_are_fenced.judge((GOOD,)).verdict.value == "holds"


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"scheduled": answer(path="/x/complete", created_task_ids=[]), "leased": None}, "no activity was scheduled"),
        ({"leased": answer(task=None), "beaten": None}, "no activity task"),
        ({"leased": answer(task=LEASED | {"attempt_number": 2})}, "attempt 2 instead of 1"),
        ({"beaten": answer(can_continue=False)}, "told to stop"),
        ({"beaten": answer(status=404)}, "told to stop"),
        ({"completed": answer(status=409, recorded=False)}, "not recorded"),
        ({"completed": answer(status=None)}, "not recorded"),
        ({"resumed": answer(task=None), "described": None}, "does not show the result"),
        ({"resumed": shows("ActivityCompleted", result="BBB=")}, "does not show the result"),
        ({"resumed": shows("ActivityFailed")}, "does not show the result"),
        ({"described": replace(answer(), body={"status": "waiting"})}, "status 'waiting'"),
        ({"described": None}, "not reached"),
    ],
)
def test_the_first_step_that_went_wrong_is_told(changed: dict[str, Any], word: str) -> None:
    judged = activities.activity_crosses_nodes.judge((GOOD, replace(GOOD, **changed)))
    assert judged.verdict.value == "broken"
    assert word in judged.evidence[-1]


def test_the_newest_servers_envelope_is_a_result_too() -> None:
    assert crosses(replace(GOOD, resumed=shows("ActivityCompleted", result=ENVELOPE))) == "holds"


def test_what_failed_before_the_activity_is_another_checks_finding() -> None:
    refused = answer(status=401, path="/api/worker/register", reason="unauthorized")
    assert crosses(ActivityCrossing(first="a", second="b", scheduled=refused)) == "unknown"


@pytest.mark.parametrize("kind", ["foreign", "stale", "repeated"])
@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (answer(status=200, recorded=True), "broken"),
        (answer(status=200, reason="stale_attempt"), "broken"),
        (answer(status=409, reason="invalid_commands"), "broken"),
        (answer(status=500, reason="stale_attempt"), "broken"),
        (answer(status=None), "unknown"),
        (None, "unknown"),
    ],
)
def test_a_completion_that_is_not_refused_as_it_must_be(kind: str, exchange: Any, verdict: str) -> None:
    judged = activities.activity_completions_are_fenced.judge((GOOD, replace(GOOD, **{kind: exchange})))
    assert judged.verdict.value == verdict


def test_a_repeated_completion_may_be_answered_with_what_was_recorded_before() -> None:
    told = replace(GOOD, repeated=answer(recorded=False, reason="already_completed"))
    assert activities.activity_completions_are_fenced.judge((told,)).verdict.value == "holds"


LAPSED = Lapse(
    leased=answer(task=LEASED),
    resumed=shows("ActivityTimedOut", timeout_kind="start_to_close"),
    late=answer(status=409, reason="stale_attempt", recorded=False),
    seconds=1.9,
)


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "holds"),
        ({"resumed": answer(task=None)}, "broken"),
        ({"resumed": shows("ActivityFailed")}, "broken"),
        ({"late": answer(recorded=True)}, "broken"),
        ({"late": answer(status=None)}, "broken"),
        ({"seconds": 0.3}, "broken"),
        ({"resumed": None, "late": None}, "unknown"),
    ],
)
def test_a_lapsed_activity(changed: dict[str, Any], verdict: str) -> None:
    assert activities.expired_activity_times_out.judge(replace(LAPSED, **changed)).verdict.value == verdict
