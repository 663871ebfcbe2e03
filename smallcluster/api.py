"""The control plane and the worker plane over plain requests. Never retries: a retry would erase the evidence.

Source for paths, headers and fields: the public Durable Workflow v2 protocol.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import quote

import requests

from smallcluster.bodies import mapping

Plane = Literal["open", "control", "admin", "worker"]
JsonBody = dict[str, Any]

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
"""How long an ordinary request may take before its outcome counts as not known."""

CONTROL_HEADER = "X-Durable-Workflow-Control-Plane-Version"
WORKER_HEADER = "X-Durable-Workflow-Protocol-Version"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request and what came back. `status` None: no answer, so its effect is not known."""

    route: str
    method: str
    path: str
    sent: JsonBody | None
    status: int | None
    body: JsonBody
    text: str
    problem: str
    at: float
    """Wall clock at sending, seconds since the epoch."""
    seconds: float
    date: str = ""
    """The answer's Date header, where it has one."""

    @property
    def ok(self) -> bool:
        """Whether the answer was a 2xx."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def shown(self) -> str:
        """The exchange in one line for a person: who, what, status, and the reason or the body's start."""
        head = f"{self.method} {self.path} via {self.route}"
        if self.status is None:
            return f"{head} → no answer after {self.seconds:.1f} s ({self.problem})"
        reason = self.body.get("reason") or self.body.get("error") or self.body.get("message")
        return f"{head} → {self.status}" + (f" {reason}" if not self.ok and reason else self._odd_text())

    def _odd_text(self) -> str:
        return "" if self.ok and self.body else f" {self.text[:160]!r}"


@dataclass(frozen=True, kw_only=True)
class Speech:
    """How a server speaks to workers: which protocol version, and how long it holds an empty poll, in seconds."""

    worker_protocol: str = "1.0"
    longest_hold: float = 0.0
    honours_timeouts: bool = True
    """Whether a poll's `timeout_seconds` shortens its hold; a server that ignores it holds every poll as long."""

    def hold(self, asked: float) -> float:
        """How long a poll that asks to be held for `asked` seconds is held where there is no task."""
        return asked if self.honours_timeouts else self.longest_hold


UNHEARD = Speech()
"""The speech of a server that has not been asked yet."""


@dataclass(frozen=True)
class Credentials:
    """Bearer tokens by plane. Where roles have no token of their own both are the shared one."""

    control: str
    worker: str
    admin: str


@dataclass(frozen=True, slots=True)
class Call:
    """A POST as the protocol wants it, for whichever client sends it: path, body, plane, seconds to wait for it."""

    path: str
    body: JsonBody
    plane: Plane
    patience: float = ANSWER_SECONDS


def registration(worker_id: str, queue: str, workflow_type: str, *activity_types: str) -> Call:
    """Register an external worker for one workflow type, and for activity types, on one task queue."""
    body = {
        "worker_id": worker_id,
        "task_queue": queue,
        "runtime": "python",
        "supported_workflow_types": [workflow_type],
        "supported_activity_types": activity_types,
    }
    return Call("/api/worker/register", body, "worker")


def start(workflow_id: str, workflow_type: str, queue: str, given: list[Any]) -> Call:
    """Start a workflow; `given` is its list of positional arguments as plain JSON."""
    body = {
        "workflow_id": workflow_id,
        "workflow_type": workflow_type,
        "task_queue": queue,
        "input": given,
    }
    return Call("/api/workflows", body, "control")


def poll(worker_id: str, queue: str, hold: int, kind: str = "workflow", request_id: str = "") -> Call:
    """Long-poll for a task of a kind, workflow or activity; the node may hold the request for `hold` seconds.

    A poll that is sent again under its `request_id` asks for the task that it was given before.
    """
    body = {"worker_id": worker_id, "task_queue": queue, "timeout_seconds": hold}
    body |= {"poll_request_id": request_id} if request_id else {}
    return Call(f"/api/worker/{kind}-tasks/poll", body, "worker", patience=hold + ANSWER_SECONDS)


def completion(task: JsonBody, commands: list[JsonBody]) -> Call:
    """Complete a leased workflow task, named by the poll's answer, with workflow commands."""
    return Call(f"{_of_workflow_task(task)}/complete", _claim_of(task) | {"commands": commands}, "worker")


def with_own_input(task: JsonBody) -> list[JsonBody]:
    """Complete a workflow with its own input as the result: a valid payload in whatever codec the server speaks."""
    return [{"type": "complete_workflow", "result": task.get("arguments")}]


