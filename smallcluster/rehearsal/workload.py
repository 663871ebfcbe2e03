"""Work on a cluster before, through and after an upgrade, each operation recorded; and what must have become of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from smallcluster import files, interrupts
from smallcluster.api import Api, Exchange, JsonBody
from smallcluster.bodies import mapping, mappings, text
from smallcluster.rehearsal.journal import Work
from smallcluster.rehearsal.worker import TOKEN, outcome_of

OPERATIONS = "operations.jsonl"

EACH = 3
"""How many runs there are of each kind."""
WORKERS = 2
DRAIN_SECONDS = 20.0
"""How long a worker may take to finish what it holds."""
SETTLED_SECONDS = 60.0
"""How long, after the window, everything may take to be finished."""
PLAIN = ("plain", "activity", "timer")
"""The kinds of workflows that the plain workers run."""
SDK = "durable_workflow"
"""The official SDK's module."""
SCHEDULE_LEAD = 12
"""Seconds until the schedule comes due: within the window, on every machine that this was tried on."""
_DAY = 86_400


@dataclass
class Workload:
    """The rehearsal's own workflows in a namespace, on queues of their own, and the workers that run them."""

    balancer: Callable[[], Api]
    """The way through the balancer, as it is now."""
    folder: Path
    """Gets operations.jsonl, what was sent and what is known of it, and what each worker says."""
    work: Work
    started: dict[str, str] = field(default_factory=dict)
    """Run ids of acknowledged starts, by workflow."""
    unknown: set[str] = field(default_factory=set)
    """Workflows whose start got no answer: they may be there or not."""
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def recall(self) -> None:
        """Take up what was acknowledged before the run was cut off; what was on its way then stays not known."""
        for operation in files.json_lines(self.folder / OPERATIONS):
            self._take(operation)

    def _take(self, operation: Mapping[str, Any]) -> None:
        if operation.get("what") != "start":
            return
        workflow = text(operation.get("workflow_id"))
        if operation.get("outcome") == "done":
            self.started[workflow] = text(operation.get("run_id"))
        elif operation.get("outcome") == "don't know":
            self.unknown.add(workflow)

    @property
    def prefix(self) -> str:
        """How every workflow's id begins."""
        return f"rehearsal-{self.work.mark}-"

    @property
    def queue(self) -> str:
        """The workers' queue."""
        return f"rehearsal-{self.work.mark}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of workflows that some worker runs; the SDK's where it is installed."""
        return (*PLAIN, "sdk") if find_spec(SDK) else PLAIN

    @property
    def leased(self) -> list[JsonBody]:
        """Workflow tasks that the rehearsal itself holds leases of, into the window."""
        return self.work.leased

    @property
    def before(self) -> dict[str, list[JsonBody]]:
        """Histories, by workflow, as they were when nothing was written any more."""
        return self.work.before

    def type_of(self, kind: str) -> str:
        """A workflow type of its own."""
        return f"rehearsal.{self.work.mark}.{kind}"

    def start(self, kind: str, name: str, queue: str = "") -> Exchange:
        """Start one workflow, once, and record what is known of it."""
        again = f"again-{self.work.generation}-" if self.work.generation else ""
        workflow = f"{self.prefix}{again}{name}"
        answer = self.balancer().start_workflow(workflow, self.type_of(kind), queue or self.queue, ["small", "cluster"])
        self._record("start", workflow, answer)
        return answer

    def _record(self, what: str, workflow: str, answer: Exchange) -> None:
        line = {"at": answer.at, "what": what, "workflow_id": workflow, "run_id": text(answer.body.get("run_id")),
                "outcome": outcome_of(answer), "status": answer.status,
                "reason": answer.body.get("reason")}  # fmt: skip
        with (self.folder / OPERATIONS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        self._take(line)

    # the workers

    def start_workers(self) -> None:
        """Start external workers, each a process: plain ones, and one of the official SDK where it is installed."""
        for one in range(WORKERS):
            self._start_worker("worker", f"{self.queue}-{one}", self.queue, ",".join(map(self.type_of, PLAIN)))
        if "sdk" in self.kinds:
            self._start_worker("sdk_worker", f"{self.queue}-sdk", f"{self.queue}-sdk", self.type_of("sdk"))

    def _start_worker(self, module: str, name: str, queue: str, types: str) -> None:
        api = self.balancer()
        environment = {TOKEN: api.credentials.worker, "PATH": os.environ.get("PATH", "")}
        options = {"url": api.base or "", "namespace": api.namespace, "queue": queue, "types": types, "name": name,
                   "protocol": api.speech.worker_protocol}  # fmt: skip
        command = [sys.executable, "-m", f"smallcluster.rehearsal.{module}"]
        command += [f"--{option}={value}" for option, value in options.items()]
        said = files.folder(self.folder / "workers") / f"{name}.log"
        with said.open("ab") as stream, interrupts.deferred():
            self._processes[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=stream, stderr=stream, start_new_session=True
            )

    def drain(self) -> list[str]:
        """Tell every worker to finish what it holds; the names of those that did not in time and were ended."""
        late = []
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_SECONDS
        for name, process in self._processes.items():
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(name)
        self.stop()
        return late

    @property
    def workers(self) -> tuple[str, ...]:
        """The names of the worker processes of this run."""
        return tuple(self._processes)

    def registered(self, since: datetime) -> set[str]:
        """The names of the workers that the cluster has heard of since a moment."""
        listed = mappings(self.balancer().get("/api/workers").body.get("workers"))
        return {text(one.get("worker_id")) for one in listed
                if datetime.fromisoformat(text(one.get("last_heartbeat_at"))) >= since}  # fmt: skip

    def stop(self) -> None:
        """End what still runs, in whatever state: for the end of a rehearsal that did not go well."""
        for process in self._processes.values():
            process.kill()
            process.communicate()
        self._processes.clear()

    # before the window

    def prepare(self) -> None:
        """Have closed runs, runs at every stage, signals, and a schedule; workers run."""
        for kind in [one for one in self.kinds if one != "timer"]:
            for number in range(EACH):
                self.start(kind, f"closed-{kind}-{number}", self._queue_of(kind))
        self.await_closed([name for name in self.started if "-closed-" in name])

    def schedule_soon(self) -> None:
        """Choose when the schedule comes due, where that is not chosen yet."""
        self.work.due = self.work.due or int(time.time()) + SCHEDULE_LEAD

    def fill(self) -> None:
        """Put work in flight that the window cuts through: unpolled, leased, timed, signalled, scheduled."""
        api = self.balancer()
        scheduled = api.post("/api/schedules", self._schedule(), "control")
        self._record("schedule", self.queue, scheduled)
        for kind in self.kinds[1:]:
            for number in range(EACH):
                self.start(kind, f"{kind}-{number}", self._queue_of(kind))
        self._lease(api)
        for number in range(EACH):
            self.start("plain", f"unpolled-{number}", f"{self.queue}-later")
        for workflow in [name for name in self.started if "-unpolled-" in name]:
            signalled = api.post(f"/api/workflows/{workflow}/signal/go", {"input": [1]}, "control")
            self._record("signal", workflow, signalled)

    def _queue_of(self, kind: str) -> str:
        return f"{self.queue}-sdk" if kind == "sdk" else self.queue

    def _lease(self, api: Api) -> None:
        """Lease workflow tasks under another worker's name, and hold on to them."""
        queue, worker = f"{self.queue}-held", f"{self.queue}-holder"
        api.register_worker(worker, queue, self.type_of("plain"))
        for number in range(EACH):
            self.start("plain", f"leased-{number}", queue)
            task = mapping(api.poll_workflow_task(worker, queue, 2).body.get("task"))
            self.leased.extend([task] if task else [])

    def _schedule(self) -> JsonBody:
        """Once a day, and now soon; twice at most, so that a second fire would be seen."""
        return {
            "schedule_id": self.queue,
            "spec": {"intervals": [{"every": "PT24H", "offset": f"PT{self.work.due % _DAY}S"}], "timezone": "UTC"},
            "action": {"workflow_type": self.type_of("plain"), "task_queue": self.queue, "input": ["scheduled"]},
            "overlap_policy": "allow_all",
            "max_runs": 2,
        }

    def remember(self, api: Api) -> None:
        """Keep every history as it is now, when no worker works and no scheduler runs."""
        for workflow, run in self.started.items():
            self.before[workflow] = _events(api, workflow, run)

    # after the window

    def finish(self) -> dict[str, str]:
        """Complete what was leased, let others do the rest; what became of each lease that was held, by workflow."""
        api, outcome = self.balancer(), {}
        for task in self.leased:
            answer = api.complete_workflow_task(task, [{"type": "complete_workflow", "result": task.get("arguments")}])
            self._record("late completion", text(task.get("workflow_id")), answer)
            known = outcome_of(answer)
            outcome[text(task.get("workflow_id"))] = (
                known if known != "refused" else f"refused: {answer.body.get('reason')}"
            )
        for suffix in ("-held", "-later"):
            api.register_worker(f"{self.queue}{suffix}-heir", f"{self.queue}{suffix}", self.type_of("plain"))
        return outcome

    def await_closed(self, workflows: list[str]) -> list[str]:
        """Wait until every workflow is closed; those that were not within SETTLED_SECONDS."""
        deadline, api = time.monotonic() + SETTLED_SECONDS, self.balancer()
        left = list(workflows)
        while left and time.monotonic() < deadline:
            self._work_off(api)
            left = [name for name in left if not api.describe(name).body.get("is_terminal")]
            if left:
                time.sleep(0.1)
        return left

    def _work_off(self, api: Api) -> None:
        """Take what is on the queues that no worker process polls, under the heirs' names."""
        for suffix in ("-held", "-later"):
            heir, queue = f"{self.queue}{suffix}-heir", f"{self.queue}{suffix}"
            while task := mapping(api.poll_workflow_task(heir, queue, 0).body.get("task")):
                done = api.complete_workflow_task(
                    task, [{"type": "complete_workflow", "result": task.get("arguments")}]
                )
                self._record("handed over", text(task.get("workflow_id")), done)

    def scheduled_runs(self) -> list[str]:
        """The workflows that the schedule has started."""
        listed = self.balancer().get(f"/api/workflows?workflow_type={self.type_of('plain')}&page_size=200")
        names = [text(one.get("workflow_id")) for one in mappings(listed.body.get("workflows"))]
        return [name for name in names if not name.startswith(self.prefix)]

    def clear(self) -> None:
        """Take the schedule away, and end what is not finished: nobody would work on it any more."""
        api = self.balancer()
        api.delete(f"/api/schedules/{self.queue}")
        for workflow in self.started:
            if api.describe(workflow).body.get("is_terminal") is False:
                api.terminate(workflow, "the rehearsal is over")

    def problems_back(self) -> Iterator[str]:
        """What is not there again, of what was acknowledged before the backup, once the backup is restored."""
        api = self.balancer()
        for workflow, before in self.before.items():
            run = self.started[workflow]
            after = _events(api, workflow, run)
            yield from changed(workflow, before, after)
        there = [name for name in set(self.started) - set(self.before) if api.describe(name).ok]
        yield from (f"{name} was written after the backup, and is there" for name in sorted(there))

    def problems(self) -> Iterator[str]:
        """What is not as it must be of what was acknowledged: gone, doubled, still open, or another history."""
        api = self.balancer()
        for workflow, run in self.started.items():
            runs = mappings(api.get(f"/api/workflows/{workflow}/runs").body.get("runs"))
            if [one.get("run_id") for one in runs] != [run]:
                yield f"{workflow} has the runs {[one.get('run_id') for one in runs]} instead of {run} alone"
                continue
            if runs[0].get("status") != "completed":
                yield f"{workflow} is {runs[0].get('status')}"
            yield from changed(workflow, self.before.get(workflow, []), _events(api, workflow, run))


def _events(api: Api, workflow: str, run: str) -> list[JsonBody]:
    return mappings(api.history(workflow, run).body.get("events"))


def changed(workflow: str, before: list[JsonBody], after: list[JsonBody]) -> Iterator[str]:
    """Where a history no longer begins with what it was."""
    if len(after) < len(before):
        yield f"{workflow} has {len(after)} events; it had {len(before)}"
    for number, (one, other) in enumerate(zip(before, after, strict=False), 1):
        if one != other:
            yield f"{workflow}: event {number} was {one.get('event_type')} ({one.get('id')}), and is another now"
            return
