"""Replayed nodes on loopback sockets, a balancer before them, and what can be odd about how they answer."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from typing import Any

from smallcluster.containers import BALANCER
from support.recorded import Reply
from support.replay import Call, Replayed

CERTIFICATE = Path(__file__).parent / "tls" / "cert.pem"
"""Signed by itself, for 127.0.0.1; its key lies beside it and is nobody's secret."""
GZIPPED_FROM = 1024
"""Answers of this many bytes are compressed (protocol)."""


@dataclass(frozen=True)
class Raw:
    """An answer as it goes over the wire."""

    status: int
    content: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


Spoil = Callable[[Call, Reply], Raw]
"""How a node puts an answer on the wire."""


def faithful(_: Call, reply: Reply) -> Raw:
    """As 0.2.10 does: JSON, compressed where it is worth it."""
    plain = Raw(reply.status, json.dumps(reply.body).encode())
    return compressed(plain) if len(plain.content) >= GZIPPED_FROM else plain


def compressed(raw: Raw) -> Raw:
    """The same answer, gzipped."""
    return replace(raw, content=gzip.compress(raw.content, 1), headers=raw.headers | {"Content-Encoding": "gzip"})


@dataclass
class Front:
    """What one socket serves: a node, or the balancer, which takes the next node for each request."""

    server: Replayed
    nodes: Iterator[str]
    spoil: Spoil

    def handle(self, method: str, path: str, headers: dict[str, str], content: bytes) -> Raw:
        body: Any = json.loads(content) if content else {}
        call = Call(next(self.nodes), method, path.partition("?")[0], headers, body, path.partition("?")[2])
        return self.spoil(call, self.server.answer(call))


def _handler(front: Front) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            raw = front.handle(self.command, self.path, dict(self.headers), content)
            self.send_response(raw.status)
            for name, value in (raw.headers | {"Content-Length": str(len(raw.content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw.content)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - names that http.server looks up

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def serving(
    server: Replayed, names: tuple[str, ...], spoil: Spoil = faithful, *, tls: bool = False
) -> Iterator[dict[str, str]]:
    """Serve every node and the balancer; gives their base URLs by route. With `tls`, under the tests' certificate."""
    turn = cycle(names)
    with ExitStack() as stack:
        routes = {}
        for route, nodes in {BALANCER: turn, **{name: cycle([name]) for name in names}}.items():
            listener = ThreadingHTTPServer(("127.0.0.1", 0), _handler(Front(server, nodes, spoil)))
            listener.daemon_threads, listener.block_on_close = True, False
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
                listener.socket = context.wrap_socket(listener.socket, server_side=True)
            stack.callback(listener.server_close)
            threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
            stack.callback(listener.shutdown)
            routes[route] = f"http{'s' * tls}://127.0.0.1:{listener.server_address[1]}"
        yield routes
