"""Control plane, workflows: start, describe, run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Row

from dw_refserver import codec, engine
from dw_refserver.engine import TERMINAL, Refused, Start, bucket_of
from dw_refserver.http import Answer, Call
from dw_refserver.protocol import iso
from dw_refserver.store import workflows
from dw_refserver.ulid import new_ulid
from dw_refserver.validation import Fields
from dw_refserver.wake import Queue

_UNSUPPORTED = (
    "workflow_execution_timeout", "workflow_run_timeout", "workflow_task_timeout", "retry_policy", "idempotency_key",
    "request_id",
)  # fmt: skip
_ACTIONS = ("can_signal", "can_query", "can_update", "can_cancel", "can_terminate", "can_repair", "can_archive")
"""What an operator may ask of a run: none of these until this server can do it."""

_LONGEST_TIMEOUT = 10 * 366 * 86_400
_WAITS = {"ready": "Workflow task ready", "leased": "Workflow task leased to a worker"}


async def start(call: Call) -> Answer:
    """POST /api/workflows: a new instance with its first run and task, or the protocol's word on a duplicate."""
    ask, use_existing = _start_of(call)
    started = engine.start(ask)
    if await workflows.start(call.node.db, ask, started):
        call.node.signals.announce(Queue(ask.namespace, ask.queue), ask.workflow_type)
        return Answer(_about(ask, started.run_id, "pending") | {"outcome": "started_new"}, 201)
    return await _duplicate(call, ask, use_existing=use_existing)


async def _duplicate(call: Call, ask: Start, *, use_existing: bool) -> Answer:
    run = await workflows.current_run(call.node.db, ask.workflow_id)
    if run is None or run.namespace != ask.namespace:
        text = f"Workflow id '{ask.workflow_id}' is reserved in another namespace."
        raise Refused(409, "workflow_id_reserved_in_namespace", text, workflow_id=ask.workflow_id)
    about = _about(run, run.id, run.status) | {"workflow_id": ask.workflow_id}
    if use_existing and run.status not in TERMINAL:
        return Answer(about | {"outcome": "returned_existing_active"}, 200)
    return Answer(about | {"outcome": "rejected_duplicate", "reason": "duplicate_not_allowed"}, 409)


def _about(source: Any, run_id: str, status: str) -> dict[str, Any]:
    """The body of a start's answer, from what was asked or from the run that is there."""
    return {
        "workflow_id": getattr(source, "workflow_id", None),
        "run_id": run_id,
        "workflow_type": source.workflow_type,
        "namespace": source.namespace,
        "status": status,
        "business_key": source.business_key,
        "payload_codec": source.payload_codec,
    }


def _start_of(call: Call) -> tuple[Start, bool]:
    """Check every field of a start; the second value says whether an open run of the same id will do."""
    fields = Fields(call.body)
    for name in _UNSUPPORTED:
        if name in call.body:
            fields.fail(name, f"The {name} field is not supported by the v2 workflow start API.")
    workflow_id = fields.text("workflow_id", most=128, pattern=r"[a-zA-Z0-9._:-]+") or new_ulid()
    policy = call.body.get("duplicate_policy")
    if policy not in (None, "fail", "use-existing"):
        fields.fail("duplicate_policy", "The duplicate_policy field only supports fail or use-existing.")
    envelope = _input(fields)
    memo = _memo(fields, call.node.settings.max_memo_bytes)
    ask = Start(
        namespace=call.namespace,
        workflow_id=workflow_id,
        workflow_type=fields.needed("workflow_type"),
        queue=fields.text("task_queue") or "default",
        payload_codec=envelope["codec"],
        arguments=envelope["blob"],
        business_key=fields.text("business_key", most=191),
        memo=memo,
        search_attributes=None,
        execution_timeout_seconds=fields.whole("execution_timeout_seconds", 1, _LONGEST_TIMEOUT),
        run_timeout_seconds=fields.whole("run_timeout_seconds", 1, _LONGEST_TIMEOUT),
        caller={"auth_status": "authorized", "auth_method": call.node.settings.auth.driver,
                "request_method": "POST", "request_path": "/api/workflows"},
    )  # fmt: skip
    if call.body.get("search_attributes"):
        fields.fail("search_attributes", "The search_attributes field is not supported by this server.")
    fields.done()
    return ask, policy == "use-existing"


