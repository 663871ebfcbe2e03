"""The client against a real local HTTP server: what it sends, what it records, and that it never repeats itself."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from smallcluster import api
from smallcluster.api import Api, Credentials, Exchange, Speech

SPEECH = Speech(worker_protocol="1.20")
SEEN: list[dict[str, Any]] = []


class Node(BaseHTTPRequestHandler):
    """Answers as its path says, and remembers what it was sent."""

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        SEEN.append({"path": self.path, "headers": dict(self.headers), "body": self.rfile.read(length)})
        if self.path == "/api/cut":
            self.close_connection = True
            return
        status = int(self.path.rpartition("/")[2]) if self.path.startswith("/api/status/") else 200
        content = b"<html>no json</html>" if self.path == "/api/html" else b'{"reason": "because"}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer  # noqa: N815 - names that http.server looks up

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def no_network() -> None:
    """This module speaks to its own server on loopback."""


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Node) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def recorded() -> list[Exchange]:
    SEEN.clear()
    return []


def client(base: str | None, recorded: list[Exchange]) -> Api:
    credentials = Credentials(control="control-token", worker="worker-token", admin="admin-token")
    return Api(route="server-a", base=base, credentials=credentials, record=recorded.append, speech=SPEECH)


def test_each_plane_has_its_own_headers(base: str, recorded: list[Exchange]) -> None:
    node = client(base, recorded)
    node.get("/api/health", "open")
    node.describe("w", "r")
    node.register_worker("worker", "queue", "type", "activity")
    plain, control, worker = (seen["headers"] for seen in SEEN)
    assert "Authorization" not in plain
    assert control["Authorization"] == "Bearer control-token"
    assert control[api.CONTROL_HEADER] == "2"
    assert api.WORKER_HEADER not in control
    assert worker["Authorization"] == "Bearer worker-token"
    assert worker[api.WORKER_HEADER] == "1.20"
    assert SEEN[1]["path"] == "/api/workflows/w/runs/r"


def test_a_completion_names_the_lease_it_holds(base: str, recorded: list[Exchange]) -> None:
    task = {"task_id": "t1", "lease_owner": "w1", "workflow_task_attempt": 3}
    client(base, recorded).complete_workflow_task(task, [{"type": "complete_workflow"}])
    assert SEEN[0]["path"] == "/api/worker/workflow-tasks/t1/complete"
    assert json.loads(SEEN[0]["body"])["workflow_task_attempt"] == 3


@pytest.mark.parametrize("status", [200, 201, 404, 409, 500, 503])
def test_every_answer_is_recorded_as_it_came(base: str, recorded: list[Exchange], status: int) -> None:
    exchange = client(base, recorded).get(f"/api/status/{status}")
    assert recorded == [exchange]
    assert (exchange.status, exchange.ok) == (status, status < 300)
    assert exchange.body == {"reason": "because"}
    assert ("because" in exchange.shown) == (status >= 300)


def test_a_server_error_is_not_asked_again(base: str, recorded: list[Exchange]) -> None:
    client(base, recorded).post("/api/status/503", {}, "worker")
    assert len(SEEN) == 1


def test_an_answer_that_is_no_json_is_shown_as_text(base: str, recorded: list[Exchange]) -> None:
    exchange = client(base, recorded).get("/api/html")
    assert exchange.body == {}
    assert "<html>" in exchange.shown


def test_a_cut_connection_is_not_known_and_not_repeated(base: str, recorded: list[Exchange]) -> None:
    exchange = client(base, recorded).post("/api/cut", {}, "worker")
    assert exchange.status is None
    assert "no answer" in exchange.shown
    assert len(SEEN) == 1


def test_a_node_that_hangs_is_left_after_the_patience(recorded: list[Exchange]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        node = client(f"http://127.0.0.1:{silent.getsockname()[1]}", recorded)
        exchange = node.post("/api/worker/heartbeat", {}, "worker", patience=0.2)
    assert exchange.status is None
    assert "timed out" in exchange.problem.lower()


def test_a_route_without_an_address_answers_nothing(recorded: list[Exchange]) -> None:
    exchange = client(None, recorded).get("/api/health", "open")
    assert exchange.problem == "server-a publishes no address"


def test_the_transcript_holds_no_header(base: str, recorded: list[Exchange]) -> None:
    exchange = client(base, recorded).get("/api/workflows")
    assert "control-token" not in json.dumps(api.transcript_of(exchange))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"DW_AUTH_TOKEN": "a"}, ("a", "a", "a")),
        ({"DW_AUTH_TOKEN": "a", "DW_WORKER_TOKEN": "w"}, ("a", "w", "a")),
        ({"DW_AUTH_TOKEN": "a", "DW_OPERATOR_TOKEN": "o", "DW_WORKER_TOKEN": "w"}, ("o", "w", "o")),
        ({"DW_ADMIN_TOKEN": "m", "DW_OPERATOR_TOKEN": "o", "DW_WORKER_TOKEN": "w"}, ("o", "w", "m")),
        ({"DW_ADMIN_TOKEN": "m", "DW_WORKER_TOKEN": "w"}, ("m", "w", "m")),
    ],
)
def test_role_tokens_are_used_where_there_are_any(given: dict[str, str], expected: tuple[str, str, str]) -> None:
    found = api.credentials_from(lambda name: given.get(name, ""))
    assert (found.control, found.worker, found.admin) == expected
