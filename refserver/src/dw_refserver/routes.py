"""The routes: who may call what, and which operation's envelope the answer wears."""

from __future__ import annotations

from itertools import groupby

from starlette.routing import Route, Router

from dw_refserver import activity_tasks, cluster_info, control, readiness, worker_tasks, workers
from dw_refserver.http import Endpoint, Path
from dw_refserver.node import Node
from dw_refserver.settings import ADMIN, OPERATOR, WORKER

_CONTROL = (OPERATOR, ADMIN)
_ANYBODY = (WORKER, OPERATOR, ADMIN)
_RUN = "/api/workflows/{workflow_id}/runs/{run_id}"
_TASKS = "/api/worker/workflow-tasks"
_TASK = f"{_TASKS}/{{task_id}}"
_ACTIVITIES = "/api/worker/activity-tasks"
_ACTIVITY = f"{_ACTIVITIES}/{{task_id}}"
_LOST_POLL = {"task": None, "poll_status": "backend_unavailable", "retry_same_poll_request_id": True}

ENDPOINTS = (
    Endpoint("GET", "/api/health", readiness.health, versioned=False),
    Endpoint("GET", "/api/ready", readiness.ready, versioned=False),
    Endpoint("GET", "/api/cluster/info", cluster_info.cluster_info, _ANYBODY, versioned=False),
    Endpoint("POST", "/api/workflows", control.start, _CONTROL, "start"),
    Endpoint("GET", "/api/workflows/{workflow_id}", control.describe, _CONTROL, "describe"),
    Endpoint("GET", _RUN, control.describe_run, _CONTROL, "describe_run"),
    Endpoint("POST", "/api/worker/register", workers.register, _ANYBODY, "register_worker"),
    Endpoint("POST", "/api/worker/heartbeat", workers.heartbeat, (WORKER,), "heartbeat_worker"),
    Endpoint("POST", f"{_TASKS}/poll", worker_tasks.poll, (WORKER,), "poll_workflow_task", lost=_LOST_POLL),
    Endpoint("POST", f"{_TASK}/history", worker_tasks.history_page, (WORKER,), "workflow_task_history"),
    Endpoint("POST", f"{_TASK}/heartbeat", worker_tasks.heartbeat, (WORKER,), "heartbeat_workflow_task"),
    Endpoint("POST", f"{_TASK}/complete", worker_tasks.complete, (WORKER,), "complete_workflow_task"),
    Endpoint("POST", f"{_TASK}/fail", worker_tasks.fail, (WORKER,), "fail_workflow_task"),
    Endpoint("POST", f"{_ACTIVITIES}/poll", activity_tasks.poll, (WORKER,), "poll_activity_task", lost=_LOST_POLL),
    Endpoint("POST", f"{_ACTIVITY}/heartbeat", activity_tasks.heartbeat, (WORKER,), "heartbeat_activity_task"),
    Endpoint("POST", f"{_ACTIVITY}/complete", activity_tasks.complete, (WORKER,), "complete_activity_task"),
    Endpoint("POST", f"{_ACTIVITY}/fail", activity_tasks.fail, (WORKER,), "fail_activity_task"),
)


def application(node: Node) -> Router:
    """The ASGI application of a node."""
    by_path = groupby(ENDPOINTS, key=lambda endpoint: endpoint.path)
    routes = [Route(path, Path(node, list(endpoints))) for path, endpoints in by_path]
    return Router(routes, redirect_slashes=False, default=Path(node))
