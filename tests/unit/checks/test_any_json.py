"""Whatever JSON a server puts in place of a part of its answers: no look and no judge raises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import replay
from support.made import answer
from support.recorded import Reply
from support.replay import TOKEN, Call, Replayed

from smallcluster import checks
from smallcluster.api import Api, Credentials, JsonBody, Plane
from smallcluster.checks import (
    activities,
    identity,
    progress,
    queries,
    races,
    wakes,
    worker,
)
from smallcluster.checks.base import Live, Need
from smallcluster.checks.health import info_answers, speech_of
from smallcluster.checks.judging import lacking, refused
from smallcluster.observed import Observed
from smallcluster.settings import Database

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=8), JSON, max_size=4)
NAMES = ("server-a", "server-b")
PROVED = [check for check in checks.ALL if Need.ENGINE not in check.needs or check.id == "closed-run-is-pruned"]
READ = (
    "activity_attempt_id", "activity_execution_id", "arguments", "attempt_number", "blob", "cache", "can_continue",
    "capabilities", "checks", "control_plane", "created_task_ids", "event_type", "history_events", "info",
    "is_terminal", "lease_owner", "long_poll_timeout", "next_fire", "outcome", "output_envelope", "payload",
    "payload_codecs", "reason", "recorded", "registered", "result", "retention_days", "run_id", "server_capabilities",
    "server_id", "status", "task", "task_id", "task_queue", "timeout_kind", "version", "worker_protocol",
    "workflow_id", "workflow_task_attempt", "workflows",
)  # fmt: skip
"""Fields that some check reads, sends back, or builds a path of."""


class Eager(Replayed):
    """A server on which a schedule is due at once, so that no look has to wait for it."""

    def create_schedule(self, call: Call) -> Reply:
        reply = super().create_schedule(call)
        for schedule in self.schedules.values():
            schedule.next = min(schedule.next, 0.0) if not schedule.fires else schedule.next
        return reply


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that give up at once; the server's rounds follow one another without a pause."""
    for module, name, value in (
        (races, "TASKS", 4), (races, "DEADLINE_SECONDS", 0.05), (identity, "PAUSE_SECONDS", 0.0),
        (identity, "MOST_REQUESTS", 14),
        (worker, "CROWDED_SECONDS", 0.0), (wakes, "TRIES", 2), (wakes, "LEAD_SECONDS", 0.0),
        (worker, "HOLD_SECONDS", 0), (activities, "TIMEOUT_SECONDS", 0), (progress, "TIMER_SECONDS", 0),
        (queries, "HOLD_SECONDS", 0), (replay, "ROUND_SECONDS", 0.001),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


class Direct(Api):
    """An Api that asks a replayed server without a socket, and gets answers with one field replaced."""

    def _answer(self, method: str, path: str, body: JsonBody | None, plane: Plane, patience: float) -> tuple[Any, str]:
        server, name, value = cast("Any", self.session)
        headers = self.headers(plane)
        route = path.partition("?")[0]
        call = Call(self.route, method, route, headers, body or {}, path.partition("?")[2])
        reply = server.answer(call)
        told = _replaced(reply.body, name, value)
        return SimpleNamespace(status_code=reply.status, text=str(told), json=lambda: told, headers={}), ""


def _replaced(body: Any, name: str, value: Any) -> Any:
    """The body with every field of this name, at any depth, replaced."""
    if isinstance(body, dict):
        return {key: value if key == name else _replaced(one, name, value) for key, one in body.items()}
    return [_replaced(one, name, value) for one in body] if isinstance(body, list) else body


class Odd(Live):
    """A Live whose every route is Direct."""

    odd: Any = None

    def api(self, route: str, session: Any = None) -> Api:
        return Direct(
            route=route, base="", credentials=self.credentials, record=self.record, speech=self.speech, session=self.odd
        )


@pytest.mark.parametrize("name", READ)
@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(value="text")
@example(value=[{"text": 1}])
@example(value={"text": 1})
@given(value=JSON)
def test_no_check_crashes_on_a_field_that_is_any_json(name: str, value: Any) -> None:
    values = {"DW_DEFAULT_NAMESPACE": "default", "APP_VERSION": "2.0.0"}
    given = SimpleNamespace(node_names=NAMES, value=lambda name: values.get(name, ""), db=Database.MYSQL, lines={})
    cluster = cast("Observed", SimpleNamespace(settings=given, query=lambda sql: ["0"]))
    live = Odd(cluster, {}, Credentials(TOKEN, TOKEN, TOKEN), record=lambda exchange: None, patience=0.02)
    live.odd = (Eager(hold=0.01), name, value)
    live.speech = speech_of(live.facts(info_answers))
    with ThreadPoolExecutor(max_workers=len(PROVED)) as pool:
        findings = list(pool.map(lambda check: check.run(live), PROVED))
    assert [finding for finding in findings if "could not look" in finding.judgement.cause] == []


@given(body=OBJECTS, told=JSON, status=st.sampled_from([200, 201, 204, 301, 404, 405, 409, 500]))
def test_no_reader_of_a_body_raises(body: dict[str, Any], told: Any, status: int) -> None:
    body |= {"task": told, "worker_protocol": told, "reason": told, "history_events": told}
    made = answer(status=status, path="/api/worker/workflow-tasks/poll")
    made.body.update(body)
    speech = speech_of({"balancer": made})
    assert speech.worker_protocol.isascii()
    assert 0 <= speech.longest_hold < 86_400
    assert isinstance(lacking(made), str)
    assert refused(made, ("stale_attempt",)) in (True, False)
    assert isinstance(worker.task_in(made), dict)
    assert isinstance(activities.event_payload(body, "ActivityCompleted"), dict)
    assert made.shown
