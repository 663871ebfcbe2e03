"""A cluster that answers with what the published server 0.2.10 was recorded to answer, and just enough state between.

Ids, names and times in the recorded bodies are replaced; nothing else is. Facts about 0.2.10 that no single body shows:
it wants the worker protocol "1.0" exactly, it ignores a poll's `timeout_seconds` and holds every empty poll as long as
it advertises, and it has no route to deregister a worker.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from smallcluster.bodies import mapping
from support.recorded import CAPABILITIES, RECORDED, Reply, blob, duration, moment, recorded

TOKEN = "replayed-token"
ROUND_SECONDS = 0.05
"""The pause between two rounds of the maintenance passes; the published recipe's is 10 s."""


@dataclass(frozen=True)
class Call:
    """One request, as one node got it."""

    node: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    query: str = ""


@dataclass
class Run:
    """One workflow run. `events` are those that its next task shows last."""

    workflow: str
    id: str
    type: str
    queue: str
    arguments: dict[str, str]
    status: str = "pending"
    output: Any = None


@dataclass
class Task:
    """A workflow task or, where `activity` says what was asked for, an activity task with its one attempt."""

    id: str
    run: Run
    queue: str
    event: dict[str, Any] | None = None
    activity: dict[str, Any] | None = None
    status: str = "ready"
    owner: str = ""
    poll: str = ""
    """The request id of the poll that was given it."""
    execution: str = ""
    attempt: str = ""
    due: float = float("inf")


@dataclass
class Schedule:
    """A schedule with one interval. `next` is when it is due, seconds since the epoch."""

    body: dict[str, Any]
    next: float
    every: int
    fires: int = 0


