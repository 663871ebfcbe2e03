"""The published server's recorded answers, replayed against two nodes and compared field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from refserver.harness import TOKEN, Cluster

pytestmark = pytest.mark.refserver

RECORDED = json.loads((Path(__file__).parent / "recorded" / "exchanges-0.2.10.json").read_text())
EXCHANGES = {exchange["name"]: exchange for exchange in RECORDED["exchanges"]}

VOLATILE = {
    "blob", "timestamp", "id", "protocol_version", "supported_version", "started_at", "closed_at", "recorded_at",
    "last_progress_at", "lease_expires_at", "server_id", "requested_version", "remediation", "run_closed_at",
    "last_heartbeat_at", "start_to_close", "heartbeat", "next_fire", "last_fire", "next_fire_at", "last_fired_at",
    "last_skipped_at", "paused_at", "created_at", "updated_at", "registered_at",
}  # fmt: skip
"""Fields whose value differs from run to run or with the protocol version; their presence and type are compared."""

NO_REPAIR = "only what this server can do is offered: no repair and no archive"
EVERYWHERE = {
    "actions.can_query": "the recorded type had no worker that answers queries; here a worker is asked, and says so",
    "actions.can_repair": NO_REPAIR,
    "actions.can_archive": NO_REPAIR,
    "input": "payloads are opaque to this server: input_envelope has it verbatim",
    "output": "payloads are opaque to this server: output_envelope has it verbatim",
}
"""Fields that differ from the recording wherever they stand, with the reason."""

COUNTS = ("task.last_history_sequence", "task.total_history_events")
NO_START_REJECTED = "a refused duplicate start writes no StartRejected event into the history of the run that is there"
NO_HEARTBEAT_EVENT = f"{NO_START_REJECTED}; and a heartbeat writes no event, as in the newest protocol's inventories"
STEP = "steps are numbered by their own counter, as the newest protocol has it, not by the history's"
FEWER_EVENTS = f"{NO_HEARTBEAT_EVENT}; and the duplicate that was let through added nothing"
LEASED = "a task that was leased in the replay, and released in the recording, is still leased"
EMPTY_OBJECT = "an empty object is an object here, not a list"
RUST_WORKER = "a worker that runs rust was let in, see 012"
NO_CONTRACTS = "this server keeps no query contracts: it is the worker that knows which queries there are"
NO_REPAIR_PASS = "there is no repair pass: an expired lease is found by the next claim"
NO_DISPATCHES = "there are no limits on dispatches per minute, so nothing is counted"
_DISPATCHES = (
    "dispatch_budget_group", "dispatch_count_this_minute", "remaining_dispatch_capacity", "max_dispatches_per_minute",
    "max_dispatches_per_minute_per_namespace", "namespace_dispatch_count_this_minute",
    "remaining_namespace_dispatch_capacity", "max_dispatches_per_minute_per_budget_group",
    "budget_group_dispatch_count_this_minute", "remaining_budget_group_dispatch_capacity",
)  # fmt: skip
_LIMITED = [f"admission.{kind}.server_{name}" for kind in ("workflow_tasks", "activity_tasks") for name in _DISPATCHES]
REJECTED = "a rejected command leaves no row behind, so it has neither an id nor a number"
DEVIATIONS: dict[str, dict[str, str]] = {
    "012-register-bad-runtime": {"status": "rust is a runtime in the newest protocol"},
    "021-worker-heartbeat": {"retention": "pruning belongs to the scheduler alone, so a heartbeat prunes nothing"},
    "025-start-duplicate": {"reason": "added in the newest protocol: clients tell a duplicate by it"},
    "050-wf-poll-with-task": dict.fromkeys(COUNTS, NO_START_REJECTED),
    "051-wf-poll-same-poll-request-id": dict.fromkeys(COUNTS, NO_START_REJECTED),
    "059-wf-task-history": {"total_history_events": NO_START_REJECTED},
    "082-wf-poll-after-activity": {**dict.fromkeys(COUNTS, NO_HEARTBEAT_EVENT), "task.workflow_sequence": STEP},
    "099-query-no-worker-registered": {"status": NO_CONTRACTS},
    "101-query-poll-with-task": {"task.last_history_sequence": FEWER_EVENTS},
    "182-task-queue-describe-unknown": {
        **dict.fromkeys(_LIMITED, NO_DISPATCHES),
        "repair": NO_REPAIR_PASS,
        "admission.workflow_tasks.server_namespace_active_lease_count": LEASED,
    },
    "186-workers-list": {
        **{f"workers.{number}.workflow_definition_fingerprints": EMPTY_OBJECT for number in (0, 2)},
        **dict.fromkeys([f"workers.2.{name}" for name in ("worker_id", "task_queue", "runtime")], RUST_WORKER),
    },
    "187-worker-show": {"workflow_definition_fingerprints": EMPTY_OBJECT},
    "093-signal": {"status": "types declare no signals to this server, so it takes every name, as the protocol allows"},
    "123-cancel-again": dict.fromkeys(("command_id", "command_sequence"), REJECTED),
    "126-signal-closed": dict.fromkeys(("command_id", "command_sequence"), REJECTED),
    "132-terminate": {"command_sequence": f"{REJECTED}; two were rejected before"},
    "133-terminate-again": dict.fromkeys(("command_id", "command_sequence"), REJECTED),
}
"""Every known difference, by exchange and field, with its reason. One that is gone fails, so the table stays true."""

NEEDS_TASK = {
    "143-wf-continue-as-new": "golden-7",
    "137-wf-complete-workflow": "golden-5",
    "141-wf-fail-workflow": "golden-6",
}
"""Exchanges about a task whose start and poll were not recorded: made here first."""

AHEAD = {"101-query-poll-with-task": "104-query-with-worker"}
"""Before an exchange is sent, the one that was sent before it and answered after it: a caller waits for a worker."""


FILLED = (
    "workflow_schedules", "workflow_commands", "workflow_instances", "workflow_runs", "workflow_tasks",
    "workflow_history_events", "activity_executions", "activity_attempts", "workflow_worker_registrations",
)  # fmt: skip
"""The recordings begin with a server that has run nothing yet: a list shows what else there is."""


class Replay:
    """Sends recorded requests to the nodes in turn; learns which of our ids stands for which recorded one."""

    def __init__(self, cluster: Cluster) -> None:
        self.urls = [cluster.nodes["server-a"].url, cluster.nodes["server-b"].url]
        self.sent = 0
        self.ours: dict[str, str] = {}
        self.pool = ThreadPoolExecutor(1)
        self.waiting: dict[str, Future[requests.Response]] = {}

    def send(self, request: dict[str, Any]) -> requests.Response:
        text = json.dumps(request).replace("Bearer TOKEN", f"Bearer {TOKEN}")
        for theirs, ours in self.ours.items():
            text = text.replace(theirs, ours)
        given = json.loads(text)
        body, headers = given["body"], {"Content-Type": "application/json", **given["headers"]}
        data = None if body is None else body if isinstance(body, str) else json.dumps(body)
        self.sent += 1
        url = self.urls[self.sent % 2] + given["path"]
        return requests.request(given["method"], url, data=data, headers=headers, timeout=10)

    def send_ahead(self, name: str) -> None:
        self.waiting[name] = self.pool.submit(self.send, EXCHANGES[name]["request"])

    def answer_to(self, name: str) -> requests.Response:
        waiting = self.waiting.pop(name, None)
        return waiting.result() if waiting else self.send(EXCHANGES[name]["request"])

    def learn(self, theirs: Any, ours: Any) -> None:
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for name in theirs.keys() & ours.keys():
                self.learn(theirs[name], ours[name])
        elif isinstance(theirs, list) and isinstance(ours, list):
            for each in zip(theirs, ours, strict=False):
                self.learn(*each)
        elif isinstance(theirs, str) and isinstance(ours, str) and re.fullmatch(r"01[0-9a-zA-Z]{24}", theirs):
            self.ours.setdefault(theirs, ours)

    def prepare(self, workflow_id: str, recorded: dict[str, Any]) -> None:
        start = json.loads(json.dumps(EXCHANGES["110-start-2"]["request"]).replace("golden-2", workflow_id))
        assert self.send(start).status_code == 201
        task = self.send(EXCHANGES["111-wf-poll-2"]["request"]).json()["task"]
        assert task["workflow_id"] == workflow_id
        self.ours[recorded["request"]["path"].split("/")[4]] = task["task_id"]


@pytest.fixture(scope="module")
def replayed(cluster: Cluster) -> dict[str, tuple[int, Any]]:
    """Every recorded exchange sent once, in its order."""
    cluster.execute(
        *(f"delete from {table}" for table in FILLED), "delete from workflow_namespaces where name <> 'default'"
    )
    replay, answers = Replay(cluster), {}
    for name, exchange in EXCHANGES.items():
        if name in NEEDS_TASK:
            replay.prepare(NEEDS_TASK[name], exchange)
        if name in AHEAD:
            replay.send_ahead(AHEAD[name])
        response = replay.answer_to(name)
        replay.learn(exchange["body"], response.json())
        text = json.dumps(response.json())
        for theirs, ours in replay.ours.items():
            text = text.replace(ours, theirs)
        answers[name] = response.status_code, json.loads(text)
    return answers


@pytest.mark.parametrize("name", EXCHANGES)
def test_answers_as_recorded(replayed: dict[str, tuple[int, Any]], name: str) -> None:
    recorded, known = EXCHANGES[name], DEVIATIONS.get(name, {})
    status, body = replayed[name]
    found = {} if status == recorded["status"] else {"status": f"{status}, recorded {recorded['status']}"}
    if isinstance(recorded["body"], dict) and "status" not in known:
        found |= dict(_differences(recorded["body"], body))
        found |= {"reason": "added"} if "reason" in body.keys() - recorded["body"].keys() else {}
    assert {at: text for at, text in found.items() if at not in known} == {}
    assert known.keys() - found.keys() == set(), "known deviations that are gone: take them out of the table"


def _differences(theirs: Any, ours: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Field and finding where the recording has what ours lacks or says otherwise. Fields that only ours has add."""
    if at in EVERYWHERE:
        return
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name, value in theirs.items():
            below = f"{at}.{name}".removeprefix(".").removeprefix("control_plane.")
            yield from _differences(value, ours[name], below) if name in ours else [(below, "missing")]
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) <= len(ours):
        for number, value in enumerate(theirs):
            yield from _differences(value, ours[number], f"{at}.{number}")
    elif type(theirs) is not type(ours) or (at.rsplit(".", 1)[-1] not in VOLATILE and theirs != ours):
        yield at, f"{ours!r}, recorded {theirs!r}"
