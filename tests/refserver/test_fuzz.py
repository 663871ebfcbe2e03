"""Anything at every route: never a 500, always the plane's envelope, and what is refused has written nothing.

The routes are the server's own table, so a new one is fuzzed from its first day. Bodies hold the protocol's field names
with fitting, unfitting and random values; paths and fields often name what is really there, so that requests get far.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
import requests
from dw_refserver.http import Endpoint
from dw_refserver.routes import ENDPOINTS
from dw_refserver.settings import load
from dw_refserver.store.database import Database
from dw_refserver.store.tables import metadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, literal, select, union_all

from refserver.harness import OK, Client, Cluster

pytestmark = [pytest.mark.refserver, pytest.mark.timeout(300)]

LONGEST = 8.0
"""Seconds that any answer may take; every hold of the fuzzed node is a second or less."""
OWN_WORDS = {504: {"query_worker_timeout"}}
"""Answers from 500 on that are the protocol's and no fault, by status."""

ODD_TEXT = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", "\0", "\u202e", "\ufeff", "a\nb", "' or 1=1 --", "%s%n", "../..", "𝕏" * 40, "x" * 5000]),
)
ODD_NUMBER = st.one_of(st.integers(), st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**30]), st.floats(allow_nan=False))
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), ODD_NUMBER, ODD_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ODD_TEXT, inner, max_size=3)),
    max_leaves=8,
)
COMMANDS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from([
            "complete_workflow", "fail_workflow", "schedule_activity", "start_timer", "open_condition_wait",
            "record_side_effect", "record_version_marker", "continue_as_new", "upsert_memo", "",
        ])},
        optional={
            "result": st.one_of(st.just(OK), ANY), "activity_type": ODD_TEXT, "delay_seconds": ODD_NUMBER,
            "retry_policy": ANY, "parallel_group_path": ANY, "message": ODD_TEXT, "condition_key": ODD_TEXT,
            "timeout_seconds": ODD_NUMBER, "change_id": ODD_TEXT, "version": ODD_NUMBER, "arguments": ANY,
            "min_supported": ODD_NUMBER, "max_supported": ODD_NUMBER, "start_to_close_timeout": ODD_NUMBER,
        },
    ),
    max_size=3,
)  # fmt: skip
FITTING: Mapping[str, st.SearchStrategy[Any]] = {
    "commands": COMMANDS, "input": st.just(["x"]), "result": st.just(OK), "arguments": st.just(["x"]),
    "workflow_task_attempt": st.just(1), "attempt": st.just(1), "query_task_attempt": st.just(1),
    "timeout_seconds": st.just(0), "history_page_size": st.integers(0, 3), "page_size": st.integers(0, 300),
    "failure": st.fixed_dictionaries({"message": ODD_TEXT}, optional={"type": ODD_TEXT, "details": ANY}),
    "runtime": st.just("python"), "supported_workflow_types": st.lists(ODD_TEXT, max_size=2),
    "supported_activity_types": ANY, "capabilities": ANY, "duplicate_policy": st.sampled_from(["fail", "use-existing"]),
    "memo": ANY, "retention_days": st.integers(-1, 400), "description": ODD_TEXT, "reason": ODD_TEXT,
    "request_id": ODD_TEXT, "poll_request_id": st.one_of(st.none(), ODD_TEXT), "build_id": ODD_TEXT,
    "run_timeout_seconds": ODD_NUMBER, "execution_timeout_seconds": ODD_NUMBER, "business_key": ODD_TEXT,
    "spec": st.one_of(ANY, st.fixed_dictionaries({}, optional={
        "cron_expressions": st.lists(ODD_TEXT, max_size=2), "timezone": ODD_TEXT,
        "intervals": st.lists(st.fixed_dictionaries({"every": ODD_TEXT}, optional={"offset": ODD_TEXT}), max_size=2),
    })),
    "action": st.one_of(ANY, st.fixed_dictionaries({"workflow_type": ODD_TEXT}, optional={"input": ANY})),
    "overlap_policy": ODD_TEXT, "max_runs": ODD_NUMBER, "paused": ANY, "note": ODD_TEXT, "process_metrics": ANY,
    "current": ODD_NUMBER, "total": ODD_NUMBER, "details": ANY, "task_slots": ANY, "result_envelope": ANY,
    "workflow_definition_fingerprints": ANY, "wait_new_event": st.sampled_from(["0", "1", "x"]),
    "next_history_page_token": ODD_TEXT, "next_page_token": ODD_TEXT, "status": ODD_TEXT, "query": ODD_TEXT,
}  # fmt: skip
"""What fits, or nearly, by field. Whatever names something is drawn from what is there, too: see World."""


@dataclass
class World:
    """A node to fuzz, what it knows, and a way to count what is stored."""

    node: Client
    known: Mapping[str, str]
    """Ids of things that are there, by the name that paths and fields have for them."""
    db: Database
    runner: asyncio.Runner

    def stored(self) -> dict[str, int]:
        """How many rows each table has."""
        counts = (select(literal(name), func.count()).select_from(table) for name, table in metadata.tables.items())
        return {str(name): int(rows) for name, rows in self.runner.run(self.db.all(union_all(*counts)))}


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[World]:
    """A node with short holds; a workflow with a leased task, one with a leased activity, a schedule, a namespace."""
    name, short = f"fuzz-{uuid.uuid4().hex[:8]}", {"DW_WORKER_POLL_TIMEOUT": "0", "DW_QUERY_TASK_TIMEOUT": "1"}
    with asyncio.Runner() as runner, cluster.extra("fuzzed", **short) as node:
        db = Database(load(cluster.env).database, "fuzz", connections=1)
        try:
            yield World(node, _furnished(node, name), db, runner)
        finally:
            runner.run(db.dispose())