def _input(fields: Fields) -> dict[str, str]:
    """The input as an envelope: as it came, or a plain JSON list encoded; nothing counts as the empty list."""
    given = fields.body.get("input")
    if isinstance(given, dict) and {"codec", "blob"} <= given.keys():
        if given["codec"] == "avro" and isinstance(given["blob"], str):
            return {"codec": "avro", "blob": given["blob"]}
        fields.fail("input", "The input envelope must carry the codec avro and a base64 blob.")
        given = None
    if isinstance(given, dict):
        given = list(given.values())
    if given is not None and not isinstance(given, list):
        fields.fail("input", "The input field must be an array.")
        given = None
    try:
        return {"codec": "avro", "blob": codec.encode(given or [])}
    except codec.CodecError:
        fields.fail("input", "The input field can't be encoded with the codec avro.")
        return {"codec": "avro", "blob": ""}


def _memo(fields: Fields, most: int) -> dict[str, Any] | None:
    memo = fields.mapping("memo") or None
    if memo and len(orjson.dumps(memo)) > most:
        fields.fail("memo", f"The memo field must not be greater than {most} bytes.")
    return memo


async def describe(call: Call) -> Answer:
    """GET /api/workflows/{id}: the current run."""
    workflow_id = call.path["workflow_id"]
    run = await workflows.current_run(call.node.db, workflow_id)
    if run is None or run.namespace != call.namespace:
        raise Refused(404, "instance_not_found", "Workflow not found.", workflow_id=workflow_id)
    return Answer(_run_body(run))


async def describe_run(call: Call) -> Answer:
    """GET /api/workflows/{id}/runs/{run}: one run."""
    workflow_id, run_id = call.path["workflow_id"], call.path["run_id"]
    run = await workflows.one_run(call.node.db, workflow_id, run_id)
    if run is None or run.namespace != call.namespace:
        raise Refused(404, "run_not_found", "Workflow run not found.", workflow_id=workflow_id, run_id=run_id)
    return Answer(_run_body(run))


def _run_body(run: Row[Any]) -> dict[str, Any]:
    input_envelope = {"codec": run.payload_codec, "blob": run.arguments}
    terminal = run.status in TERMINAL
    waiting = None if terminal else run.open_task_status
    return {
        "workflow_id": run.workflow_instance_id,
        "run_id": run.id,
        "namespace": run.namespace,
        "workflow_type": run.workflow_type,
        "business_key": run.business_key,
        "status": run.status,
        "status_bucket": bucket_of(run.status),
        "is_terminal": terminal,
        "closed_reason": run.closed_reason,
        "task_queue": run.queue,
        "run_number": run.run_number,
        "run_count": run.run_count,
        "is_current_run": run.id == run.current_run_id,
        "compatibility": run.compatibility,
        "payload_codec": run.payload_codec,
        "execution_timeout_seconds": run.execution_timeout_seconds,
        "run_timeout_seconds": run.run_timeout_seconds,
        "execution_deadline_at": iso(run.execution_deadline_at),
        "run_deadline_at": iso(run.run_deadline_at),
        "input": _shown(input_envelope),
        "output": _shown(run.output),
        "input_envelope": input_envelope,
        "output_envelope": run.output,
        "started_at": iso(run.started_at),
        "closed_at": iso(run.closed_at),
        "last_progress_at": iso(run.last_progress_at),
        "wait_kind": "workflow-task" if waiting else None,
        "wait_reason": _WAITS.get(waiting or ""),
        "memo": run.memo,
        "search_attributes": run.search_attributes or [],
        "actions": dict.fromkeys(_ACTIONS, False),
    }


def _shown(envelope: Mapping[str, str] | None) -> Any:
    """A payload as plain JSON where the server can read it; null where not, and the envelope has it verbatim."""
    if envelope is None or envelope["codec"] != "avro":
        return None
    try:
        return codec.decode(envelope["blob"])
    except codec.CodecError:
        return None
