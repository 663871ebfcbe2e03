"""The external worker that checks work with: registered under a name, on a queue and for types of its own."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import requests

from smallcluster.api import Api, Exchange, JsonBody, with_own_input
from smallcluster.bodies import mapping, seconds
from smallcluster.checks.base import Live

HOLD_SECONDS = 5
"""How long a node may hold a poll for work that is there already, or is about to be."""

CROWDED_SECONDS = 20.0
"""How long a poll is sent again to a node that says it holds as many as it can."""

WORKFLOW_TYPE = "smallcluster.smoke"
ACTIVITY_TYPE = "smallcluster.smoke.activity"
GIVEN = ["small", "cluster"]
"""What every workflow is started with; its payload, in whatever codec the server speaks, is also the result."""


@dataclass(frozen=True)
class Worker:
    """One external worker with a task queue of its own: checks that run side by side take no task of each other's."""

    live: Live
    purpose: str
    mark: str = field(default_factory=lambda: secrets.token_hex(4))
    suffix: str = ""
    """Tells workers on one queue apart."""
    only_queue: str = ""
    """A queue that is named elsewhere, instead of one that nobody else polls."""

    @property
    def name(self) -> str:
        """The worker id."""
        return f"smoke-{self.purpose}-worker-{self.mark}{self.suffix}"

    @property
    def queue(self) -> str:
        """The task queue that nobody else polls, or the one it was given."""
        return self.only_queue or f"smoke-{self.purpose}-{self.mark}"

    @property
    def workflow_type(self) -> str:
        """A workflow type of its own, so that a listing by type shows this worker's runs alone."""
        return f"{WORKFLOW_TYPE}.{self.purpose}.{self.mark}"

    def register(self, route: str) -> Exchange:
        """Register for the one workflow type and the one activity type."""
        self.live.workers.add(self.name)
        return self.live.api(route).register_worker(self.name, self.queue, self.workflow_type, ACTIVITY_TYPE)

    def start(self, route: str, suffix: str = "", session: requests.Session | None = None) -> Exchange:
        """Start a workflow that this worker will be given; `suffix` tells several apart."""
        workflow = f"smoke-{self.purpose}-{self.mark}{suffix}"
        return self.live.api(route, session).start_workflow(workflow, self.workflow_type, self.queue, GIVEN)

    def poll(
        self, route: str, hold: int = HOLD_SECONDS, session: requests.Session | None = None, request_id: str = ""
    ) -> Exchange:
        """Poll for a workflow task; under a request id, or as a poll of its own."""
        api = self.live.api(route, session)
        return _admitted(lambda: api.poll_workflow_task(self.name, self.queue, hold, request_id))

    def wait_for_task(self, route: str, patience: float) -> Exchange:
        """Poll until there is a workflow task, or for `patience` seconds: a server may hold a poll for less than that.

        Gives the last answer. A poll that fails ends it: only an empty answer is followed by another poll.
        """
        deadline = time.monotonic() + patience
        while True:
            answer = self.poll(route, max(1, math.ceil(deadline - time.monotonic())))
            if task_in(answer) or not answer.ok or time.monotonic() > deadline:
                return answer

    def poll_activity(self, route: str, hold: int = HOLD_SECONDS) -> Exchange:
        """Poll for an activity task."""
        api = self.live.api(route)
        return _admitted(lambda: api.poll_activity_task(self.name, self.queue, hold))


def _admitted(poll: Callable[[], Exchange]) -> Exchange:
    """Poll, and again where a node that holds all the polls it can says, as the protocol has it, to come back later."""
    deadline = time.monotonic() + CROWDED_SECONDS
    while True:
        answer = poll()
        crowded = answer.status == 429 and answer.body.get("reason") == "long_poll_capacity_exhausted"
        if not crowded or time.monotonic() > deadline:
            return answer
        time.sleep(min(seconds(answer.body.get("retry_after_seconds")) or 1.0, 5.0))


def task_in(answer: Exchange | None) -> JsonBody:
    """The task that a poll was given; empty where it was given none."""
    return mapping(answer.body.get("task")) if answer else {}


def finish(api: Api, task: JsonBody) -> Exchange:
    """Complete a workflow with its own input as the result: a valid payload in whatever codec the server speaks."""
    return api.complete_workflow_task(task, with_own_input(task))


def schedule_activity(api: Api, task: JsonBody, **timeouts: int) -> Exchange:
    """Complete a workflow task by scheduling one activity, given the workflow's own input, on the same queue."""
    command = {"type": "schedule_activity", "activity_type": ACTIVITY_TYPE, "arguments": task.get("arguments")}
    return api.complete_workflow_task(task, [command | {"queue": task.get("task_queue")} | timeouts])
