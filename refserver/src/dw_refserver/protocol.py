"""The protocol's envelope: versions, headers, what each plane adds to a body, and errors as bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dw_refserver.engine import COMMANDS, Refused
from dw_refserver.settings import Settings

CONTROL_VERSION = "2"
CONTROL_HEADER = "x-durable-workflow-control-plane-version"
WORKER_HEADER = "x-durable-workflow-protocol-version"
HISTORY_PAGE_DEFAULT, HISTORY_PAGE_MAX = 500, 1000

_SCHEMA = "durable-workflow.v2.control-plane-response"
_LEGACY_FIELDS = {"query": "query_name", "signal": "signal_name", "update": "update_name", "wait_policy": "wait_for"}
_NAMED = ["workflow_id", "operation_name", "operation_name_field"]
OPERATIONS: Mapping[str, tuple[list[str], list[str]]] = {
    "list": ([], []),
    "start": ([], ["workflow_id", "outcome"]),
    "describe": (["workflow_id"], []),
    "list_runs": (["workflow_id"], []),
    "describe_run": (["workflow_id"], ["run_id"]),
    "debug_workflow": (["workflow_id"], ["run_id", "diagnostic_status"]),
    "history": (["workflow_id", "run_id"], ["next_page_token"]),
    "signal": (_NAMED, ["outcome"]),
    "query": (_NAMED, ["result"]),
    "update": (_NAMED, ["outcome"]),
    "cancel": (["workflow_id"], ["outcome"]),
    "terminate": (["workflow_id"], ["outcome"]),
    "repair": (["workflow_id"], ["outcome"]),
    "archive": (["workflow_id"], ["outcome"]),
}
"""Required and success fields of each control-plane operation, as the response contract lists them."""

_REPEATED = (
    "run_id", "workflow_type", "namespace", "business_key", "status", "status_bucket", "is_terminal", "task_queue",
    "run_number", "run_count", "workflow_count", "is_current_run", "compatibility", "started_at", "closed_at",
    "last_progress_at", "wait_kind", "wait_reason", "next_page_token", "outcome", "reason", "validation_errors",
    "message",
)  # fmt: skip


def iso(moment: datetime | None) -> str | None:
    """ISO-8601 in UTC with microseconds and Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if moment else None


def contract_of(operation: str) -> dict[str, Any]:
    """The response contract that a control-plane body names."""
    required, success = OPERATIONS[operation]
    return {**response_contract_head(), "required_fields": required, "success_fields": success}


def response_contract_head() -> dict[str, Any]:
    """What every operation's response contract begins with."""
    policy = {"legacy_field_policy": "reject_non_canonical", "legacy_fields": _LEGACY_FIELDS}
    return {"schema": f"{_SCHEMA}.contract", "version": 1, **policy}


def control_body(body: Mapping[str, Any], operation: str | None, path: Mapping[str, str]) -> dict[str, Any]:
    """Add the `control_plane` object of a workflow operation; other control-plane bodies stay as they are."""
    if operation is None:
        return dict(body)
    workflow_id = body.get("workflow_id", path.get("workflow_id"))
    head = {"schema": _SCHEMA, "version": 1, "operation": operation, "workflow_id": workflow_id}
    run = {"run_id": path["run_id"]} if "run_id" in path else {}
    repeated = {name: body[name] for name in _REPEATED if name in body}
    return {**body, "control_plane": {**head, "contract": contract_of(operation), **run, **repeated}}


def worker_body(body: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Add what every worker-plane body carries."""
    return {**body, "protocol_version": settings.protocol_version, "server_capabilities": capabilities(settings)}


def capabilities(settings: Settings) -> dict[str, Any]:
    """What the worker plane can do; only what is implemented is true."""
    return {
        "long_poll_timeout": int(settings.poll_timeout),
        "supported_workflow_task_commands": list(COMMANDS),
        "workflow_task_poll_request_idempotency": True,
        "history_page_size_default": HISTORY_PAGE_DEFAULT,
        "history_page_size_max": HISTORY_PAGE_MAX,
        "poll_status": True,
        "query_tasks": False,
        "activity_retry_policy": False,
        "activity_timeouts": False,
        "child_workflow_retry_policy": False,
        "child_workflow_timeouts": False,
        "parent_close_policy": False,
        "non_retryable_failures": False,
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
    if requested == CONTROL_VERSION:
        return
    both = {"supported_version": CONTROL_VERSION, "requested_version": requested}
    if requested is None:
        advice = (
            f"Send the X-Durable-Workflow-Control-Plane-Version: {CONTROL_VERSION} header on control-plane requests."
        )
        text = "Missing control-plane version header."
        raise Refused(400, "missing_control_plane_version", text, **both, remediation=advice)
    advice = (
        f"Client requested control-plane version {requested}; this server only supports {CONTROL_VERSION}. Upgrade the "
        f"client to a release that targets control-plane {CONTROL_VERSION}, or connect to a server that supports "
        f"{requested}."
    )
    text = "Unsupported control-plane version."
    raise Refused(400, "unsupported_control_plane_version", text, **both, remediation=advice)


def check_worker_version(requested: str | None, supported: str) -> None:
    """The same major version and no newer minor version than advertised, or 400."""
    both = {"supported_version": supported, "requested_version": requested}
    if requested is None:
        advice = f"Send the X-Durable-Workflow-Protocol-Version: {supported} header on worker protocol requests."
        raise Refused(
            400, "missing_protocol_version", "Missing worker protocol version header.", **both, remediation=advice
        )
    if re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", requested):
        asked, ours = ([int(part) for part in version.split(".")] for version in (requested, supported))
        if asked[0] == ours[0] and asked[1] <= ours[1]:
            return
    advice = (
        f"Worker requested protocol version {requested}; this server supports {supported} and older of the same major "
        f"version. Use a worker release that targets one of them, or a server that supports {requested}."
    )
    text = "Unsupported worker protocol version."
    raise Refused(400, "unsupported_protocol_version", text, **both, remediation=advice)


def namespace_missing(namespace: str) -> Refused:
    """404 for a namespace that isn't there."""
    advice = (
        "Register the namespace via POST /api/namespaces, or send an X-Namespace header naming an existing namespace."
    )
    text = f"Namespace '{namespace}' does not exist."
    return Refused(404, "namespace_not_found", text, namespace=namespace, remediation=advice)
