"""Control plane, workers: who is registered, and putting a registration away."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from dw_refserver.engine import Refused, iso
from dw_refserver.http import Answer, Call
from dw_refserver.store import workers
from dw_refserver.validation import parameters
from dw_refserver.workers import let_go

_STATUSES = ("active", "stale", "draining")
_SAME = (
    "worker_id", "namespace", "task_queue", "runtime", "sdk_version", "build_id", "supported_workflow_types",
    "workflow_definition_fingerprints", "supported_activity_types", "max_concurrent_workflow_tasks",
    "max_concurrent_activity_tasks",
)  # fmt: skip


async def listing(call: Call) -> Answer:
    """GET /api/workers: all, or those of a task queue, or with a status."""
    fields = parameters(call.request.query_params)
    queue, status = fields.text("task_queue"), fields.choice("status", _STATUSES)
    fields.done()
    stale_after = call.node.settings.stale_after
    found = await workers.every(call.node.db, call.namespace, queue)
    shown = [_body(row, stale_after) for row in found if status in (None, status_of(row, stale_after))]
    return Answer({"namespace": call.namespace, "stale_after_seconds": stale_after, "workers": shown})


async def show(call: Call) -> Answer:
    """GET /api/workers/{id}: one registration."""
    row = await workers.find(call.node.db, call.namespace, call.path["worker_id"])
    if row is None:
        raise _no_worker(call)
    return Answer({**_body(row, call.node.settings.stale_after), "updated_at": iso(row.updated_at)})


async def remove(call: Call) -> Answer:
    """DELETE /api/workers/{id}: forget a registration; others get the worker's workflow tasks at once."""
    if await let_go(call, call.path["worker_id"]) is None:
        raise _no_worker(call)
    return Answer({"worker_id": call.path["worker_id"], "outcome": "deregistered"})


def status_of(worker: Row[Any], stale_after: float) -> str:
    """What a registration counts as now: whoever wasn't heard of for too long is stale, whatever its row says."""
    return "stale" if worker.heard_in < -stale_after else str(worker.status)


def _body(row: Row[Any], stale_after: float) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in _SAME}
    moments = {"last_heartbeat_at": iso(row.last_heartbeat_at), "registered_at": iso(row.created_at)}
    return {**told, "status": status_of(row, stale_after), **moments}


def _no_worker(call: Call) -> Refused:
    text = f"Worker [{call.path['worker_id']}] not found in namespace [{call.namespace}]."
    return Refused(404, "worker_not_found", text)
