"""The routes: who may call what, and which operation's envelope the answer wears."""

from __future__ import annotations

from itertools import groupby

from starlette.routing import Route, Router

from dw_refserver import (
    activity_tasks,
    cluster_info,
    control,
    fleet,
    listings,
    namespaces,
    queries,
    readiness,
    run_commands,
    schedules,
    task_queues,
    worker_tasks,
    workers,
)
from dw_refserver.http import Endpoint, Path
from dw_refserver.node import Node
from dw_refserver.settings import ADMIN, OPERATOR, WORKER

_CONTROL = (OPERATOR, ADMIN)
_ANYBODY = (WORKER, OPERATOR, ADMIN)
_RUNS = "/api/workflows/{workflow_id}/runs"
_RUN = f"{_RUNS}/{{run_id}}"
_NAMESPACE = "/api/namespaces/{namespace}"
_SCHEDULES = "/api/schedules"
_SCHEDULE = f"{_SCHEDULES}/{{schedule_id}}"
_TASKS = "/api/worker/workflow-tasks"
_TASK = f"{_TASKS}/{{task_id}}"
_ACTIVITIES = "/api/worker/activity-tasks"
_ACTIVITY = f"{_ACTIVITIES}/{{task_id}}"
_WORKER = "/api/workers/{worker_id}"
_QUERY = "/query/{operation_name}"
_QUERIES = "/api/worker/query-tasks"
_QUERY_TASK = f"{_QUERIES}/{{query_task_id}}"
_REGISTRATION = "/api/worker/registrations/{worker_id}"
_LOST_POLL = {"task": None, "poll_status": "backend_unavailable", "retry_same_poll_request_id": True}

ENDPOINTS = (
    Endpoint("GET", "/api/health", readiness.health, versioned=False, inside=False),
    Endpoint("GET", "/api/ready", readiness.ready, versioned=False, inside=False),
    Endpoint("GET", "/api/cluster/info", cluster_info.cluster_info, _ANYBODY, versioned=False, inside=False),
    Endpoint("GET", "/api/namespaces", namespaces.every, _CONTROL, inside=False),
    Endpoint("POST", "/api/namespaces", namespaces.create, (ADMIN,), inside=False),
    Endpoint("GET", _NAMESPACE, namespaces.show, _CONTROL, inside=False),
    Endpoint("PUT", _NAMESPACE, namespaces.change, (ADMIN,), inside=False),
    Endpoint("GET", "/api/workflows", listings.list_workflows, _CONTROL, "list"),
    Endpoint("POST", "/api/workflows", control.start, _CONTROL, "start"),
    Endpoint("GET", "/api/workflows/{workflow_id}", control.describe, _CONTROL, "describe"),
    Endpoint("GET", _RUNS, listings.list_runs, _CONTROL, "list_runs"),
    Endpoint("GET", _RUN, control.describe_run, _CONTROL, "describe_run"),
    Endpoint("GET", f"{_RUN}/history", listings.history_page, _CONTROL, "history"),
    Endpoint("POST", f"/api/workflows/{{workflow_id}}{_QUERY}", queries.ask, _CONTROL, "query"),
    Endpoint("POST", f"{_RUN}{_QUERY}", queries.ask, _CONTROL, "query"),
    Endpoint("POST", "/api/workflows/{workflow_id}/signal/{signal_name}", run_commands.signal, _CONTROL, "signal"),
    Endpoint("POST", "/api/workflows/{workflow_id}/cancel", run_commands.cancel, _CONTROL, "cancel"),
    Endpoint("POST", "/api/workflows/{workflow_id}/terminate", run_commands.terminate, _CONTROL, "terminate"),
    Endpoint("POST", f"{_RUN}/signal/{{signal_name}}", run_commands.signal, _CONTROL, "signal"),
    Endpoint("POST", f"{_RUN}/cancel", run_commands.cancel, _CONTROL, "cancel"),
    Endpoint("POST", f"{_RUN}/terminate", run_commands.terminate, _CONTROL, "terminate"),
    Endpoint("GET", _SCHEDULES, schedules.listing, _CONTROL),
    Endpoint("POST", _SCHEDULES, schedules.create, _CONTROL),
    Endpoint("GET", _SCHEDULE, schedules.describe, _CONTROL),
    Endpoint("DELETE", _SCHEDULE, schedules.delete, _CONTROL),
    Endpoint("GET", f"{_SCHEDULE}/history", schedules.history, _CONTROL),
    Endpoint("POST", f"{_SCHEDULE}/pause", schedules.pause, _CONTROL),
    Endpoint("POST", f"{_SCHEDULE}/resume", schedules.resume, _CONTROL),
    Endpoint("POST", f"{_SCHEDULE}/trigger", schedules.trigger, _CONTROL),
    Endpoint("GET", "/api/task-queues", task_queues.listing, _CONTROL),
    Endpoint("GET", "/api/task-queues/{task_queue}", task_queues.show, _CONTROL),
    Endpoint("GET", "/api/workers", fleet.listing, _CONTROL),
    Endpoint("GET", _WORKER, fleet.show, _CONTROL),
    Endpoint("DELETE", _WORKER, fleet.remove, (ADMIN,)),
    Endpoint("POST", "/api/worker/register", workers.register, _ANYBODY, "register_worker"),
    Endpoint("POST", "/api/worker/heartbeat", workers.heartbeat, (WORKER,), "heartbeat_worker"),
    Endpoint("DELETE", _REGISTRATION, workers.deregister, (WORKER,), "deregister_worker"),
    Endpoint("POST", f"{_TASKS}/poll", worker_tasks.poll, (WORKER,), "poll_workflow_task", lost=_LOST_POLL),
    Endpoint("POST", f"{_TASK}/history", worker_tasks.history_page, (WORKER,), "workflow_task_history"),
    Endpoint("POST", f"{_TASK}/heartbeat", worker_tasks.heartbeat, (WORKER,), "heartbeat_workflow_task"),
    Endpoint("POST", f"{_TASK}/complete", worker_tasks.complete, (WORKER,), "complete_workflow_task"),
    Endpoint("POST", f"{_TASK}/fail", worker_tasks.fail, (WORKER,), "fail_workflow_task"),
    Endpoint("POST", f"{_ACTIVITIES}/poll", activity_tasks.poll, (WORKER,), "poll_activity_task", lost=_LOST_POLL),
    Endpoint("POST", f"{_ACTIVITY}/heartbeat", activity_tasks.heartbeat, (WORKER,), "heartbeat_activity_task"),
    Endpoint("POST", f"{_ACTIVITY}/complete", activity_tasks.complete, (WORKER,), "complete_activity_task"),
    Endpoint("POST", f"{_ACTIVITY}/fail", activity_tasks.fail, (WORKER,), "fail_activity_task"),
    Endpoint("POST", f"{_QUERIES}/poll", queries.poll, (WORKER,), "poll_query_task", lost=_LOST_POLL),
    Endpoint("POST", f"{_QUERY_TASK}/complete", queries.complete, (WORKER,), "complete_query_task"),
    Endpoint("POST", f"{_QUERY_TASK}/fail", queries.fail, (WORKER,), "fail_query_task"),
)


def application(node: Node) -> Router:
    """The ASGI application of a node."""
    by_path = groupby(ENDPOINTS, key=lambda endpoint: endpoint.path)
    routes = [Route(path, Path(node, list(endpoints))) for path, endpoints in by_path]
    return Router(routes, redirect_slashes=False, default=Path(node))
