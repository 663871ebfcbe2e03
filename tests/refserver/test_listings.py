"""Reading in pages: what a namespace runs, what a workflow ran, what happened in a run."""

from __future__ import annotations

import base64
import json
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from itertools import chain
from typing import Any

import pytest

from refserver.harness import TOKEN, Client, Cluster, Reply

pytestmark = pytest.mark.refserver


LETTERS = str.maketrans("0123456789abcdef", "ghijklmnopqrstuv")


@pytest.fixture
def space(cluster: Cluster) -> str:
    """A namespace of the test's own. In letters that no test asks for: its name is a part of the ids."""
    name = f"ns-{uuid.uuid4().hex[:8].translate(LETTERS)}"
    assert cluster.a.post("/namespaces", name=name).status == 201
    return name


def token(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def pages(client: Client, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    """Each page in turn, by the token of the one before."""
    after = None
    while True:
        reply = client.get(path, next_page_token=after, **parameters)
        assert reply.status == 200, reply.body
        yield reply.body
        after = reply.body["next_page_token"]
        if after is None:
            return


def ids(body: dict[str, Any]) -> list[str]:
    return [item["workflow_id"] for item in body["workflows"]]


def test_a_walk_through_the_list_while_workflows_start_and_end(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    a.register("w", space)
    there = [f"{space}-{number}" for number in range(7)]
    for name in there:
        a.start(space, workflow_id=name)
    seen: list[list[str]] = []
    for number, page in enumerate(pages(b, "/workflows", page_size=2)):
        seen.append(ids(page))
        assert page["workflow_count"] == len(seen[-1])
        assert page["control_plane"]["next_page_token"] == page["next_page_token"]
        a.start(space, workflow_id=f"{space}-late-{number}")
        assert a.complete(b.poll("w", space).body["task"]).status == 200  # the oldest is touched, and stays where it is
    newest_first = there[::-1]
    assert seen == [newest_first[0:2], newest_first[2:4], newest_first[4:6], newest_first[6:]]
    assert len(ids(b.get("/workflows").body)) == 11


def test_a_last_page_that_is_full_has_no_next(cluster: Cluster, space: str) -> None:
    a = cluster.a.inside(space)
    for _ in range(2):
        a.start(space)
    whole = a.get("/workflows", page_size=2).body
    assert (whole["workflow_count"], whole["next_page_token"]) == (2, None)


def test_status_and_type(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    a.register("w", space)
    for name, commands in (
        ("done", [{"type": "complete_workflow"}]),
        ("bad", [{"type": "fail_workflow", "message": "m"}]),
    ):
        a.start(space, workflow_id=f"{space}-{name}")
        assert a.complete(a.poll("w", space).body["task"], commands=commands).status == 200
    a.start(space, workflow_id=f"{space}-open", workflow_type="T")
    found = {
        status: b.get("/workflows", status=status).body["workflows"] for status in ("running", "completed", "failed")
    }
    told = {status: [(item["workflow_id"], item["status"], item["is_terminal"]) for item in items]
            for status, items in found.items()}  # fmt: skip
    assert told == {
        "running": [(f"{space}-open", "pending", False)],
        "completed": [(f"{space}-done", "completed", True)],
        "failed": [(f"{space}-bad", "failed", True)],
    }
    assert found["completed"][0]["closed_at"] >= found["completed"][0]["started_at"]
    assert ids(b.get("/workflows", workflow_type="T").body) == [f"{space}-open"]
    assert ids(b.get("/workflows", workflow_type="t", status="failed").body) == [f"{space}-bad"]
    assert ids(b.get("/workflows", workflow_type="t", status="running").body) == []


def test_the_statuses_that_clients_discover_are_those_that_pass(cluster: Cluster) -> None:
    operations = cluster.a.get("/cluster/info").body["control_plane"]["request_contract"]["operations"]
    discovered = operations["list"]["fields"]["status"]["canonical_values"]
    assert discovered == ["running", "completed", "failed"]
    assert {cluster.b.get("/workflows", status=status).status for status in discovered} == {200}


KEYS = ("50% off", "50 of f", "a_b", "acb", "a\\b", "ab/%", "Straße \U0001f4a9", "'; drop", "100")
PARTS = {
    "%": ["50% off", "ab/%"], "0%": ["50% off"], "_": ["a_b"], "a_b": ["a_b"], "\\": ["a\\b"], "/%": ["ab/%"],
    "STRASSE": [], "straße": [], "Straße": ["Straße \U0001f4a9"], "\U0001f4a9": ["Straße \U0001f4a9"], "'": ["'; drop"],
    "ab": ["ab/%"], "nobody's": [], " ": ["50% off", "50 of f", "Straße \U0001f4a9", "'; drop"], "100": ["100"],
}  # fmt: skip


def test_a_query_is_a_part_of_id_or_key_taken_literally(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    for number, key in enumerate(KEYS):
        assert a.start(space, workflow_id=f"{space}.Id:{number}", business_key=key).status == 201
    a.start(space, workflow_id=f"{space}.keyless")
    found = {part: b.get("/workflows", query=part).body["workflows"] for part in PARTS}
    assert {part: [item["business_key"] for item in items][::-1] for part, items in found.items()} == PARTS
    assert ids(b.get("/workflows", query="Id:3").body) == [f"{space}.Id:3"]
    assert ids(b.get("/workflows", query="id:3").body) == []
    assert ids(b.get("/workflows", query="keyless").body) == [f"{space}.keyless"]
    walked = [ids(page) for page in pages(b, "/workflows", query="Id:", page_size=4)]
    assert [len(page) for page in walked] == [4, 4, 1]


def test_what_comes_twice_counts_once_and_what_is_empty_not_at_all(cluster: Cluster, space: str) -> None:
    a = cluster.a.inside(space)
    for number in range(3):
        a.start(space, workflow_id=f"{space}-{number}")
    assert ids(a.get("/workflows?query=nobody&query=-1").body) == [f"{space}-1"]
    assert len(ids(a.get("/workflows?query=&status=&page_size=&next_page_token=&workflow_type=&unheard=of").body)) == 3
    assert ids(a.get("/workflows", page_size=[3, 1]).body) == [f"{space}-2"]


def test_runs_of_a_workflow(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    started = a.start(space, workflow_id=space, business_key="k").body
    told = b.get(f"/workflows/{space}/runs").body
    assert (told["run_count"], told["control_plane"]["operation"]) == (1, "list_runs")
    run = {"run_id": started["run_id"], "run_number": 1, "status": "pending", "business_key": "k", "closed_at": None}
    assert told["runs"][0].items() >= run.items()
    unknown = b.get("/workflows/nobody/runs")
    assert (unknown.status, unknown.body["reason"], unknown.body["workflow_id"]) == (
        404,
        "instance_not_found",
        "nobody",
    )


def test_history_pages_join_to_the_whole(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    run_id = a.schedule("w", space).body["run_id"]
    a.end_activity("complete", b.poll_activity("w", space).body["task"])
    a.complete(a.poll("w", space).body["task"])
    path = f"/workflows/{space}/runs/{run_id}/history"
    whole = b.get(path).body
    assert [event["event_type"] for event in whole["events"]] == [
        "StartAccepted", "WorkflowStarted", "ActivityScheduled", "ActivityStarted", "ActivityCompleted",
        "WorkflowCompleted",
    ]  # fmt: skip
    assert [event["sequence"] for event in whole["events"]] == [1, 2, 3, 4, 5, 6]
    assert whole["events"][-1]["payload"]["output"] == {"codec": "avro", "blob": "wwHioz3/VYAiNwoEb2s="}
    assert (whole["run_id"], whole["workflow_id"], whole["next_page_token"]) == (run_id, space, None)
    for size, lengths in ((1, [1] * 6), (2, [2, 2, 2]), (4, [4, 2]), (1000, [6])):
        parts = [page["events"] for page in pages(a, path, page_size=size)]
        assert [len(part) for part in parts] == lengths
        assert list(chain(*parts)) == whole["events"]
    beyond = b.get(path, next_page_token=token("999999999")).body
    assert (beyond["events"], beyond["next_page_token"]) == ([], None)


def test_history_of_an_open_run_grows_behind_the_last_token(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    run_id = a.start(space, workflow_id=space).body["run_id"]
    path = f"/workflows/{space}/runs/{run_id}/history"
    assert b.get(path, next_page_token=token("2"), wait_new_event=0).body["events"] == []
    a.register("w", space)
    a.complete(a.poll("w", space).body["task"])
    grown = b.get(path, next_page_token=token("2")).body["events"]
    assert [event["event_type"] for event in grown] == ["WorkflowCompleted"]


def test_a_history_is_held_until_there_is_another_event(cluster: Cluster, space: str) -> None:
    a, b = cluster.a.inside(space), cluster.b.inside(space)
    path = f"/workflows/{space}/runs/{a.start(space, workflow_id=space).body['run_id']}/history"
    with ThreadPoolExecutor() as pool:
        held = pool.submit(b.get, path, timeout=30, next_page_token=token("2"), wait_new_event=1)
        there = pool.submit(Client(cluster.a.url).inside(space).get, path, wait_new_event="true")
        assert len(there.result().body["events"]) == 2  # what is there is not waited for
        assert not held.done()
        a.register("w", space)
        a.complete(a.poll("w", space).body["task"])
        assert [event["event_type"] for event in held.result().body["events"]] == ["WorkflowCompleted"]
    began = time.monotonic()
    assert b.get(path, next_page_token=token("3"), wait_new_event=1).body["events"] == []
    assert time.monotonic() - began < 5, "a closed run was waited for"


def test_a_held_history_ends_empty_in_time_and_when_its_node_leaves(cluster: Cluster, space: str) -> None:
    run_id = cluster.a.inside(space).start(space, workflow_id=space).body["run_id"]
    path = f"/workflows/{space}/runs/{run_id}/history"
    with cluster.extra("brief", DW_WORKER_POLL_TIMEOUT="1") as brief:
        assert brief.inside(space).get(path, next_page_token=token("2"), wait_new_event=1).body["events"] == []
    with cluster.extra("leaving") as leaving, closing(_connection(leaving)) as held:
        headers = {str(name): str(value) for name, value in leaving.inside(space).session.headers.items()}
        held.request("GET", f"/api{path}?next_page_token={token('2')}&wait_new_event=1", headers=headers)
        assert leaving.get("/health").status == 200  # came later, so the node has the other, too
        assert cluster.nodes["leaving"].stop() < 6
        with held.getresponse() as answer:
            assert (answer.status, json.load(answer)["events"]) == (200, [])


def _connection(client: Client) -> HTTPConnection:
    return HTTPConnection(client.url.removeprefix("http://"), timeout=30)


SIZES: list[tuple[str, Any]] = [
    ("page_size", size) for size in ("0", "-1", "x", "1.5", "1e2", "\u0661", "9" * 30, "true")
]
LIST: list[tuple[str, Any]] = [
    *SIZES, ("page_size", 201), ("status", "cancelled"), ("status", "RUNNING"), ("status", "\0"),
    ("workflow_type", "t" * 256), ("workflow_type", "\0"), ("query", "q" * 256), ("query", "\0"), ("query", "\n"),
    ("next_page_token", "!"), ("next_page_token", token("5")), ("next_page_token", token("'" * 26)),
    ("next_page_token", token("x" * 27)), ("next_page_token", token("\u00e9" * 13)), ("next_page_token", "\u00e9"),
]  # fmt: skip
HISTORY: list[tuple[str, Any]] = [
    *SIZES, ("page_size", 1001), ("wait_new_event", "yes"), ("next_page_token", "!"), ("next_page_token", token("-1")),
    ("next_page_token", token("x")), ("next_page_token", token("\u0661")), ("next_page_token", token("9" * 10)),
    ("next_page_token", token("1\n")), ("next_page_token", "MQ"),
]  # fmt: skip


def assert_refused(reply: Reply, name: str, operation: str) -> None:
    assert (reply.status, reply.body.get("reason")) == (422, "validation_failed")
    assert list(reply.body["errors"]) == list(reply.body["validation_errors"]) == [name]
    assert reply.body["control_plane"]["operation"] == operation
    assert reply.headers["x-durable-workflow-control-plane-version"] == "2"


def test_every_bad_parameter_is_named(cluster: Cluster) -> None:
    for name, value in LIST:
        assert_refused(cluster.a.get("/workflows", **{name: value}), name, "list")
    for name, value in HISTORY:
        assert_refused(cluster.b.get("/workflows/w/runs/r/history", **{name: value}), name, "history")
    both = cluster.a.get("/workflows", page_size=0, status="x", query="\0").body
    assert list(both["errors"]) == ["page_size", "status", "query"]


@pytest.mark.parametrize(
    "query",
    ["query=%FF", "query=%ED%A0%80", "query=%F0%9F%92%A9", "%00=1", "query", "&&&=", "query=%", "query=%zz", "=&=",
     "page_size=1%00", "next_page_token=%F0%9F%92%A9", "namespace=%FF", "query=" + "%C3%A9" * 4000, "&" * 5000],
)  # fmt: skip
def test_no_query_string_breaks_anything(cluster: Cluster, query: str) -> None:
    for path in ("/workflows", "/workflows/%FF/runs", "/workflows/w/runs/%F0%9F%92%A9/history", "/namespaces"):
        reply = cluster.a.get(f"{path}?{query}")
        assert reply.status in (200, 404, 422), (path, reply.body)


VERSION, CALLER = b"X-Durable-Workflow-Control-Plane-Version: 2", f"Authorization: Bearer {TOKEN}".encode()


def test_bytes_that_no_url_may_hold(cluster: Cluster) -> None:
    host, port = cluster.nodes["server-a"].url.removeprefix("http://").split(":")
    for target in (b"/api/workflows?query=\xff\xfe", b"/api/workflows?\xe9=\xf0\x9f", b"/api/workflows/\xff/runs"):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            first = b"GET " + target + b" HTTP/1.1"
            connection.sendall(b"\r\n".join([first, b"Host: x", VERSION, CALLER, b"", b""]))
            status = int(connection.recv(4096).split()[1])
        assert status in (200, 400, 404, 422), target