@dataclass(frozen=True, kw_only=True)
class Api:
    """Speaks to one route (the balancer or one node). Each exchange goes to `record` as it ends."""

    route: str
    base: str | None
    """Base URL, or None where the route has no address: then no request gets an answer."""
    credentials: Credentials
    record: Callable[[Exchange], None]
    namespace: str = "default"
    speech: Speech = UNHEARD
    session: requests.Session | None = None
    """None: every request opens a connection of its own, as many separate clients would."""
    verify: bool | str = True
    """A file of certificates to trust, or True for whoever the machine trusts."""

    def get(self, path: str, plane: Plane = "control") -> Exchange:
        """GET a path."""
        return self._send("GET", path, None, plane, ANSWER_SECONDS)

    def post(self, path: str, body: JsonBody, plane: Plane, patience: float = ANSWER_SECONDS) -> Exchange:
        """POST a JSON body; `patience` is how many seconds to wait for the answer."""
        return self._send("POST", path, body, plane, patience)

    def delete(self, path: str, plane: Plane = "control") -> Exchange:
        """DELETE a path."""
        return self._send("DELETE", path, None, plane, ANSWER_SECONDS)

    def register_worker(self, worker_id: str, queue: str, workflow_type: str, *activity_types: str) -> Exchange:
        """Register an external worker for one workflow type, and for activity types, on one task queue."""
        return self.send(registration(worker_id, queue, workflow_type, *activity_types))

    def deregister_worker(self, worker_id: str) -> Exchange:
        """Take a worker's registration away, where the server has a route for that (0.2.10 has none)."""
        return self.delete(f"/api/worker/registrations/{_segment(worker_id)}", "worker")

    def start_workflow(self, workflow_id: str, workflow_type: str, queue: str, given: list[Any]) -> Exchange:
        """Start a workflow; `given` is its list of positional arguments as plain JSON."""
        return self.send(start(workflow_id, workflow_type, queue, given))

    def poll_workflow_task(self, worker_id: str, queue: str, hold: int, request_id: str = "") -> Exchange:
        """Long-poll for a workflow task, and ask the node to hold the request for at most `hold` seconds."""
        return self._poll(poll(worker_id, queue, hold, request_id=request_id), hold)

    def poll_activity_task(self, worker_id: str, queue: str, hold: int) -> Exchange:
        """Long-poll for an activity task."""
        return self._poll(poll(worker_id, queue, hold, "activity"), hold)

    def _poll(self, call: Call, hold: int) -> Exchange:
        return self.send(replace(call, patience=self.speech.hold(hold) + ANSWER_SECONDS))

    def complete_workflow_task(self, task: JsonBody, commands: list[JsonBody]) -> Exchange:
        """Complete a leased workflow task, named by the poll's answer, with workflow commands."""
        return self.send(completion(task, commands))

    def fail_workflow_task(self, task: JsonBody, message: str) -> Exchange:
        """Say that a leased workflow task could not be finished."""
        failure = {"message": message, "type": "SmokeFailure"}
        return self.post(f"{_of_workflow_task(task)}/fail", _claim_of(task) | {"failure": failure}, "worker")

    def heartbeat_workflow_task(self, task: JsonBody) -> Exchange:
        """Say that a leased workflow task is still being worked on."""
        return self.post(f"{_of_workflow_task(task)}/heartbeat", _claim_of(task), "worker")

    def query(self, workflow_id: str, name: str, patience: float) -> Exchange:
        """Ask a workflow's current run; a worker's answer is waited for."""
        return self.post(f"/api/workflows/{_segment(workflow_id)}/query/{_segment(name)}", {}, "control", patience)

    def poll_query_task(self, worker_id: str, queue: str, hold: int) -> Exchange:
        """Long-poll for a query task."""
        return self._poll(poll(worker_id, queue, hold, "query"), hold)

    def complete_query_task(self, task: JsonBody, result: str) -> Exchange:
        """Answer a query with a text."""
        claim = {"lease_owner": task.get("lease_owner"), "query_task_attempt": task.get("query_task_attempt")}
        path = f"/api/worker/query-tasks/{_segment(task.get('query_task_id'))}/complete"
        return self.post(path, claim | {"result": result}, "worker")

    def heartbeat_activity_task(self, task: JsonBody) -> Exchange:
        """Say that a leased activity is still being worked on."""
        path = f"/api/worker/activity-tasks/{_segment(task.get('task_id'))}/heartbeat"
        return self.post(path, _attempt_of(task), "worker")

    def complete_activity_task(self, task: JsonBody, result: JsonBody | None) -> Exchange:
        """Complete a leased activity task with a payload envelope."""
        body = _attempt_of(task) | {"result": result}
        return self.post(f"/api/worker/activity-tasks/{_segment(task.get('task_id'))}/complete", body, "worker")

    def terminate(self, workflow_id: str, reason: str) -> Exchange:
        """End a workflow's current run at once."""
        return self.post(f"/api/workflows/{_segment(workflow_id)}/terminate", {"reason": reason}, "control")

    def send(self, call: Call) -> Exchange:
        """POST a call of the protocol."""
        return self.post(call.path, call.body, call.plane, call.patience)

    def describe(self, workflow_id: str, run_id: str | None = None) -> Exchange:
        """Describe a workflow's current run, or one run of it."""
        suffix = f"/runs/{_segment(run_id)}" if run_id else ""
        return self.get(f"/api/workflows/{_segment(workflow_id)}{suffix}")

    def history(self, workflow_id: str, run_id: str, size: int = 1000, after: str = "") -> Exchange:
        """A page of a run's history, behind the one whose token `after` is."""
        token = f"&next_page_token={_segment(after)}" if after else ""
        path = f"/api/workflows/{_segment(workflow_id)}/runs/{_segment(run_id)}/history"
        return self.get(f"{path}?page_size={size}{token}")

    def headers(self, plane: Plane) -> dict[str, str]:
        """What a request on this plane carries: token, namespace, version. It holds a secret: never print it."""
        if plane == "open":
            return {}
        token = getattr(self.credentials, plane)
        version = {WORKER_HEADER: self.speech.worker_protocol} if plane == "worker" else {CONTROL_HEADER: "2"}
        return {"Authorization": f"Bearer {token}", "X-Namespace": self.namespace, **version}

    def _send(self, method: str, path: str, body: JsonBody | None, plane: Plane, patience: float) -> Exchange:
        at, began = time.time(), time.monotonic()
        answer, problem = self._answer(method, path, body, plane, patience)
        exchange = Exchange(
            route=self.route,
            method=method,
            path=path,
            sent=body,
            status=None if answer is None else answer.status_code,
            body={} if answer is None else _json_object(answer),
            text="" if answer is None else answer.text,
            problem=problem,
            at=at,
            seconds=time.monotonic() - began,
            date="" if answer is None else answer.headers.get("Date", ""),
        )
        self.record(exchange)
        return exchange

    def _answer(
        self, method: str, path: str, body: JsonBody | None, plane: Plane, patience: float
    ) -> tuple[requests.Response | None, str]:
        """The response, or None and why none came."""
        if self.base is None:
            return None, f"{self.route} publishes no address"
        send = self.session.request if self.session else requests.request
        try:
            answer = send(
                method,
                self.base + path,
                json=body,
                headers=self.headers(plane),
                timeout=(CONNECT_SECONDS, patience),
                allow_redirects=False,
                verify=self.verify,
            )
        except requests.RequestException as failure:
            return None, _cause(failure)
        return answer, ""


