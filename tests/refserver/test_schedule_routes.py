"""Schedules as operators see them: what a create takes and refuses, ids, pages, histories."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from refserver.harness import DAILY, Client, Cluster

pytestmark = pytest.mark.refserver


def fresh() -> str:
    return f"sch-{uuid.uuid4().hex[:8]}"


def kinds(client: Client, name: str) -> list[str]:
    return [event["event_type"].removeprefix("Schedule") for event in history(client, name)]


def history(client: Client, name: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = client.get(f"/schedules/{name}/history").body["events"]
    return events


def test_an_id_is_free_again_after_a_delete_and_its_history_goes_on(cluster: Cluster) -> None:
    name = fresh()
    cluster.a.create_schedule(name)
    cluster.a.post(f"/schedules/{name}/trigger")
    assert cluster.b.create_schedule(name).body["reason"] == "schedule_already_exists"
    for outcome in (200, 404):
        assert cluster.b.delete(f"/schedules/{name}").status == outcome
    assert [cluster.a.post(f"/schedules/{name}/{verb}").status for verb in ("pause", "resume", "trigger")] == [404] * 3
    assert kinds(cluster.a, name) == ["Created", "Triggered", "Deleted"]
    assert cluster.b.create_schedule(name, note="another").status == 201
    told = cluster.a.get(f"/schedules/{name}").body
    assert (told["fires_count"], told["note"], told["latest_workflow_instance_id"]) == (0, "another", None)
    assert [event["sequence"] for event in history(cluster.a, name)] == [1, 2, 3, 4]


def test_creates_of_one_id_at_once_make_one_schedule(cluster: Cluster) -> None:
    name = fresh()
    with ThreadPoolExecutor(8) as pool:
        racing = [pool.submit(client.create_schedule, name) for client in (cluster.a, cluster.b) * 4]
    assert sorted(answer.result().status for answer in racing) == [201] + [409] * 7
    assert kinds(cluster.a, name) == ["Created"]


def test_pages_of_schedules_and_of_history(cluster: Cluster) -> None:
    prefix = fresh()
    for number in range(5):
        cluster.a.create_schedule(f"{prefix}-{number}")
    cluster.a.delete(f"/schedules/{prefix}-2")
    seen, token = [], ""
    while token is not None:
        page = cluster.b.get(f"/schedules?page_size=2&next_page_token={token}").body
        assert page["schedule_count"] == len(page["schedules"]) <= 2
        seen += [item["schedule_id"] for item in page["schedules"]]
        token = page["next_page_token"]
    assert [name for name in seen if name.startswith(prefix)] == [f"{prefix}-{number}" for number in (0, 1, 3, 4)]
    assert len(seen) == len(set(seen))
    for verb in ("pause", "resume"):
        cluster.a.post(f"/schedules/{prefix}-0/{verb}")
    first = cluster.b.get(f"/schedules/{prefix}-0/history?limit=2").body
    assert (first["has_more"], first["next_cursor"]) == (True, 2)
    rest = cluster.b.get(f"/schedules/{prefix}-0/history?limit=2&after_sequence=2").body
    assert ([event["sequence"] for event in rest["events"]], rest["has_more"], rest["next_cursor"]) == (
        [3],
        False,
        None,
    )


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("bad-cron", {"spec": {"cron_expressions": ["* * *"]}}, "spec.cron_expressions.0"),
    ("cron-out-of-range", {"spec": {"cron_expressions": ["* * * * *", "61 * * * *"]}}, "spec.cron_expressions.1"),
    ("cron-never", {"spec": {"cron_expressions": ["0 0 */40 * MON#5"]}}, "spec.cron_expressions.0"),
    ("cron-seconds", {"spec": {"cron_expressions": ["* * * * * *"]}}, "spec.cron_expressions.0"),
    ("cron-text", {"spec": {"cron_expressions": "* * * * *"}}, "spec.cron_expressions"),
    ("cron-number", {"spec": {"cron_expressions": [5]}}, "spec.cron_expressions.0"),
    ("cron-nul", {"spec": {"cron_expressions": ["* * * *\0*"]}}, "spec.cron_expressions.0"),
    ("many-crons", {"spec": {"cron_expressions": ["* * * * *"] * 1000}}, "spec.cron_expressions"),
    ("no-duration", {"spec": {"intervals": [{"every": "5s"}]}}, "spec.intervals.0.every"),
    ("no-every", {"spec": {"intervals": [{"offset": "PT5S"}]}}, "spec.intervals.0.every"),
    ("zero", {"spec": {"intervals": [{"every": "PT0S"}]}}, "spec.intervals.0.every"),
    ("negative", {"spec": {"intervals": [{"every": "-PT5S"}]}}, "spec.intervals.0.every"),
    ("below-a-second", {"spec": {"intervals": [{"every": "PT0.5S"}]}}, "spec.intervals.0.every"),
    ("ages", {"spec": {"intervals": [{"every": "P999999999W"}]}}, "spec.intervals.0.every"),
    ("bad-offset", {"spec": {"intervals": [{"every": "PT5S", "offset": "1"}]}}, "spec.intervals.0.offset"),
    ("interval-text", {"spec": {"intervals": ["PT5S"]}}, "spec.intervals.0.every"),
    ("no-zone", {"spec": {"cron_expressions": ["* * * * *"], "timezone": "Mars/Base"}}, "spec.timezone"),
    ("zone-path", {"spec": {"cron_expressions": ["* * * * *"], "timezone": "../../passwd"}}, "spec.timezone"),
    ("nothing", {"spec": {"cron_expressions": [], "intervals": []}}, "spec.cron_expressions"),
    ("calendar", {"spec": {**DAILY, "calendars": [{}]}}, "spec.calendars"),
    ("spec-text", {"spec": "daily"}, "spec"),
    ("no-action", {"action": None}, "action"),
    ("no-type", {"action": {"task_queue": "q"}}, "action.workflow_type"),
    ("scalar-input", {"action": {"workflow_type": "t", "input": 7}}, "action.input"),
    ("unknown-in-action", {"action": {"workflow_type": "t", "workflow_id": "w"}}, "action.workflow_id"),
    ("buffer", {"overlap_policy": "buffer_one"}, "overlap_policy"),
    ("jitter", {"jitter_seconds": 3601}, "jitter_seconds"),
    ("no-runs", {"max_runs": 0}, "max_runs"),
    ("paused-word", {"paused": "yes"}, "paused"),
    ("long-note", {"note": "n" * 1001}, "note"),
    ("long-id", {"schedule_id": "i" * 129}, "schedule_id"),
    ("attributes", {"search_attributes": {"k": "v"}}, "search_attributes"),
]


@pytest.mark.parametrize(("changes", "field"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_is_wrong_is_said_under_its_field(cluster: Cluster, changes: dict[str, Any], field: str) -> None:
    name = fresh()
    refused = cluster.a.create_schedule(name, **changes)
    assert (refused.status, refused.body["reason"], list(refused.body["errors"])) == (422, "validation_failed", [field])
    assert cluster.a.get(f"/schedules/{name}/history").status == 404, "nothing was written"


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("?page_size=0", 422, "validation_failed"),
        ("?page_size=x", 422, "validation_failed"),
        ("?next_page_token=%FF", 400, "malformed_schedule_page_token"),
        ("?status=paused", 422, "unsupported_schedule_list_filter"),
        ("/nobody/history?limit=501", 422, "validation_failed"),
        ("/nobody/history?after_sequence=-1", 422, "invalid_after_sequence"),
        ("/nobody/history", 404, "schedule_not_found"),
        (f"/{'x' * 3000}", 404, "schedule_not_found"),
    ],
)
def test_reads_that_ask_wrongly(cluster: Cluster, path: str, status: int, reason: str) -> None:
    refused = cluster.a.get(f"/schedules{path}")
    assert (refused.status, refused.body["reason"]) == (status, reason)


def test_a_memo_that_is_too_large_has_a_reason_of_its_own(cluster: Cluster) -> None:
    assert cluster.a.create_schedule(fresh(), memo={"m": "x" * 262_145}).body["reason"] == "memo_too_large"
