"""The routes: who may call what, and which operation's envelope the answer wears."""

from __future__ import annotations

from itertools import groupby

from starlette.routing import Route, Router

from dw_refserver import cluster_info, control, readiness, worker_tasks, workers
from dw_refserver.http import Endpoint, Path, not_found
from dw_refserver.node import Node
from dw_refserver.settings import ADMIN, OPERATOR, WORKER

_CONTROL = (OPERATOR, ADMIN)
_ANYBODY = (WORKER, OPERATOR, ADMIN)
_TASK = "/api/worker/workflow-tasks/{task_id}"
_POLL_LOST = {"operation": "poll_workflow_task", "task": None, "poll_status": "backend_unavailable",
              "retry_same_poll_request_id": True}  # fmt: skip

ENDPOINTS = (
    Endpoint("GET", "/api/health", readiness.health, versioned=False),
    Endpoint("GET", "/api/ready", readiness.ready, versioned=False),
    Endpoint("GET", "/api/cluster/info", cluster_info.cluster_info, _ANYBODY, versioned=False),
    Endpoint("POST", "/api/workflows", control.start, _CONTROL, "start"),
    Endpoint("GET", "/api/workflows/{workflow_id}", control.describe, _CONTROL, "describe"),
    Endpoint("GET", "/api/workflows/{workflow_id}/runs/{run_id}", control.describe_run, _CONTROL, "describe_run"),
    Endpoint("POST", "/api/worker/register", workers.register, _ANYBODY, lost={"operation": "register_worker"}),
    Endpoint("POST", "/api/worker/heartbeat", workers.heartbeat, (WORKER,), lost={"operation": "heartbeat_worker"}),
    Endpoint("POST", "/api/worker/workflow-tasks/poll", worker_tasks.poll, (WORKER,), lost=_POLL_LOST),
    Endpoint(
        "POST", f"{_TASK}/history", worker_tasks.history_page, (WORKER,), lost={"operation": "workflow_task_history"}
    ),
    Endpoint(
        "POST", f"{_TASK}/heartbeat", worker_tasks.heartbeat, (WORKER,), lost={"operation": "heartbeat_workflow_task"}
    ),
    Endpoint(
        "POST", f"{_TASK}/complete", worker_tasks.complete, (WORKER,), lost={"operation": "complete_workflow_task"}
    ),
    Endpoint("POST", f"{_TASK}/fail", worker_tasks.fail, (WORKER,), lost={"operation": "fail_workflow_task"}),
)


def application(node: Node) -> Router:
    """The ASGI application of a node."""
    by_path = groupby(ENDPOINTS, key=lambda endpoint: endpoint.path)
    routes = [Route(path, Path(node, list(endpoints))) for path, endpoints in by_path]
    return Router(routes, redirect_slashes=False, default=not_found(node))
