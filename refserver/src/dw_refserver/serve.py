"""Runs an API node until it is told to stop; then it answers what it holds and is gone within about a second."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
import uvloop

from dw_refserver import node as nodes
from dw_refserver.logs import log, name_node
from dw_refserver.node import Node
from dw_refserver.routes import application
from dw_refserver.settings import Settings

_DRAIN_SECONDS = 1
_LOOK_SECONDS = 0.005
_BACKLOG = 8192


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, node: Node) -> None:
        super().__init__(config)
        self.node = node
        self.told = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain on SIGTERM and SIGINT. Unlike uvicorn's own, this doesn't raise the signal again at the end, which
        would kill the process before it has closed its connections."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._drain)
        yield

    async def main_loop(self) -> None:
        """Uvicorn's own, which keeps the Date header fresh, but at its end as soon as it is told to drain."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self.told.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, close what is idle, and let what runs finish: over as soon as it has, not a tenth later."""
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while state.connections or state.tasks:
                    await asyncio.sleep(_LOOK_SECONDS)
        for task in state.tasks:
            task.cancel()

    def _drain(self) -> None:
        """Send held polls home at once; uvicorn stops accepting and finishes what runs."""
        if not self.should_exit:
            log("draining")
        self.node.hub.close()
        self.should_exit = True
        self.told.set()


def serve(settings: Settings) -> int:
    """Serve HTTP until SIGTERM or SIGINT. Returns the exit code."""
    name_node(settings.server_id)
    try:
        listening = socket.create_server((settings.http_host, settings.http_port), backlog=_BACKLOG)
    except OSError as error:
        log("cannot_listen", "error", host=settings.http_host, port=settings.http_port, error=error.strerror)
        return 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, listening))


def _calm_collector() -> None:
    """Keep the garbage collector's full rounds rare: over thousands of held polls one stops the node for a tenth of a
    second, and finds next to nothing, because what a request leaves behind is freed without it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 1000)


async def _run(settings: Settings, listening: socket.socket) -> int:
    node = nodes.build(settings)
    config = uvicorn.Config(
        application(node), http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, timeout_keep_alive=75, server_header=False, backlog=_BACKLOG,
    )  # fmt: skip
    node.signals.start()
    _calm_collector()
    log("serving", host=settings.http_host, port=listening.getsockname()[1], version=settings.app_version)
    try:
        await _Server(config, node).serve(sockets=[listening])
    finally:
        await node.signals.stop()
        await node.broker.redis.aclose()
        await node.gate.redis.aclose()
        await node.db.dispose()
    log("stopped")
    return 0
