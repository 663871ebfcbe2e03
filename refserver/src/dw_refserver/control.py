"""Control plane, workflows: start, describe, run."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Row

from dw_refserver import engine
from dw_refserver.engine import TERMINAL, Refused, Start, bucket_of, iso
from dw_refserver.http import Answer, Call
from dw_refserver.protocol import no_run, no_workflow
from dw_refserver.store import workflows
from dw_refserver.store.database import LostRaceError
from dw_refserver.ulid import new_ulid
from dw_refserver.validation import Fields, work_of
from dw_refserver.wake import Queue

UNSUPPORTED = (
    "workflow_execution_timeout", "workflow_run_timeout", "workflow_task_timeout", "retry_policy", "idempotency_key",
    "request_id",
)  # fmt: skip
"""Fields that the protocol refuses on a start."""

_OPEN_ACTIONS = ("can_signal", "can_cancel", "can_terminate")
_ACTIONS = ("can_query", *_OPEN_ACTIONS, "can_update", "can_repair", "can_archive")
"""What an operator may ask of a run: a query always, the next three while it is open, the rest not of this server."""

_TASK_WAITS = {"ready": "Workflow task ready", "leased": "Workflow task leased to a worker"}


async def start(call: Call) -> Answer:
    """POST /api/workflows: a new instance with its first run and task, or the protocol's word on a duplicate."""
    ask, use_existing = _asked(call)
    run_id = new_ulid()
    events, task = engine.start(ask, run_id)
    if not await workflows.start(call.node.db, ask, run_id, events, task):
        return await _duplicate(call, ask, use_existing=use_existing)
    call.node.signals.announce(Queue(ask.namespace, ask.queue), ask.workflow_type)
    return Answer(_about(ask, ask.workflow_id, run_id, "pending") | {"outcome": "started_new"}, 201)


async def _duplicate(call: Call, ask: Start, *, use_existing: bool) -> Answer:
    run = await workflows.current_run(call.node.db, ask.workflow_id)
    if run is None:  # pruned a moment ago, so the id is free again
        raise LostRaceError(ask.workflow_id)
    if run.namespace != ask.namespace:
        text = f"Workflow [{ask.workflow_id}] is already reserved in another namespace."
        raise Refused(409, "workflow_id_reserved_in_namespace", text, workflow_id=ask.workflow_id)
    about = _about(run, ask.workflow_id, run.id, run.status)
    if use_existing and run.status not in TERMINAL:
        return Answer(about | {"outcome": "returned_existing_active"}, 200)
    return Answer(about | {"outcome": "rejected_duplicate", "reason": "duplicate_not_allowed"}, 409)


def _about(source: Any, workflow_id: str, run_id: str, status: str) -> dict[str, Any]:
    """The body of a start's answer, from what was asked or from the run that is there."""
    told = {name: getattr(source, name) for name in ("workflow_type", "namespace", "business_key", "payload_codec")}
    return {"workflow_id": workflow_id, "run_id": run_id, "status": status, **told}


def _asked(call: Call) -> tuple[Start, bool]:
    """Check every field of a start; the second value says whether an open run of the same id will do."""
    fields = Fields(call.body)
    for name in UNSUPPORTED:
        if name in call.body:
            fields.fail(name, f"The {name} field is not supported by the v2 workflow start API.")
    if call.body.get("search_attributes"):
        fields.fail("search_attributes", "The search_attributes field is not supported by this server.")
    workflow_id = fields.text("workflow_id", most=128, pattern=r"[a-zA-Z0-9._:-]+") or new_ulid()
    policy = call.body.get("duplicate_policy")
    if policy not in (None, "fail", "use-existing"):
        fields.fail("duplicate_policy", "The duplicate_policy field only supports fail or use-existing.")
    memo, most = fields.mapping("memo") or None, call.node.settings.max_memo_bytes
    if memo and len(orjson.dumps(memo)) > most:
        fields.fail("memo", f"The memo field must not be greater than {most} bytes.")
    ask = Start(
        namespace=call.namespace,
        workflow_id=workflow_id,
        business_key=fields.text("business_key", most=191),
        memo=memo,
        **work_of(fields),
    )
    fields.done()
    return ask, policy == "use-existing"


async def describe(call: Call) -> Answer:
    """GET /api/workflows/{id}: the current run."""
    workflow_id = call.path["workflow_id"]
    run = await workflows.current_run(call.node.db, workflow_id)
    if run is None or run.namespace != call.namespace:
        raise no_workflow(workflow_id)
    return Answer(_run_body(run))


async def describe_run(call: Call) -> Answer:
    """GET /api/workflows/{id}/runs/{run}: one run."""
    workflow_id, run_id = call.path["workflow_id"], call.path["run_id"]
    run = await workflows.one_run(call.node.db, workflow_id, run_id)
    if run is None or run.namespace != call.namespace:
        raise no_run(workflow_id, run_id)
    return Answer(_run_body(run))


def brief(run: Row[Any]) -> dict[str, Any]:
    """What every view of a run tells."""
    same = {name: getattr(run, name) for name in ("workflow_type", "business_key", "status")}
    moments = {"started_at": iso(run.started_at), "closed_at": iso(run.closed_at)}
    return {"run_id": run.id, "task_queue": run.queue, **same, **moments}


def standing(run: Row[Any]) -> dict[str, Any]:
    """What the run's status counts as."""
    return {"status_bucket": bucket_of(run.status), "is_terminal": run.status in TERMINAL}


_SAME = (
    "namespace", "closed_reason", "run_number", "run_count", "compatibility", "payload_codec",
    "execution_timeout_seconds", "run_timeout_seconds", "memo",
)  # fmt: skip
_MOMENTS = ("execution_deadline_at", "run_deadline_at", "last_progress_at")


def _run_body(run: Row[Any]) -> dict[str, Any]:
    """What a run is, to its operators. Payloads are opaque here: only the envelopes have them, verbatim."""
    wait_kind, wait_reason = _wait_of(run)
    return {
        "workflow_id": run.workflow_instance_id,
        **brief(run),
        **standing(run),
        **{name: getattr(run, name) for name in _SAME},
        **{name: iso(getattr(run, name)) for name in _MOMENTS},
        "is_current_run": run.id == run.current_run_id,
        "input": None,
        "output": None,
        "input_envelope": {"codec": run.payload_codec, "blob": run.arguments},
        "output_envelope": run.output,
        "wait_kind": wait_kind,
        "wait_reason": wait_reason,
        "search_attributes": [],
        "actions": {name: _may(name, open_now=run.status not in TERMINAL) for name in _ACTIONS},
    }


def _may(action: str, *, open_now: bool) -> bool:
    return action == "can_query" or (open_now and action in _OPEN_ACTIONS)


def _wait_of(run: Row[Any]) -> tuple[str | None, str | None]:
    """What has to happen next, and in words."""
    if run.status in TERMINAL:
        return None, None
    if run.open_task_type == "workflow":
        return "workflow-task", _TASK_WAITS[run.open_task_status]
    kind = "condition" if (run.waiting_on or {}).get("condition") else run.open_task_type
    return kind, f"Waiting for {kind}" if kind else None