def _segment(identity: object) -> str:
    """An id as one segment of a path, whatever a server made of it."""
    return quote(str(identity), safe="")


def _of_workflow_task(task: JsonBody) -> str:
    return f"/api/worker/workflow-tasks/{_segment(task.get('task_id'))}"


def _claim_of(task: JsonBody) -> JsonBody:
    """Who speaks about a workflow task: the lease owner and the attempt that the poll's answer named."""
    return {name: task.get(name) for name in ("lease_owner", "workflow_task_attempt")}


def _attempt_of(task: JsonBody) -> JsonBody:
    """Who speaks about an activity task: the attempt and the lease owner that the poll's answer named."""
    return {"activity_attempt_id": task.get("activity_attempt_id"), "lease_owner": task.get("lease_owner")}


def _json_object(answer: requests.Response) -> JsonBody:
    """The body where it is a JSON object; with half a surrogate pair in it it is none, and can't be kept or shown."""
    try:
        found = mapping(answer.json())
        if "\\ud" in answer.text.lower():
            json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}
    return found


def _cause(failure: requests.RequestException) -> str:
    """The innermost reason of a failed request, which names the real cause."""
    inner: BaseException = failure
    while inner.__cause__ or inner.__context__:
        inner = inner.__cause__ or inner.__context__ or inner
    return f"{type(failure).__name__}: {inner}"


def credentials_from(value: Callable[[str], str]) -> Credentials:
    """Choose tokens from settings: the role's own where there is one, else the shared token."""
    shared = value("DW_AUTH_TOKEN")
    control = value("DW_OPERATOR_TOKEN") or value("DW_ADMIN_TOKEN") or shared
    worker = value("DW_WORKER_TOKEN") or shared
    return Credentials(control=control, worker=worker, admin=value("DW_ADMIN_TOKEN") or control)


def transcript_of(exchange: Exchange) -> Mapping[str, Any]:
    """The exchange as one transcript record (JSON lines). Headers are left out: they hold tokens."""
    return {
        "at": exchange.at,
        "route": exchange.route,
        "method": exchange.method,
        "path": exchange.path,
        "sent": exchange.sent,
        "status": exchange.status,
        "body": exchange.body or exchange.text or None,
        "problem": exchange.problem or None,
        "milliseconds": round(exchange.seconds * 1000, 1),
    }