def _furnished(node: Client, name: str) -> dict[str, str]:
    node.post("/namespaces", name=name)
    node.register("w", name, supported_activity_types=["a"])
    run = node.start(name, workflow_id=name).body
    node.create_schedule(name)
    task = node.poll("w", name).body["task"]
    return {
        "workflow_id": name, "run_id": run["run_id"], "namespace": name, "schedule_id": name, "task_queue": name,
        "worker_id": "w", "lease_owner": "w", "task_id": task["task_id"], "workflow_type": "t", "signal_name": "s",
        "operation_name": "state", "query_task_id": "q", "activity_attempt_id": task["task_id"], "name": name,
    }  # fmt: skip


FIELDS = tuple(sorted({*FITTING, "workflow_id", "workflow_type", "task_queue", "worker_id", "lease_owner", "name",
                       "schedule_id", "activity_attempt_id", "namespace"}))  # fmt: skip


def value_of(name: str, known: Mapping[str, str]) -> st.SearchStrategy[Any]:
    """A value for a field: what is there, what fits, or anything."""
    there = [st.just(known[name])] * 3 if name in known else []
    return st.one_of(*there, *([FITTING[name]] * 2 if name in FITTING else []), ANY)


@st.composite
def requests_to(draw: st.DrawFn, endpoint: Endpoint, known: Mapping[str, str]) -> dict[str, Any]:
    """Method, path with its query string, headers and body of a request to the endpoint."""

    def part(match: re.Match[str]) -> str:
        text = draw(st.one_of(st.just(known[match[1]]), st.just(known[match[1]]), ODD_TEXT.filter(bool)))
        return quote(text, safe="")

    path = re.sub(r"\{(\w+)\}", part, endpoint.path)
    names = draw(st.lists(st.sampled_from(FIELDS), max_size=8, unique=True))
    fields = {name: draw(value_of(name, known)) for name in names}
    headers = {} if draw(st.booleans()) else draw(HEADERS)
    if endpoint.method == "GET":
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        query = "&".join(f"{quote(name)}={quote(text, safe='')}" for name, text in texts.items())
        return {"method": "GET", "url": f"{path}?{query}"[:7000], "headers": headers}
    body = json.dumps(draw(st.one_of(st.just(fields), st.just(fields), st.just(fields), ANY)))
    return {"method": endpoint.method, "url": path[:7000], "headers": headers, "data": body}


HEADERS = st.fixed_dictionaries({}, optional={
    "X-Namespace": st.sampled_from(["", "nobody's", "DEFAULT", "a" * 200, "é".encode().decode("latin-1")]),
    "X-Request-Id": st.sampled_from(["x" * 300, "a b", "ok"]),
    "X-Durable-Workflow-Protocol-Version": st.sampled_from(["", "0.1", "99", "1.20.1", "x"]),
    "X-Durable-Workflow-Control-Plane-Version": st.sampled_from(["", "1", "x", "99999999999"]),
    "Content-Type": st.sampled_from(["text/plain", "application/json; charset=utf-16", "application/x+json", "x"]),
    "Authorization": st.sampled_from(["", "Bearer", "Bearer nope", "Basic Og=="]),
})  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
def test_anything_at_every_route(world: World, endpoint: Endpoint) -> None:
    @settings(max_examples=10, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(requests_to(endpoint, world.known))
    def fuzz(asked: dict[str, Any]) -> None:
        if _wrote_though_refused(world, endpoint, asked):  # a timer or a scheduler may write at any moment: once more
            assert not _wrote_though_refused(world, endpoint, asked), asked

    fuzz()


def _wrote_though_refused(world: World, endpoint: Endpoint, asked: Mapping[str, Any]) -> bool:
    before, began = world.stored(), time.monotonic()
    headers = {**world.node.session.headers, "Content-Type": "application/json", **asked["headers"]}
    response = requests.request(asked["method"], world.node.url + asked["url"], data=asked.get("data"),
                                headers=headers, timeout=LONGEST)  # fmt: skip
    assert time.monotonic() - began < LONGEST
    assert_envelope(endpoint, response)
    return response.status_code >= 400 and world.stored() != before


def assert_envelope(endpoint: Endpoint, response: requests.Response) -> None:
    """The answer is in its plane's words, and no fault of the server's."""
    status, body = response.status_code, response.json()
    seen = f"{status} {str(body)[:500]}"
    assert status < 500 or body["reason"] in OWN_WORDS.get(status, ()), seen
    assert response.headers["content-type"] == "application/json", seen
    assert isinstance(body, dict), seen
    assert response.headers["x-request-id"], seen
    if status >= 400:
        assert isinstance(body["reason"], str), seen
        assert {"message", "error", "outcome"} & body.keys(), seen
    if endpoint.path.startswith("/api/worker/"):
        assert response.headers["x-durable-workflow-protocol-version"] == body["protocol_version"], seen
    elif endpoint.versioned:
        assert response.headers["x-durable-workflow-control-plane-version"] == "2", seen
