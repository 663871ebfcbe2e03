"""GET /api/cluster/info: what this node is and can do. Only what is implemented is advertised as true."""

from __future__ import annotations

from typing import Any

from dw_refserver import __version__, protocol
from dw_refserver.auth import EVERYTHING
from dw_refserver.http import Answer, Call
from dw_refserver.protocol import OPERATIONS
from dw_refserver.settings import ADMIN, Settings
from dw_refserver.store import workers

_AUTH_COMPOSITION = {
    "schema": "durable-workflow.v2.auth-composition.contract",
    "version": 1,
    "precedence": {
        "connection_values": ["flag", "environment", "profile", "default"],
        "profile_selection": ["flag", "environment", "default"],
    },
    "canonical_environment": {
        "server_url": "DURABLE_WORKFLOW_SERVER_URL",
        "namespace": "DURABLE_WORKFLOW_NAMESPACE",
        "auth_token": "DURABLE_WORKFLOW_AUTH_TOKEN",
        "tls_verify": "DURABLE_WORKFLOW_TLS_VERIFY",
        "profile": "DW_ENV",
    },
    "auth_material": {
        "token": {"status": "supported", "effective_config_value": "redacted"},
        "mtls": {"status": "reserved"},
        "signed_headers": {"status": "reserved"},
    },
    "effective_config": {"required_fields": ["server_url", "namespace", "profile", "auth", "tls", "identity"]},
    "redaction": {"never_echo": ["bearer_tokens", "private_keys", "raw_authorization_headers"]},
}
"""Clients compare this manifest strictly."""

_REQUEST_CONTRACT = {
    "schema": "durable-workflow.v2.control-plane-request.contract",
    "version": 1,
    "operations": {
        "list": {"fields": {"status": {"canonical_values": ["running", "completed", "failed"]}}},
        "start": {
            "fields": {
                "duplicate_policy": {"canonical_values": ["fail", "use-existing"]},
                "execution_timeout_seconds": {"type": "integer", "min": 1},
                "run_timeout_seconds": {"type": "integer", "min": 1},
                "payload_codec": {"type": "string", "canonical_values": ["avro"]},
            },
            "unsupported_fields": [
                "workflow_execution_timeout", "workflow_run_timeout", "workflow_task_timeout", "retry_policy",
                "idempotency_key", "request_id",
            ],
        },
        "update": {
            "fields": {"wait_for": {"canonical_values": ["accepted", "completed"]}},
            "removed_fields": {"wait_policy": "Use wait_for."},
        },
    },
}  # fmt: skip

_CAPABILITIES = {
    "workflow_tasks": True, "activity_tasks": False, "signals": False, "queries": False, "updates": False,
    "schedules": False, "search_attributes": False, "history_export": False, "continue_as_new": False,
    "child_workflows": False, "activity_timeouts": False, "activity_retry_policy": False, "history_retention": True,
    "payload_codec_envelope": True, "payload_codec_envelope_responses": True, "payload_codecs": ["avro"],
    "response_compression": [],
}  # fmt: skip


async def cluster_info(call: Call) -> Answer:
    """The manifest, with the worker counts of the caller's namespace."""
    settings = call.node.settings
    active, scopes = await workers.active(call.node.db, call.namespace, settings.stale_after)
    fleet = {"namespace": call.namespace, "active_workers": active, "active_worker_scopes": scopes,
             "queues": [], "build_ids": [], "workers": []}  # fmt: skip
    body = {
        "server_id": settings.server_id,
        "version": settings.app_version,
        "default_namespace": settings.default_namespace,
        "supported_sdk_versions": {"python": ">=2.0,<3.0"},
        "capabilities": _CAPABILITIES,
        "worker_fleet": fleet,
        "task_repair": {"policy": {"strategy": "lease_expiry_on_poll"}, "candidates": {"total_candidates": 0}},
        "limits": _limits(settings),
        "structural_limits": {"command_batch_size": 1000, "payload_size_bytes": settings.max_payload_bytes,
                              "memo_size_bytes": settings.max_memo_bytes},
        "topology": _topology(settings),
        "coordination_health": _coordination(call),
        "client_compatibility": _client_compatibility(settings),
        "auth_composition_contract": _AUTH_COMPOSITION,
        "control_plane": _control_plane(),
        "worker_protocol": {"version": settings.protocol_version,
                            "server_capabilities": protocol.capabilities(settings)},
    }  # fmt: skip
    if settings.expose_provenance and call.role in (ADMIN, EVERYTHING):
        body["package_provenance"] = _provenance()
    return Answer(body)


def _provenance() -> dict[str, Any]:
    return {"source": "dw-refserver", "ref": __version__, "commit": None}


def _limits(settings: Settings) -> dict[str, int]:
    return {
        "max_payload_bytes": settings.max_payload_bytes,
        "max_memo_bytes": settings.max_memo_bytes,
        "max_search_attributes": 100,
        "max_search_attribute_key_length": 128,
        "max_search_attribute_value_bytes": 2048,
        "max_operation_name_length": 256,
        "max_pending_activities": 2000,
        "max_pending_children": 2000,
    }


def _topology(settings: Settings) -> dict[str, Any]:
    limits = {"poll_batch_cap": 1, "availability_ceiling_seconds": settings.reprobe_interval,
              "workflow_task_lease_seconds": settings.workflow_task_lease}  # fmt: skip
    return {
        "schema": "durable-workflow.v2.role-topology",
        "version": 1,
        "supported_shapes": ["standalone_server"],
        "current_shape": "standalone_server",
        "current_process_class": "server_http_node",
        "current_roles": ["api_ingress", "control_plane", "matching", "history_projection"],
        "execution_mode": "remote_worker_protocol",
        "matching_role": {"queue_wake_enabled": True, "task_dispatch_mode": "poll", "discovery_limits": limits},
    }


def _coordination(call: Call) -> dict[str, Any]:
    troubles = sorted(call.node.signals.troubles)
    checks = {"wake_signals": "degraded" if troubles else "ok"}
    return {"schema": "durable-workflow.v2.coordination-health", "version": 1,
            "status": "degraded" if troubles else "ok", "checks": checks}  # fmt: skip


def _client_compatibility(settings: Settings) -> dict[str, Any]:
    required = {
        "auth_composition": {"schema": _AUTH_COMPOSITION["schema"], "version": 1},
        "control_plane": {"version": protocol.CONTROL_VERSION},
        "worker_protocol": {"version": settings.protocol_version},
    }
    return {"schema": "durable-workflow.v2.client-compatibility", "version": 1, "authority": "protocol_manifests",
            "top_level_version_role": "informational", "fail_closed": True, "required_protocols": required}  # fmt: skip


def _control_plane() -> dict[str, Any]:
    operations = {name: {"required_fields": required, "success_fields": success}
                  for name, (required, success) in OPERATIONS.items()}  # fmt: skip
    return {
        "version": protocol.CONTROL_VERSION,
        "header": "X-Durable-Workflow-Control-Plane-Version",
        "response_contract": {
            "schema": "durable-workflow.v2.control-plane-response",
            "version": 1,
            "contract": protocol.response_contract_head(),
            "operations": operations,
        },
        "request_contract": _REQUEST_CONTRACT,
    }
