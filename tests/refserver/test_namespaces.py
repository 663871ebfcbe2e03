"""Namespaces: made and changed through either node, and closed to one another."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from refserver.harness import Client, Cluster

pytestmark = pytest.mark.refserver


def fresh() -> str:
    return f"ns-{uuid.uuid4().hex[:8]}"


def test_made_here_changed_there_seen_by_both(cluster: Cluster) -> None:
    name = fresh()
    made = cluster.a.post("/namespaces", name=name.upper(), description="Größe \U0001f4a9")
    assert (made.status, made.body["name"], made.body["retention_days"]) == (201, name, 30)
    assert made.body["retention_mode"] == "bounded"
    assert "control_plane" not in made.body
    changed = cluster.b.put(f"/namespaces/{name}", retention_days=7)
    assert (changed.status, changed.body["retention_days"]) == (200, 7)
    assert changed.body["description"] == "Größe \U0001f4a9"
    assert changed.body["updated_at"] > changed.body["created_at"] == made.body["created_at"]
    assert cluster.b.put(f"/namespaces/{name.upper()}", description=None).body["description"] is None
    shown = cluster.a.get(f"/namespaces/{name}").body
    assert (shown["retention_days"], shown["description"], shown["status"]) == (7, None, "active")
    assert [each for each in cluster.b.get("/namespaces").body["namespaces"] if each["name"] == name] == [shown]


def test_its_default_retention_is_the_servers(cluster: Cluster) -> None:
    node = cluster.serve("server-r", DW_HISTORY_RETENTION_DAYS="3")
    try:
        assert node.post("/namespaces", name=fresh()).body["retention_days"] == 3
    finally:
        cluster.nodes.pop("server-r").stop()


def test_made_by_many_at_once_is_made_once(cluster: Cluster) -> None:
    name, nodes = fresh(), [cluster.a, cluster.b] * 4
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda node: node.post("/namespaces", name=name), [Client(node.url) for node in nodes]))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7
    assert {reply.body["reason"] for reply in replies if reply.status == 409} == {"namespace_already_exists"}


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("name", {}), ("name", {"name": ""}), ("name", {"name": "a b"}), ("name", {"name": "n" * 129}),
        ("name", {"name": "é"}), ("name", {"name": "a\n"}), ("name", {"name": ["a"]}), ("name", {"name": "\0"}),
        ("retention_days", {"retention_days": 0}), ("retention_days", {"retention_days": 366}),
        ("retention_mode", {"retention_mode": "never"}), ("retention_mode", {"retention_mode": ["forever"]}),
        ("retention_days", {"retention_days": "7"}), ("retention_days", {"retention_days": True}),
        ("description", {"description": "d" * 1001}), ("description", {"description": {}}),
    ],
)  # fmt: skip
def test_bad_fields_are_named_and_nothing_is_written(cluster: Cluster, field: str, body: dict[str, Any]) -> None:
    replies = [cluster.a.post("/namespaces", **{"name": "n", **body} if field != "name" else body)]
    if field != "name":
        replies.append(cluster.b.put("/namespaces/default", **body))
    for reply in replies:
        assert (reply.status, reply.body["reason"], list(reply.body["errors"])) == (422, "validation_failed", [field])
    assert cluster.b.get("/namespaces/n").status == 404
    assert cluster.b.get("/namespaces/default").body["description"] == "Default namespace"


@pytest.mark.parametrize("name", ["nobody", "%FF", "%F0%9F%92%A9", "n" * 3000, "%25", "a%27b"])
def test_what_is_not_there_is_not_found(cluster: Cluster, name: str) -> None:
    for reply in (cluster.a.get(f"/namespaces/{name}"), cluster.a.put(f"/namespaces/{name}", retention_days=5)):
        assert (reply.status, reply.body["reason"]) == (404, "namespace_not_found")


def test_they_are_reached_from_any_namespace_but_with_the_version(cluster: Cluster) -> None:
    assert cluster.a.inside("nobody").get("/namespaces").status == 200
    assert cluster.a.inside("nobody").get("/workflows").body["reason"] == "namespace_not_found"
    versionless = Client(cluster.a.url)
    del versionless.session.headers["X-Durable-Workflow-Control-Plane-Version"]
    for reply in (versionless.get("/namespaces"), versionless.post("/namespaces", name=fresh())):
        assert (reply.status, reply.body["reason"]) == (400, "missing_control_plane_version")


def test_operators_read_and_admins_write(cluster: Cluster) -> None:
    url = cluster.serve("server-r", DW_WORKER_TOKEN="w", DW_OPERATOR_TOKEN="o", DW_ADMIN_TOKEN="a").url
    worker, operator, admin = (Client(url, Authorization=f"Bearer {token}") for token in "woa")
    name = fresh()
    try:
        reads = [caller.get("/namespaces").status for caller in (worker, operator, admin)]
        made = [caller.post("/namespaces", name=name).status for caller in (worker, operator, admin)]
        shown = [caller.get(f"/namespaces/{name}").status for caller in (worker, operator, admin)]
        changed = [caller.put(f"/namespaces/{name}").status for caller in (worker, operator, admin)]
        listed = [caller.get("/workflows").status for caller in (worker, operator, admin)]
    finally:
        cluster.nodes.pop("server-r").stop()
    assert (reads, shown, listed) == ([403, 200, 200],) * 3
    assert (made, changed) == ([403, 403, 201], [403, 403, 200])


def test_one_does_not_see_into_another(cluster: Cluster) -> None:
    one, other = fresh(), fresh()
    for name in (one, other):
        cluster.a.post("/namespaces", name=name)
    run_id = cluster.a.inside(one).start("q", workflow_id=one).body["run_id"]
    here, there = cluster.b.inside(one), cluster.b.inside(other)
    paths = {
        f"/workflows/{one}": "instance_not_found",
        f"/workflows/{one}/runs": "instance_not_found",
        f"/workflows/{one}/runs/{run_id}": "run_not_found",
        f"/workflows/{one}/runs/{run_id}/history": "run_not_found",
    }
    assert [here.get(path).status for path in paths] == [200] * 4
    found = {path: there.get(path) for path in paths}
    assert {path: reply.body["reason"] for path, reply in found.items()} == paths
    assert {reply.status for reply in found.values()} == {404}
    assert len(here.get("/workflows").body["workflows"]) == 1
    assert there.get("/workflows").body["workflows"] == []
    assert there.get("/workflows", query=one).body["workflows"] == []
    for policy in ("fail", "use-existing"):
        taken = there.start("q", workflow_id=one, duplicate_policy=policy)
        assert (taken.status, taken.body["reason"]) == (409, "workflow_id_reserved_in_namespace")
        assert run_id not in str(taken.body)
    there.register("w", "q")
    assert there.poll("w", "q", timeout_seconds=0).body["task"] is None


def test_each_has_its_own_retention(cluster: Cluster) -> None:
    short, long = fresh(), fresh()
    for name, days in ((short, 1), (long, 300)):
        client = cluster.a.inside(name)
        client.post("/namespaces", name=name, retention_days=days)
        client.register("w", name)
        client.start(name, workflow_id=name)
        client.complete(client.poll("w", name).body["task"])
    ago = "interval '2 days'" if cluster.kind == "pgsql" else "interval 2 day"
    cluster.execute(f"update workflow_runs set closed_at = closed_at - {ago} where namespace in ('{short}', '{long}')")
    assert cluster.run_pass("history:prune") == (0, ["history:prune: 1 pruned, 0 skipped, 0 failed."])
    assert [cluster.b.inside(name).get(f"/workflows/{name}").status for name in (short, long)] == [404, 200]


def test_one_that_keeps_for_ever_is_not_pruned_until_it_is_bounded(cluster: Cluster) -> None:
    name = fresh()
    client = cluster.a.inside(name)
    made = client.post("/namespaces", name=name, retention_days=1, retention_mode="forever")
    assert (made.status, made.body["retention_mode"]) == (201, "forever")
    client.register("w", name)
    client.start(name, workflow_id=name)
    client.complete(client.poll("w", name).body["task"])
    ago = "interval '2 days'" if cluster.kind == "pgsql" else "interval 2 day"
    cluster.execute(f"update workflow_runs set closed_at = closed_at - {ago} where namespace = '{name}'")
    cluster.run_pass("history:prune")
    assert cluster.b.inside(name).get(f"/workflows/{name}").status == 200
    changed = cluster.b.put(f"/namespaces/{name}", retention_mode="bounded")
    assert (changed.body["retention_mode"], changed.body["retention_days"]) == ("bounded", 1)
    cluster.run_pass("history:prune")
    assert cluster.b.inside(name).get(f"/workflows/{name}").status == 404