@dataclass
class Replayed:
    """The shared state of all nodes, behind one lock; `hold` is how many seconds an empty poll is held."""

    hold: float = 0.3
    lacks: tuple[str, ...] = ()
    """Paths (regular expressions) that this server has no route for."""
    workers: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._ids = (f"01replay{number:018d}" for number in count(1))
        self._next_round = 0.0

    def answer(self, call: Call) -> Reply:
        """Answer one request as the node that got it would."""
        if any(re.fullmatch(pattern, call.path) for pattern in self.lacks):
            return self._no_route(call)
        for method, pattern, handler in ROUTES:
            found = re.fullmatch(pattern, call.path)
            if found and method == call.method:
                reply = _refusal(call) or self._locked(handler, call, found.groups())
                return self._told(call, reply)
        return self._no_route(call)

    def _no_route(self, call: Call) -> Reply:
        return recorded("198-unknown-path", message=f"The route {call.path[1:]} could not be found.")

    def _locked(self, handler: Handler, call: Call, ids: tuple[str, ...]) -> Reply:
        with self._changed:
            return handler(self, call, *ids)

    def _told(self, call: Call, reply: Reply) -> Reply:
        """Every worker answer tells the capabilities, which the recordings of them leave out."""
        if not call.path.startswith("/api/worker/"):
            return reply
        return Reply(
            reply.status, reply.body | {"server_capabilities": CAPABILITIES | {"long_poll_timeout": self.hold}}
        )

    # what answers

    def health(self, _: Call) -> Reply:
        return recorded("001-health", timestamp=moment())

    def ready(self, _: Call) -> Reply:
        return recorded("002-ready", timestamp=moment())

    def info(self, call: Call) -> Reply:
        reply = recorded("003-cluster-info", server_id=call.node)
        reply.body["worker_protocol"]["server_capabilities"]["long_poll_timeout"] = self.hold
        return reply

    def namespace(self, _: Call, name: str) -> Reply:
        return recorded("151-namespaces-show", name=name)

    # runs

    def start(self, call: Call) -> Reply:
        body = call.body
        known = next((run for run in self.runs.values() if run.workflow == body["workflow_id"]), None)
        run = known or self._started(body["workflow_id"], body)
        name = "025-start-duplicate" if known else "024-start-valid"
        return recorded(name, workflow_id=run.workflow, run_id=run.id, workflow_type=run.type, business_key=None)

    def _started(self, workflow: str, asked: Mapping[str, Any]) -> Run:
        arguments = {"codec": "avro", "blob": blob(asked["input"])}
        run = Run(workflow, next(self._ids), asked["workflow_type"], asked["task_queue"], arguments)
        self.runs[run.id] = run
        self._ready(Task(next(self._ids), run, run.queue))
        return run

    def _ready(self, task: Task) -> Task:
        self.tasks[task.id] = task
        self._changed.notify_all()
        return task

    def describe(self, _: Call, workflow: str, run_id: str) -> Reply:
        run = self.runs.get(run_id)
        if run is None or run.workflow != workflow:
            return recorded("042-run-unknown", workflow_id=workflow, run_id=run_id)
        told = {"workflow_id": workflow, "run_id": run.id, "workflow_type": run.type, "task_queue": run.queue}
        told |= {"input_envelope": run.arguments, "business_key": None, "memo": None}
        if run.status != "completed":
            return recorded("041-run", status=run.status, **told)
        return recorded("138-describe-completed", output_envelope=run.output, operation="describe_run", **told)

    def listed(self, call: Call) -> Reply:
        wanted = re.search(r"workflow_type=([^&]+)", call.query)
        runs = [run for run in self.runs.values() if wanted is None or run.type == wanted[1]]
        template = RECORDED["036-list-status-running"]["body"]["workflows"][0]
        items = [
            template
            | {"workflow_id": run.workflow, "run_id": run.id, "workflow_type": run.type, "task_queue": run.queue}
            | {"status": run.status, "is_terminal": run.status == "completed", "business_key": None}
            for run in runs
        ]
        return recorded("036-list-status-running", workflows=items, workflow_count=len(items))

    # workers and their tasks

    def register(self, call: Call) -> Reply:
        self.workers[call.body["worker_id"]] = call.body["task_queue"]
        return recorded("008-register-valid", worker_id=call.body["worker_id"])

    def poll(self, call: Call, kind: str) -> Reply:
        worker, queue = call.body["worker_id"], call.body["task_queue"]
        if worker not in self.workers:
            return recorded("047-wf-poll-unregistered", worker_id=worker)
        if self.workers[worker] != queue:
            return recorded("048-wf-poll-queue-mismatch", worker_id=worker, requested_task_queue=queue)
        request = call.body.get("poll_request_id", "")
        for task in self.tasks.values():
            if request and kind == "workflow" and (task.owner, task.poll, task.status) == (worker, request, "leased"):
                return self._workflow_task(task, call)
        deadline = time.monotonic() + self.hold
        while True:
            self._maintain()
            for task in self.tasks.values():
                if (
                    task.status == "ready"
                    and task.queue == queue
                    and (task.activity is not None) == (kind == "activity")
                ):
                    return self._activity(task, worker) if task.activity else self._workflow_task(task, call)
            left = deadline - time.monotonic()
            if left <= 0:
                return recorded("052-wf-poll-empty-after-timeout" if kind == "workflow" else "070-act-poll-empty")
            self._changed.wait(min(left, ROUND_SECONDS))

    def _workflow_task(self, task: Task, call: Call) -> Reply:
        worker = call.body["worker_id"]
        task.status, task.owner, task.poll = "leased", worker, call.body.get("poll_request_id", "")
        run = task.run
        reply = recorded(
            "082-wf-poll-after-activity" if task.event else "050-wf-poll-with-task",
            task_id=task.id, workflow_id=run.workflow, run_id=run.id, workflow_type=run.type, run_status=run.status,
            arguments=run.arguments, task_queue=run.queue, lease_owner=worker, lease_expires_at=moment(60),
        )  # fmt: skip
        if task.event:
            last = reply.body["task"]["history_events"][-1]
            last["payload"] |= task.event["payload"]
            last["event_type"] = task.event["event_type"]
        return reply

    def _activity(self, task: Task, worker: str) -> Reply:
        asked = task.activity or {}
        task.status, task.owner, task.attempt = "leased", worker, next(self._ids).upper()
        task.due = time.time() + asked.get("start_to_close_timeout", 300)
        reply = recorded(
            "069-act-poll-with-task",
            task_id=task.id, workflow_id=task.run.workflow, run_id=task.run.id, activity_execution_id=task.execution,
            activity_attempt_id=task.attempt, activity_type=asked["activity_type"], task_queue=task.queue,
            lease_owner=worker, lease_expires_at=moment(300),
        )  # fmt: skip
        if asked.get("arguments") is not None:  # recorded without any: fields that are null are left out
            reply.body["task"]["arguments"] = asked["arguments"]
        return reply

    def complete(self, call: Call, identity: str) -> Reply:
        task, attempt = self.tasks.get(identity), call.body["workflow_task_attempt"]
        told: dict[str, Any] = {"task_id": identity, "workflow_task_attempt": attempt}
        if task is None or task.activity:
            return recorded("062-wf-task-complete-unknown", **told)
        if task.status != "leased" and task.run.status == "completed":
            closed = {"stop_reason": "run_completed", "run_status": "completed", "run_closed_reason": "completed"}
            return recorded("124-wf-task-complete-after-cancel", task_status="completed", **told, **closed)
        if task.status != "leased":
            return recorded("067-wf-task-complete-again", **told)
        if task.owner != call.body["lease_owner"]:
            return recorded("060-wf-task-complete-wrong-owner", lease_owner=task.owner, **told)
        if attempt != 1:
            return recorded("061-wf-task-complete-wrong-attempt", **told)
        return self._commanded(task, call.body["commands"][0], told)

    def _commanded(self, task: Task, command: dict[str, Any], told: dict[str, Any]) -> Reply:
        run = task.run
        if command["type"] == "complete_workflow":
            task.status, run.status, run.output = "completed", "completed", command["result"]
            return recorded("137-wf-complete-workflow", run_id=run.id, **told)
        if command["type"] == "schedule_activity":
            task.status, run.status = "completed", "waiting"
            made = self._ready(Task(next(self._ids), run, command["queue"], None, command, execution=next(self._ids)))
            ids = [made.id]
            return recorded("066-wf-task-complete-schedule-activity", run_id=run.id, created_task_ids=ids, **told)
        return recorded("064-wf-task-complete-unknown-command")

    def beat(self, call: Call, identity: str) -> Reply:
        task, told = self._claimed(call, identity)
        return task if isinstance(task, Reply) else recorded("071-act-heartbeat", lease_owner=task.owner, **told)

    def complete_activity(self, call: Call, identity: str) -> Reply:
        task, told = self._claimed(call, identity)
        if isinstance(task, Reply):
            return task
        if task.status != "leased":
            return recorded("081-act-complete-again", **told)
        result = mapping(call.body["result"]).get("blob")
        following = self._closed(task, "ActivityCompleted", result=result)
        return recorded("080-act-complete", next_task_id=following.id, **told)

    def _claimed(self, call: Call, identity: str) -> tuple[Task | Reply, dict[str, Any]]:
        """The activity task that a call names, or the answer that refuses the call."""
        task, attempt = self.tasks.get(identity), call.body["activity_attempt_id"]
        told = {"task_id": identity, "activity_attempt_id": attempt}
        if task is None or not task.activity:
            return recorded("074-act-heartbeat-unknown-task", **told), told
        if task.attempt != attempt:
            return recorded("073-act-heartbeat-unknown-attempt", **told), told
        if task.owner != call.body["lease_owner"]:
            return recorded("078-act-complete-wrong-owner", lease_owner=task.owner, **told), told
        return task, told

    def _closed(self, task: Task, kind: str, **payload: Any) -> Task:
        """Close an activity; its workflow's next task shows how. (ActivityTimedOut was not recorded: as published.)"""
        task.status = "completed"
        payload |= {"activity_execution_id": task.execution, "activity_attempt_id": task.attempt}
        event = {"event_type": kind, "payload": payload}
        return self._ready(Task(next(self._ids), task.run, task.run.queue, event))

    # schedules and the maintenance passes

    def create_schedule(self, call: Call) -> Reply:
        name, interval = call.body["schedule_id"], call.body["spec"]["intervals"][0]
        if name in self.schedules:
            return recorded("165-schedule-create-duplicate", schedule_id=name)
        every, offset = duration(interval["every"]), duration(interval["offset"])
        now = time.time()
        due = now - (now - offset) % every + every
        self.schedules[name] = Schedule(call.body, due, every)
        return recorded("164-schedule-create", schedule_id=name)

    def show_schedule(self, _: Call, name: str) -> Reply:
        schedule = self.schedules.get(name)
        if schedule is None:
            return recorded("179-schedule-describe-deleted")
        told = {key: schedule.body[key] for key in ("spec", "action", "overlap_policy")}
        reply = recorded("168-schedule-describe", schedule_id=name, **told)
        due = datetime.fromtimestamp(schedule.next, UTC).isoformat(timespec="seconds")
        reply.body["info"] |= {"next_fire": due, "fires_count": schedule.fires}
        return reply

    def delete_schedule(self, _: Call, name: str) -> Reply:
        gone = self.schedules.pop(name, None)
        return recorded("178-schedule-delete", schedule_id=name) if gone else recorded("179-schedule-describe-deleted")

    def _maintain(self) -> None:
        """One round of schedule:evaluate and activity:timeout-enforce, where one is due."""
        now = time.time()
        if now < self._next_round:
            return
        self._next_round = now + ROUND_SECONDS
        for schedule in self.schedules.values():
            if schedule.next <= now:
                self._started(next(self._ids), schedule.body["action"])
                schedule.next += schedule.every
                schedule.fires += 1
        for task in list(self.tasks.values()):
            if task.status == "leased" and task.due <= now:
                self._closed(task, "ActivityTimedOut", timeout_kind="start_to_close")


