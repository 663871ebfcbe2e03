"""The bench's side of the protocol: workers with queues of their own, requests over lean connections, a ledger."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from smallcluster.api import ANSWER_SECONDS, Api, Call, JsonBody, Plane, completion, poll, start, with_own_input
from smallcluster.bench.client import Answer, Connection, RequestFailedError, connect

WORKFLOW_TYPE = "smallcluster.bench"
GIVEN = ["small", "cluster"]
"""What each workflow is given, and gives back."""


@dataclass
class Ledger:
    """What this bench has put into the cluster, so that it can say what it leaves there."""

    workers: int = 0
    started: int = 0
    completed: int = 0

    @property
    def open(self) -> int:
        """Workflows that were started, or may have been, and not seen completed."""
        return self.started - self.completed


@dataclass(frozen=True)
class Worker:
    """A registered worker and its task queue."""

    id: str
    queue: str


def register(api: Api, ledger: Ledger, what: str) -> Worker:
    """Register a worker on a queue that nobody else has. Raises RequestFailedError with what was seen."""
    mark = secrets.token_hex(4)
    worker = Worker(f"bench-{what}-worker-{mark}", f"bench-{what}-{mark}")
    registered = api.register_worker(worker.id, worker.queue, WORKFLOW_TYPE)
    if not registered.ok:
        raise RequestFailedError(registered.shown)
    ledger.workers += 1
    return worker


class Speaker:
    """Speaks the protocol over one lean connection to one route. Every call raises RequestFailedError."""

    def __init__(self, connection: Connection, api: Api, ledger: Ledger) -> None:
        planes: tuple[Plane, ...] = ("open", "control", "worker")
        self.connection, self.ledger, self.route = connection, ledger, api.route
        self._headers = {plane: api.headers(plane) for plane in planes}

    @property
    def answered_at(self) -> float:
        """When the last answer was whole: seconds of the event loop's clock."""
        return self.connection.answered_at

    async def start(self, worker: Worker) -> str:
        """Start a workflow on the worker's queue; gives its run's id."""
        self.ledger.started += 1
        call = start(f"bench-{secrets.token_hex(8)}", WORKFLOW_TYPE, worker.queue, list(GIVEN))
        return str((await self.send(call)).body.get("run_id"))

    async def poll(self, worker: Worker, hold: int, late: float = ANSWER_SECONDS) -> JsonBody | None:
        """Poll for a task; None where there was none in `hold` seconds. The answer may be `late` seconds late."""
        call = replace(poll(worker.id, worker.queue, hold), patience=hold + late)
        task = (await self.send(call)).body.get("task")
        return task if isinstance(task, dict) else None

    async def complete(self, task: JsonBody) -> None:
        """Complete the task's workflow with its own input."""
        await self.send(completion(task, with_own_input(task)))
        self.ledger.completed += 1

    async def health(self) -> None:
        """Ask for /api/health."""
        await self._checked("GET", "/api/health", "open", None, ANSWER_SECONDS)

    async def send(self, call: Call) -> Answer:
        """POST a call of the protocol."""
        return await self._checked("POST", call.path, call.plane, call.body, call.patience)

    async def _checked(self, method: str, path: str, plane: Plane, body: JsonBody | None, seconds: float) -> Answer:
        shown = f"{method} {path} via {self.route}"
        try:
            answer = await self.connection.request(method, path, self._headers[plane], body, seconds=seconds)
        except RequestFailedError as problem:
            raise RequestFailedError(f"{shown} → no answer ({problem})") from problem
        if not 200 <= answer.status < 300:
            raise RequestFailedError(f"{shown} → {answer.status} {answer.content[:160].decode(errors='replace')}")
        return answer


@asynccontextmanager
async def speaking(api: Api, ledger: Ledger) -> AsyncIterator[Speaker]:
    """A speaker on a connection of its own, closed at the end."""
    connection = await connect(api.base or "")
    try:
        yield Speaker(connection, api, ledger)
    finally:
        connection.close()
        await connection.closed()


async def complete_rest(speaker: Speaker, worker: Worker) -> None:
    """Complete whatever a cut-short measurement left ready on the worker's queue."""
    while task := await speaker.poll(worker, 0):
        await speaker.complete(task)
