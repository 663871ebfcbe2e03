"""GET /api/cluster/info: what this node is and can do. Only what is implemented is advertised as true."""

from __future__ import annotations

from typing import Any

from dw_refserver import __version__, control, protocol
from dw_refserver.auth import EVERYTHING
from dw_refserver.engine import BUCKETS
from dw_refserver.http import Answer, Call
from dw_refserver.settings import ADMIN, Settings

_AUTH_COMPOSITION = {
    "schema": "durable-workflow.v2.auth-composition.contract",
    "version": 1,
    "precedence": {"connection_values": ["flag", "environment", "profile", "default"],
                   "profile_selection": ["flag", "environment", "default"]},
    "canonical_environment": {
        "server_url": "DURABLE_WORKFLOW_SERVER_URL", "namespace": "DURABLE_WORKFLOW_NAMESPACE",
        "auth_token": "DURABLE_WORKFLOW_AUTH_TOKEN", "tls_verify": "DURABLE_WORKFLOW_TLS_VERIFY", "profile": "DW_ENV",
    },
    "auth_material": {"token": {"status": "supported", "effective_config_value": "redacted"},
                      "mtls": {"status": "reserved"}, "signed_headers": {"status": "reserved"}},
    "effective_config": {"required_fields": ["server_url", "namespace", "profile", "auth", "tls", "identity"]},
    "redaction": {"never_echo": ["bearer_tokens", "private_keys", "raw_authorization_headers"]},
}  # fmt: skip
"""Clients compare this manifest strictly."""

_REQUEST_CONTRACT = {
    "schema": "durable-workflow.v2.control-plane-request.contract",
    "version": 1,
    "operations": {
        "list": {"fields": {"status": {"canonical_values": list(BUCKETS)}}},
        "start": {
            "fields": {"duplicate_policy": {"canonical_values": ["fail", "use-existing"]}},
            "unsupported_fields": control.UNSUPPORTED,
        },
    },
}


async def cluster_info(call: Call) -> Answer:
    """The manifest. It asks no database: what clients discover doesn't depend on it."""
    settings = call.node.settings
    body = {
        "server_id": settings.server_id,
        "version": settings.app_version,
        "default_namespace": settings.default_namespace,
        "capabilities": {"queries": True, "payload_codecs": ["avro"], "response_compression": []},
        "limits": {"max_payload_bytes": settings.max_payload_bytes, "max_memo_bytes": settings.max_memo_bytes},
        "topology": _topology(settings),
        "coordination_health": _coordination(call),
        "auth_composition_contract": _AUTH_COMPOSITION,
        "control_plane": {
            "version": protocol.CONTROL_VERSION,
            "header": "X-Durable-Workflow-Control-Plane-Version",
            "request_contract": _REQUEST_CONTRACT,
        },
        "worker_protocol": {
            "version": settings.protocol_version,
            "server_capabilities": protocol.capabilities(settings),
        },
    }
    if settings.expose_provenance and call.role in (ADMIN, EVERYTHING):
        body["package_provenance"] = {"source": "dw-refserver", "ref": __version__, "commit": None}
    return Answer(body)


def _topology(settings: Settings) -> dict[str, Any]:
    """Where work is matched, and the bounds within which a task is found or comes back."""
    limits = {"availability_ceiling_seconds": settings.reprobe_interval,
              "workflow_task_lease_seconds": settings.workflow_task_lease,
              "activity_task_lease_seconds": settings.activity_task_lease}  # fmt: skip
    return {
        "schema": "durable-workflow.v2.role-topology",
        "version": 1,
        "current_shape": "standalone_server",
        "current_process_class": "server_http_node",
        "current_roles": ["api_ingress", "control_plane", "matching", "history_projection"],
        "matching_role": {"queue_wake_enabled": True, "task_dispatch_mode": "poll", "discovery_limits": limits},
    }


def _coordination(call: Call) -> dict[str, Any]:
    troubles = call.node.signals.troubles
    status = "degraded" if troubles else "ok"
    checks = {"wake_signals": status, "query_tasks": "degraded" if "queries" in troubles else "ok"}
    return {"schema": "durable-workflow.v2.coordination-health", "version": 1, "status": status, "checks": checks}