Handler = Callable[..., Reply]
ID = "([^/]+)"
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/api/health", Replayed.health),
    ("GET", "/api/ready", Replayed.ready),
    ("GET", "/api/cluster/info", Replayed.info),
    ("GET", f"/api/namespaces/{ID}", Replayed.namespace),
    ("POST", "/api/workflows", Replayed.start),
    ("GET", "/api/workflows", Replayed.listed),
    ("GET", f"/api/workflows/{ID}/runs/{ID}", Replayed.describe),
    ("POST", "/api/worker/register", Replayed.register),
    ("POST", "/api/worker/(workflow|activity)-tasks/poll", Replayed.poll),
    ("POST", f"/api/worker/workflow-tasks/{ID}/complete", Replayed.complete),
    ("POST", f"/api/worker/activity-tasks/{ID}/heartbeat", Replayed.beat),
    ("POST", f"/api/worker/activity-tasks/{ID}/complete", Replayed.complete_activity),
    ("POST", "/api/schedules", Replayed.create_schedule),
    ("GET", f"/api/schedules/{ID}", Replayed.show_schedule),
    ("DELETE", f"/api/schedules/{ID}", Replayed.delete_schedule),
)


def _refusal(call: Call) -> Reply | None:
    """The answer to a call without a token, or with another protocol version than the only one it may have."""
    if call.path in ("/api/health", "/api/ready"):
        return None
    if call.headers.get("Authorization") != f"Bearer {TOKEN}":
        return recorded("006-cluster-info-no-token")
    if call.path.startswith("/api/worker/"):
        version = call.headers.get("X-Durable-Workflow-Protocol-Version")
        return None if version == "1.0" else recorded("014-register-unsupported-protocol", requested_version=version)
    if call.path != "/api/cluster/info" and call.headers.get("X-Durable-Workflow-Control-Plane-Version") != "2":
        return recorded("031-start-no-control-plane-header")
    return None
