"""A plain external worker, as a process of its own: polls, works, and drains when it is told to with SIGTERM.

It drains, too, when whoever started it is gone. It prints a JSON line for each operation that it sent, and how that was
answered. Its token comes in its environment.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from smallcluster.api import Api, Credentials, Exchange, JsonBody, Speech
from smallcluster.bodies import mapping, mappings, text

TOKEN = "SMALLCLUSTER_WORKER_TOKEN"  # noqa: S105 - the variable's name
ACTIVITY = "rehearsal.activity"
HOLD_SECONDS = 1
WORK_SECONDS = 0.5
"""How long an activity takes; half way it says that it is at it."""
TIMER_SECONDS = 6
"""How long a workflow's timer lasts: it comes due while nothing serves."""


def decide(workflow_type: str, task: JsonBody) -> list[JsonBody]:
    """What a workflow of the rehearsal does next, by its type's last part and what its history holds."""
    seen = {text(event.get("event_type")) for event in mappings(task.get("history_events"))}
    kind = workflow_type.rpartition(".")[2]
    if kind == "activity" and "ActivityCompleted" not in seen:
        again = {"max_attempts": 5, "backoff_seconds": [1]}
        return [{"type": "schedule_activity", "activity_type": ACTIVITY, "arguments": task.get("arguments"),
                 "queue": task.get("task_queue"), "retry_policy": again}]  # fmt: skip
    if kind == "timer" and "TimerFired" not in seen:
        return [{"type": "start_timer", "delay_seconds": TIMER_SECONDS}]
    return [{"type": "complete_workflow", "result": task.get("arguments")}]


class Draining:
    """A worker that goes on until it is told to stop; what it holds by then it finishes."""

    def __init__(self, api: Api, name: str, queue: str) -> None:
        self.api, self.name, self.queue = api, name, queue
        self.told = threading.Event()

    def run(self) -> None:
        """Poll for both kinds of tasks in turn."""
        while not self.told.is_set():
            for kind, work in (("workflow", self._workflow), ("activity", self._activity)):
                poll = self.api.poll_workflow_task if kind == "workflow" else self.api.poll_activity_task
                answer = poll(self.name, self.queue, HOLD_SECONDS)
                task = mapping(answer.body.get("task"))
                if task:
                    work(task)
                elif not answer.ok:
                    self.told.wait(0.2)  # the cluster is away, or the poll was refused: not at full speed
                if self.told.is_set():
                    return

    def _workflow(self, task: JsonBody) -> None:
        done = self.api.complete_workflow_task(task, decide(text(task.get("workflow_type")), task))
        say("workflow task", task, done)

    def _activity(self, task: JsonBody) -> None:
        time.sleep(WORK_SECONDS / 2)
        say("activity heartbeat", task, self.api.heartbeat_activity_task(task))
        time.sleep(WORK_SECONDS / 2)
        say("activity", task, self.api.complete_activity_task(task, task.get("arguments")))


def say(what: str, task: Mapping[str, Any], answer: Exchange) -> None:
    """One operation as a line."""
    line = {"at": answer.at, "what": what, "workflow_id": task.get("workflow_id"), "run_id": task.get("run_id"),
            "outcome": outcome_of(answer), "status": answer.status, "reason": answer.body.get("reason")}  # fmt: skip
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def outcome_of(answer: Exchange) -> str:
    """What is known of an operation: done, refused, or nothing."""
    if answer.ok and answer.body.get("recorded") is not False:
        return "done"
    return "refused" if answer.status is not None and answer.status < 500 else "don't know"


def asked(arguments: list[str]) -> argparse.Namespace:
    """What a worker process is told on its command line."""
    parser = argparse.ArgumentParser()
    for name in ("url", "namespace", "queue", "name", "protocol", "types"):
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args(arguments)


def when_alone(then: Callable[[], Any]) -> None:
    """Call `then` once whoever started this process is gone, however: its end of our standard input is closed."""

    def wait() -> None:
        sys.stdin.buffer.read()
        then()

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str]) -> int:
    """Register, then work until SIGTERM."""
    given = asked(arguments)
    token = os.environ[TOKEN]
    api = Api(
        route="balancer", base=given.url, credentials=Credentials(token, token, token), record=lambda _: None,
        namespace=given.namespace, speech=Speech(worker_protocol=given.protocol),
    )  # fmt: skip
    worker = Draining(api, given.name, given.queue)
    signal.signal(signal.SIGTERM, lambda *_: worker.told.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    when_alone(worker.told.set)
    body = {"worker_id": given.name, "task_queue": given.queue, "runtime": "python",
            "supported_workflow_types": given.types.split(","), "supported_activity_types": [ACTIVITY]}  # fmt: skip
    registered = api.post("/api/worker/register", body, "worker")
    say("registration", {}, registered)
    if not registered.ok:
        return 1
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
