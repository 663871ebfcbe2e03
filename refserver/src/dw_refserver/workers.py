"""Worker plane, registrations: register, heartbeat, deregister."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from dw_refserver.engine import Refused
from dw_refserver.http import Answer, Call
from dw_refserver.store import workers
from dw_refserver.ulid import new_ulid
from dw_refserver.validation import Fields
from dw_refserver.wake import Queue

_RUNTIMES = ("php", "python", "typescript", "go", "java", "rust", "external")
_TOLD = (
    "worker_id", "namespace", "task_queue", "runtime", "build_id", "capabilities", "capability_manifest", "status",
)  # fmt: skip


async def register(call: Call) -> Answer:
    """POST /api/worker/register: insert or renew; a live worker id may not change a workflow's definition."""
    row = _row_of(call)
    known = await workers.find(call.node.db, call.namespace, row["worker_id"])
    if known is not None and known.heard_in >= -call.node.settings.stale_after:
        kept = _kept_definitions(known, row)
        row["workflow_definition_fingerprints"] = kept | row["workflow_definition_fingerprints"]
    await workers.register(call.node.db, row)
    told = {name: row[name] for name in _TOLD}
    interval = call.node.settings.heartbeat_interval
    return Answer({**told, "registered": True, "heartbeat_interval_seconds": interval}, 201)


def _row_of(call: Call) -> dict[str, Any]:
    fields = Fields(call.body)
    row = {
        "namespace": call.namespace,
        "worker_id": fields.text("worker_id") or new_ulid().upper(),
        "task_queue": fields.needed("task_queue"),
        "runtime": fields.choice("runtime", _RUNTIMES, required=True),
        "sdk_version": fields.text("sdk_version"),
        "build_id": fields.text("build_id"),
        "supported_workflow_types": fields.texts("supported_workflow_types"),
        "supported_activity_types": fields.texts("supported_activity_types"),
        "workflow_definition_fingerprints": fields.mapping("workflow_definition_fingerprints"),
        "capabilities": fields.texts("capabilities"),
        "capability_manifest": fields.mapping("capability_manifest"),
        "max_concurrent_workflow_tasks": fields.whole("max_concurrent_workflow_tasks", 1, 1_000_000) or 100,
        "max_concurrent_activity_tasks": fields.whole("max_concurrent_activity_tasks", 1, 1_000_000) or 100,
        "status": "active",
    }
    fields.done()
    return row


def _kept_definitions(known: Row[Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprints that hold on for types still advertised; refuses one that has changed."""
    fingerprints, types = row["workflow_definition_fingerprints"], row["supported_workflow_types"]
    for kind, before in known.workflow_definition_fingerprints.items():
        if fingerprints.get(kind, before) != before:
            advice = "Restart the worker with a new worker_id before registering a changed workflow class definition."
            text = "Worker attempted to re-register a changed workflow definition."
            raise Refused(409, "workflow_definition_changed", text, workflow_type=kind, remediation=advice)
    return {kind: before for kind, before in known.workflow_definition_fingerprints.items() if kind in types}


async def heartbeat(call: Call) -> Answer:
    """POST /api/worker/heartbeat: the worker is alive."""
    fields = Fields(call.body)
    worker_id = fields.needed("worker_id")
    fields.done()
    if not await workers.beat(call.node.db, call.namespace, worker_id):
        raise Refused(404, "worker_not_registered", "Worker not registered.", worker_id=worker_id)
    interval = call.node.settings.heartbeat_interval
    return Answer({"worker_id": worker_id, "acknowledged": True, "heartbeat_interval_seconds": interval})


async def deregister(call: Call) -> Answer:
    """DELETE /api/worker/registrations/{id}: the worker is gone, and others get its workflow tasks at once."""
    worker_id = call.path["worker_id"]
    released = await let_go(call, worker_id)
    if released is None:
        raise Refused(404, "worker_not_found", "Worker not found.", worker_id=worker_id)
    return Answer({"worker_id": worker_id, "outcome": "deregistered", "recovered_workflow_task_count": released})


async def let_go(call: Call, worker_id: str) -> int | None:
    """Forget a registration and hand the workflow tasks that its worker holds to others; how many, None if it is not
    there."""
    released = await workers.remove(call.node.db, call.namespace, worker_id)
    for task in released or ():
        call.node.signals.announce(Queue(call.namespace, task.queue), task.target_type)
    return None if released is None else len(released)
