"""What no client should send: the right envelope in bounded time, and nothing half-written."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest
import requests

from refserver.harness import Cluster

pytestmark = pytest.mark.refserver
START, POLL = "/api/workflows", "/api/worker/workflow-tasks/poll"
COMPLETE = "/api/worker/workflow-tasks/nobodys/complete"
CLAIM = {"lease_owner": "w", "workflow_task_attempt": 1}
QUERY, QUERIES = "/api/workflows/nobodys/query/state", "/api/worker/query-tasks"
QUERY_CLAIM = {"lease_owner": "w", "query_task_attempt": 1}
DEEP = "[" * 50_000 + "]" * 50_000
NESTED = json.loads("[" * 400 + "]" * 400)
LONG = {**CLAIM, "workflow_task_attempt": 2**40, "commands": [{}]}
FOREIGN = {"codec": "json", "blob": "[]"}

BODIES: list[tuple[str, str, Any, int, str]] = [
    ("deep-json", START, f'{{"workflow_type": "t", "input": {DEEP}}}', 400, "malformed_json"),
    ("deep-but-parsed", START, {"workflow_type": "t", "input": NESTED}, 400, "malformed_json"),
    ("deep-memo", START, {"workflow_type": "t", "memo": {"m": NESTED}}, 400, "malformed_json"),
    ("nul-in-blob", START, {"workflow_type": "t", "input": {"codec": "avro", "blob": "\0"}}, 422, "validation_failed"),
    ("lone-surrogate", START, '{"workflow_type": "\\ud800"}', 400, "malformed_json"),
    ("not-utf-8", START, b'{"workflow_type": "\xff"}', 400, "malformed_json"),
    ("nan", START, '{"workflow_type": NaN}', 400, "malformed_json"),
    ("nul-in-type", START, {"workflow_type": "t\0"}, 422, "validation_failed"),
    ("nul-in-key", START, {"workflow_type": "t", "business_key": "\0"}, 422, "validation_failed"),
    ("nul-in-queue", POLL, {"worker_id": "w", "task_queue": "\0"}, 422, "validation_failed"),
    ("list-body", START, [1, 2], 422, "validation_failed"),
    ("text-body", START, '"t"', 422, "validation_failed"),
    ("numbers-for-text", START, {"workflow_type": 1, "task_queue": {}, "business_key": []}, 422, "validation_failed"),
    ("long-type", START, {"workflow_type": "t" * 256}, 422, "validation_failed"),
    ("long-id", START, {"workflow_type": "t", "workflow_id": "i" * 129}, 422, "validation_failed"),
    ("id-with-newline", START, {"workflow_type": "t", "workflow_id": "a\n"}, 422, "validation_failed"),
    ("huge-timeout", START, {"workflow_type": "t", "run_timeout_seconds": 10**18}, 422, "validation_failed"),
    ("big-memo", START, {"workflow_type": "t", "memo": {"m": "x" * 262_145}}, 422, "validation_failed"),
    ("scalar-input", START, {"workflow_type": "t", "input": 7}, 422, "validation_failed"),
    ("foreign-codec", START, {"workflow_type": "t", "input": FOREIGN}, 422, "validation_failed"),
    ("too-large", START, {"workflow_type": "t", "input": ["x" * 2_100_000]}, 413, "payload_too_large"),
    ("huge-page", POLL, {"worker_id": "w", "task_queue": "q", "history_page_size": 10**9}, 422, "validation_failed"),
    ("true-for-number", POLL, {"worker_id": "w", "task_queue": "q", "timeout_seconds": True}, 422, "validation_failed"),
    ("attempt-over-32-bits", COMPLETE, LONG, 422, "validation_failed"),
    ("commands-as-text", COMPLETE, {**CLAIM, "commands": "complete_workflow"}, 422, "validation_failed"),
    ("query-scalar-input", QUERY, {"input": 7}, 422, "validation_failed"),
    ("query-foreign-codec", QUERY, {"input": FOREIGN}, 422, "validation_failed"),
    ("query-list-body", QUERY, [1], 404, "instance_not_found"),
    ("query-poll-nul", f"{QUERIES}/poll", {"worker_id": "w", "task_queue": "\0"}, 422, "validation_failed"),
    ("query-answer-of-nobody", f"{QUERIES}/x/complete", QUERY_CLAIM, 404, "query_task_not_found"),
    ("query-long-id", f"{QUERIES}/{'x' * 5000}/complete", QUERY_CLAIM, 404, "query_task_not_found"),
    ("query-attempt-huge", f"{QUERIES}/x/complete", {**QUERY_CLAIM, "query_task_attempt": 2**40}, 422,
     "validation_failed"),
    ("query-attempt-true", f"{QUERIES}/x/complete", {**QUERY_CLAIM, "query_task_attempt": True}, 422,
     "validation_failed"),
    ("query-envelope", f"{QUERIES}/x/complete", {**QUERY_CLAIM, "result_envelope": FOREIGN}, 422, "validation_failed"),
    ("query-deep-result", f"{QUERIES}/x/complete", {**QUERY_CLAIM, "result": NESTED}, 400, "malformed_json"),
    ("query-big-number", f"{QUERIES}/x/complete", {**QUERY_CLAIM, "result": 10**30}, 404, "query_task_not_found"),
    ("query-failure-text", f"{QUERIES}/x/fail", {**QUERY_CLAIM, "failure": "m"}, 422, "validation_failed"),
    ("query-failure-empty", f"{QUERIES}/x/fail", {**QUERY_CLAIM, "failure": {"message": 7}}, 422, "validation_failed"),
    ("query-odd-reason", f"{QUERIES}/x/fail", {**QUERY_CLAIM, "failure": {"message": "m", "reason": "A b"}}, 422,
     "validation_failed"),
    ("commands-of-nothing", COMPLETE, {**CLAIM, "commands": [None]}, 422, "validation_failed"),
]  # fmt: skip


def send(cluster: Cluster, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
    data = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
    given = {**cluster.a.session.headers, "Content-Type": "application/json", **headers}
    return requests.request(method, cluster.nodes["server-a"].url + path, data=data, headers=given, timeout=10)


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES]
)
def test_bodies(cluster: Cluster, path: str, body: Any, status: int, reason: str) -> None:
    started = time.monotonic()
    response = send(cluster, "POST", path, body)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/api/workflows/%00", 404, "not_found"),
        ("GET", "/api/workflows/%FF%FE", 404, "instance_not_found"),
        ("GET", f"/api/workflows/{'x' * 5000}", 404, "instance_not_found"),
        ("GET", "/api/workflows/a?namespace=%00", 404, "namespace_not_found"),
        ("GET", f"/api/workflows/a?namespace={'n' * 3000}", 404, "namespace_not_found"),
        ("GET", "/api/cluster/info?namespace=%00", 404, "namespace_not_found"),
        ("GET", "/api/workflows/a/runs/%F0%9F%92%A9", 404, "run_not_found"),
        ("POST", "/api/workflows/a/query/%00", 404, "not_found"),
        ("POST", "/api/workflows/a/query/%FF", 404, "instance_not_found"),
        ("GET", "/api/workers/%F0%9F%92%A9", 404, "worker_not_found"),
        ("DELETE", "/api/workers/%00", 404, "not_found"),
        ("GET", "/api/workers?status=odd", 422, "validation_failed"),
        ("GET", "/api/workers?task_queue=%00", 422, "validation_failed"),
        ("GET", "/api/task-queues/%00", 404, "not_found"),
        ("GET", "/api/workflows/", 404, "not_found"),
        ("PATCH", "/api/workflows", 405, "method_not_allowed"),
        ("GET", "/api//workflows", 404, "not_found"),
    ],
)
def test_paths(cluster: Cluster, method: str, path: str, status: int, reason: str) -> None:
    response = send(cluster, method, path)
    assert (response.status_code, response.json()["reason"]) == (status, reason)


def test_checks_come_in_the_protocols_order(cluster: Cluster) -> None:
    """Each request is wrong in every later respect too, and is told only of the first."""
    wrong = {"Authorization": "Bearer nope", "X-Durable-Workflow-Control-Plane-Version": "9", "X-Namespace": "nope"}
    assert send(cluster, "POST", START, "{", **wrong).json()["reason"] == "malformed_json"
    assert send(cluster, "POST", START, "{}", **wrong).json()["reason"] == "unauthorized"
    del wrong["Authorization"]
    assert send(cluster, "POST", START, "{}", **wrong).json()["reason"] == "unsupported_control_plane_version"
    del wrong["X-Durable-Workflow-Control-Plane-Version"]
    assert send(cluster, "POST", START, "{}", **wrong).json()["reason"] == "namespace_not_found"
    assert send(cluster, "POST", START, "{}").json()["reason"] == "validation_failed"


def test_a_request_id_is_given_back_unless_it_is_hostile(cluster: Cluster) -> None:
    assert send(cluster, "GET", "/api/health", **{"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert send(cluster, "GET", "/api/health", **{"X-Request-Id": '"},{'}).headers["x-request-id"] != '"},{'


def test_a_lie_about_the_length_is_cut_off_without_reading(cluster: Cluster) -> None:
    host, port = cluster.nodes["server-a"].url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"POST /api/workflows HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{")
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]
