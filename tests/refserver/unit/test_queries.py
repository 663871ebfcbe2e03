"""Who may end a query task, what its caller hears, and whom a lost signal should have woken."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from dw_refserver.broker import RESULT, TASK, Broker, State, refusal
from dw_refserver.engine import Refused
from dw_refserver.protocol import control_body
from dw_refserver.queries import told
from dw_refserver.settings import load
from dw_refserver.wake import Queue

HELD = State("default", "leased", "w", ends=2000, now=1999)
ABOUT = {"workflow_id": "w", "run_id": "r", "target_scope": "instance", "query_name": "q", "result": None}


def reason(task: State | None, **claim: Any) -> str | None:
    given = {"namespace": "default", "owner": "w", "attempt": 1, **claim}
    refused = refusal(task, **given)
    return refused and refused[0]


def test_the_holder_may_end_its_task_until_the_lease_ends() -> None:
    assert reason(HELD) is None
    assert reason(replace(HELD, now=2000)) == "lease_expired"


@pytest.mark.parametrize("status", ["pending", "completed", "failed", "timed_out"])
def test_a_task_that_is_not_leased_is_nobodys_to_end(status: str) -> None:
    assert reason(replace(HELD, status=status, owner=None)) == "query_task_not_leased"


def test_everybody_else_is_refused_in_the_protocols_order() -> None:
    assert reason(None) == "query_task_not_found"
    assert reason(HELD, namespace="other", owner="thief") == "query_task_not_found"
    assert reason(HELD, owner="thief", attempt=2) == "lease_owner_mismatch"
    assert reason(replace(HELD, now=9999), attempt=2) == "query_task_attempt_mismatch"


def test_a_callers_answer_is_the_workers_own() -> None:
    answer = told(ABOUT, "completed", {"result": {"n": 1}, "result_envelope": {"codec": "avro", "blob": "AA=="}})
    assert answer.status == 200
    assert answer.body == {
        **ABOUT, "result": {"n": 1}, "result_envelope": {"codec": "avro", "blob": "AA=="}, "reason": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "result", "code", "expected"),
    [
        ("failed", {"reason": "rejected_unknown_query", "message": "no"}, 404, "rejected_unknown_query"),
        ("failed", {"reason": "query_rejected", "message": "no"}, 409, "query_rejected"),
        ("failed", {"reason": "its_own", "message": "no"}, 409, "its_own"),
        ("timed_out", None, 504, "query_worker_timeout"),
    ],
)
def test_why_there_is_no_answer(status: str, result: Any, code: int, expected: str) -> None:
    with pytest.raises(Refused) as raised:
        told(ABOUT, status, result)
    assert (raised.value.status, raised.value.reason) == (code, expected)
    assert raised.value.fields == ABOUT


def test_the_envelope_of_an_operation_with_a_name_says_which_field_has_it() -> None:
    told_as = control_body({"result": 1}, "query", {"workflow_id": "w", "operation_name": "state"})["control_plane"]
    assert (told_as["operation"], told_as["operation_name"], told_as["operation_name_field"]) == (
        "query", "state", "query_name",
    )  # fmt: skip
    assert told_as["result"] == 1


class Answers:
    """Stands for a Redis pipeline: notes what is asked, gives what it was told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, str]]()

    def pipeline(self, **_: Any) -> Answers:
        return self

    def lrange(self, key: str, *_: int) -> None:
        self.asked.append(("lrange", key))

    def hget(self, key: str, _: str) -> None:
        self.asked.append(("hget", key))

    async def execute(self) -> list[Any]:
        return self.answers


def test_a_reprobe_wakes_by_type_and_lets_callers_wait_whose_task_is_open() -> None:
    broker, queue = Broker(load({})), Queue("default", "q", TASK)
    done, waits, lost = (Queue("default", name, RESULT) for name in ("done", "waits", "lost"))
    answers = Answers([b"01A a b", b"01B t", b"01C a b"], b"completed", b"leased", None)
    broker.redis = answers  # type: ignore[assignment]
    other = Queue("default", "q", "workflow")
    assert asyncio.run(broker.due([queue, other, done, waits, lost])) == [
        (queue, "a b", 2), (queue, "t", 1), (done, None, 1), (lost, None, 1),
    ]  # fmt: skip
    assert answers.asked[0] == ("lrange", "dw:query:queue:default:q")


def test_a_reprobe_asks_redis_nothing_while_nobody_waits_for_a_query() -> None:
    broker = Broker(load({"REDIS_HOST": "nowhere.invalid"}))
    assert asyncio.run(broker.due([Queue("default", "q"), Queue("default", "q", "activity")])) == []
