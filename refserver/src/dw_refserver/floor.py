"""What a cycle costs at least: bare handlers that send the statements of a start, a claim and a completion.

No node runs this. A benchmark starts it beside a node and compares: what a node takes longer is the price of the
protocol (authentication, checks, envelopes, wakes, held polls, logs). Nothing is checked here and nobody is woken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from dw_refserver import command_engine, engine
from dw_refserver.engine import Claim, Start
from dw_refserver.settings import Settings
from dw_refserver.store import history, tasks, workflows
from dw_refserver.store.database import Database
from dw_refserver.store.tasks import Poll
from dw_refserver.ulid import new_ulid

_EMPTY_LIST = "W10="
"""What every workflow is given: any payload does, since nothing looks inside."""

_TRIES = 50
"""Claims per poll at most: one can miss a task while its neighbour is being claimed, and nothing here is woken."""


class Floor:
    """Three handlers over one database, as an ASGI application; any other request only says that it is there."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self.settings, self.db = settings, db

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a request whole, answer it."""
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        content = orjson.dumps(await self._answer(scope["path"], orjson.loads(body) if body else {}))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if path == "/api/workflows":
            return await self._start(body)
        if path.endswith("/poll"):
            return {"task": await self._claim(body)}
        if path.endswith("/complete"):
            return await self._complete(path.split("/")[-2], body)
        return {"status": "floor"}

    async def _start(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        ask = Start(
            self.settings.default_namespace, body["workflow_id"], body["workflow_type"], body["task_queue"],
            "avro", _EMPTY_LIST, None, None, None, None,
        )  # fmt: skip
        run_id = new_ulid()
        return {"run_id": run_id, "new": await workflows.start(self.db, ask, run_id, *engine.start(ask, run_id))}

    async def _claim(self, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        lease, namespace = self.settings.workflow_task_lease, self.settings.default_namespace
        asked = Poll(namespace, body["task_queue"], body["worker_id"], None, lease)
        for _ in range(_TRIES):
            row = await tasks.claim(self.db, asked)
            if row is not None:
                break
        else:
            return None
        events = await history.first_page(self.db, row, row.last_history_sequence)
        return {
            "task_id": row.id, "lease_owner": row.lease_owner, "workflow_task_attempt": row.attempt_count,
            "arguments": {"codec": row.payload_codec, "blob": row.arguments},
            "history_events": [orjson.Fragment(event.payload) for event in events],
        }  # fmt: skip

    async def _complete(self, task_id: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        claim = Claim(task_id, body["lease_owner"], body["workflow_task_attempt"])
        judge = partial(command_engine.complete, commands=body["commands"])
        return (await tasks.settle(self.db, self.settings.default_namespace, claim, judge)).answer


def serve(settings: Settings, port: int) -> int:
    """Serve on every address until SIGTERM, with the node's own HTTP server and event loop. Returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, port))
    return 0


async def _run(settings: Settings, port: int) -> None:
    db = Database(settings.database, f"floor {settings.server_id}")
    config = uvicorn.Config(
        Floor(settings, db), host="0.0.0.0", port=port, http="httptools", ws="none", lifespan="off",  # noqa: S104
        log_level="warning", access_log=False,
    )  # fmt: skip
    try:
        await uvicorn.Server(config).serve()
    finally:
        await db.dispose()
