"""A node in memory: just enough of the protocol to be measured, and told when to go wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.made import answer

from smallcluster.api import Api, Credentials
from smallcluster.bench import traffic
from smallcluster.bench.client import Connection


@dataclass
class FakeNode:
    """Serves on a unix socket. `refuse` names what in a path gets it 503.

    `deaf` polls never hear of a start, `eager` ones don't wait.
    """

    path: Path
    refuse: set[str] = field(default_factory=set)
    deaf: bool = False
    eager: bool = False
    ready: dict[str, asyncio.Queue[str]] = field(default_factory=dict)
    leased: set[str] = field(default_factory=set)
    completed: list[str] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    numbers: count[int] = field(default_factory=count)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with await asyncio.start_unix_server(self._serve, str(self.path), backlog=500):
            yield
            for writer in self.writers:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                length = [int(line[15:]) for line in head if line.startswith("Content-Length:")]
                body = json.loads(await reader.readexactly(length[0])) if length else {}
                status, told = await self._answer(head[0].split()[1], body)
                content = json.dumps(told).encode()
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
        writer.close()

    async def _answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if any(word in path for word in self.refuse):
            return 503, {"reason": "backend_unavailable"}
        if path == "/api/workflows":
            run_id = f"run-{next(self.numbers)}"
            self._queue(body["task_queue"]).put_nowait(run_id)
            return 201, {"run_id": run_id}
        if path.endswith("/poll"):
            return 200, {"task": await self._poll(body)}
        if path.endswith("/complete"):
            run_id = path.split("/")[-2]
            self.leased.remove(run_id)
            self.completed.append(run_id)
        return 200, {}

    def _queue(self, name: str) -> asyncio.Queue[str]:
        return self.ready.setdefault("nobody's" if self.deaf else name, asyncio.Queue())

    async def _poll(self, body: dict[str, Any]) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(0 if self.eager else min(body["timeout_seconds"], 1)):
                run_id = await self.ready.setdefault(body["task_queue"], asyncio.Queue()).get()
        except TimeoutError:
            return None
        self.leased.add(run_id)
        return {"task_id": run_id, "run_id": run_id, "lease_owner": body["worker_id"], "workflow_task_attempt": 1}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    """A fake node; every connection of the bench goes to it, and it registers every worker."""

    async def connect(base: str) -> Connection:
        _, made = await asyncio.get_running_loop().create_unix_connection(Connection, base)
        return made

    monkeypatch.setattr(traffic, "connect", connect)
    monkeypatch.setattr(Api, "register_worker", lambda *_: answer(status=201))
    return FakeNode(tmp_path / "node")


def api_of(node: FakeNode, route: str = "server-a") -> Api:
    """An Api on the fake node."""
    credentials = Credentials(control="c", worker="w", admin="a")
    return Api(route=route, base=str(node.path), credentials=credentials, record=lambda _: None)
