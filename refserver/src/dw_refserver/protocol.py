"""The protocol's envelope: versions, headers, what each plane adds to a body, and errors as bodies."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dw_refserver.command_engine import COMMANDS
from dw_refserver.engine import Refused, iso
from dw_refserver.settings import Settings

CONTROL_VERSION = "2"
CONTROL_HEADER = "x-durable-workflow-control-plane-version"
WORKER_HEADER = "x-durable-workflow-protocol-version"
HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX = 500, 1000
SEQUENCE = "[0-9]{1,9}"
"""What the token of a history page holds."""

_SCHEMA = "durable-workflow.v2.control-plane-response"
_CONTRACT = {
    "schema": f"{_SCHEMA}.contract",
    "version": 1,
    "legacy_field_policy": "reject_non_canonical",
    "legacy_fields": {"query": "query_name", "signal": "signal_name", "update": "update_name",
                      "wait_policy": "wait_for"},
}  # fmt: skip
_OPERATIONS: Mapping[str, tuple[list[str], list[str]]] = {
    "list": ([], []),
    "start": ([], ["workflow_id", "outcome"]),
    "describe": (["workflow_id"], []),
    "list_runs": (["workflow_id"], []),
    "describe_run": (["workflow_id"], ["run_id"]),
    "history": (["workflow_id", "run_id"], ["next_page_token"]),
    "query": (["workflow_id", "operation_name", "operation_name_field"], ["result"]),
    "signal": (["workflow_id", "operation_name", "operation_name_field"], ["outcome"]),
    "cancel": (["workflow_id"], ["outcome"]),
    "terminate": (["workflow_id"], ["outcome"]),
}
"""Required and success fields of each workflow operation, as its response contract lists them."""

_REPEATED = (
    "workflow_id", "run_id", "workflow_type", "namespace", "business_key", "status", "status_bucket", "is_terminal",
    "task_queue", "run_number", "run_count", "workflow_count", "is_current_run", "compatibility", "started_at",
    "closed_at", "last_progress_at", "wait_kind", "wait_reason", "next_page_token", "outcome", "reason",
    "validation_errors", "result", "result_envelope", "message", "command_id", "command_status", "command_source",
    "target_scope", "rejection_reason",
)  # fmt: skip


def page_token(last: int | str) -> str:
    """The token of the page after `last`: base64, as the published server makes it."""
    return base64.b64encode(str(last).encode()).decode()


def last_of(token: str, pattern: str) -> str | None:
    """What a page's token says was last on the page before; None if it was never given out."""
    try:
        last = base64.b64decode(token, validate=True).decode("ascii")
    except ValueError:
        return None
    return last if re.fullmatch(pattern, last) else None


def control_body(body: Mapping[str, Any], operation: str | None, path: Mapping[str, str]) -> Mapping[str, Any]:
    """Add the `control_plane` object of a workflow operation; other control-plane bodies stay as they are."""
    if operation is None:
        return body
    required, success = _OPERATIONS[operation]
    envelope = {"schema": _SCHEMA, "version": 1, "operation": operation, "workflow_id": path.get("workflow_id")}
    if "signal_name" in path:
        envelope |= {"operation_name": path["signal_name"], "operation_name_field": "signal_name"}
    envelope |= {"contract": {**_CONTRACT, "required_fields": required, "success_fields": success}, **path}
    if "operation_name" in path:
        envelope["operation_name_field"] = f"{operation}_name"
    return {**body, "control_plane": envelope | {name: body[name] for name in _REPEATED if name in body}}


def worker_body(body: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Add what every worker-plane body carries."""
    return {**body, "protocol_version": settings.protocol_version, "server_capabilities": capabilities(settings)}


def capabilities(settings: Settings) -> dict[str, Any]:
    """What the worker plane can do; only what is implemented is true."""
    missing = ("child_workflow_retry_policy", "child_workflow_timeouts", "parent_close_policy")
    present = ("query_tasks", "activity_retry_policy", "activity_timeouts", "non_retryable_failures")
    return {
        "long_poll_timeout": int(settings.poll_timeout),
        "supported_workflow_task_commands": list(COMMANDS),
        "workflow_task_poll_request_idempotency": True,
        "history_page_size_default": HISTORY_PAGE_DEFAULT,
        "history_page_size_max": HISTORY_PAGE_MAX,
        "poll_status": True,
        **dict.fromkeys(missing, False),
        **dict.fromkeys(present, True),
        "response_compression": [],
    }


def error_body(refused: Refused, *, worker: bool) -> dict[str, Any]:
    """An error as its plane writes it: the worker plane's own errors say `error`, all others `message`."""
    fields = {name: iso(value) if isinstance(value, datetime) else value for name, value in refused.fields.items()}
    if not worker or refused.reason in _MESSAGE_REASONS:
        return {"message": refused.text, "reason": refused.reason, **fields}
    return {"error": refused.text, "reason": refused.reason, **fields}


_MESSAGE_REASONS = {
    "unauthorized", "forbidden", "namespace_not_found", "validation_failed", "payload_too_large",
    "unsupported_media_type", "malformed_json", "not_found", "method_not_allowed", "server_error", "request_timeout",
}  # fmt: skip


def invalid(errors: Mapping[str, str]) -> Refused:
    """422 for these fields, the first one's text as the message."""
    first, *others = errors.values()
    more = f" (and {len(others)} more error{'s' if len(others) > 1 else ''})" if others else ""
    as_lists = {name: [text] for name, text in errors.items()}
    return Refused(422, "validation_failed", first + more, errors=as_lists, validation_errors=as_lists)


def check_control_version(requested: str | None) -> None:
    """Exactly version 2, or 400."""
    if requested != CONTROL_VERSION:
        raise _other_version("control_plane", "control-plane", "Control-Plane", requested, CONTROL_VERSION)


def check_worker_version(requested: str | None, supported: str) -> None:
    """The same major version and no newer minor version than advertised, or 400."""
    if requested and re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", requested):
        (major, minor), (ours, newest) = (map(int, version.split(".")) for version in (requested, supported))
        if major == ours and minor <= newest:
            return
    raise _other_version("protocol", "worker protocol", "Protocol", requested, supported)


def _other_version(reason: str, plane: str, header: str, requested: str | None, supported: str) -> Refused:
    both = {"supported_version": supported, "requested_version": requested}
    if requested is None:
        advice = f"Send the X-Durable-Workflow-{header}-Version: {supported} header on {plane} requests."
        text = f"Missing {plane} version header."
        return Refused(400, f"missing_{reason}_version", text, **both, remediation=advice)
    advice = (
        f"The client asked for {plane} version {requested}; this server speaks {supported}. Use a client that speaks "
        f"it too, or a server that speaks {requested}."
    )
    return Refused(400, f"unsupported_{reason}_version", f"Unsupported {plane} version.", **both, remediation=advice)


def no_workflow(workflow_id: str) -> Refused:
    """404 for a workflow that the caller's namespace doesn't have."""
    return Refused(404, "instance_not_found", "Workflow not found.", workflow_id=workflow_id)


def no_run(workflow_id: str, run_id: str) -> Refused:
    """404 for a run that the workflow, in the caller's namespace, doesn't have."""
    return Refused(404, "run_not_found", "Workflow run not found.", workflow_id=workflow_id, run_id=run_id)


def namespace_missing(namespace: str) -> Refused:
    """404 for a namespace that isn't there."""
    advice = "Send an X-Namespace header naming an existing namespace."
    text = f"Namespace '{namespace}' does not exist."
    return Refused(404, "namespace_not_found", text, namespace=namespace, remediation=advice)
