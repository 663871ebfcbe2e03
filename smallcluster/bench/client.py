"""A lean HTTP/1.1 client for measuring: one connection, one request at a time, a deadline for each, no retry ever.

It knows what a server of this protocol sends (Content-Length and chunked bodies, keep-alive) and refuses the rest.
Why it is our own: docs/decisions/0007-bench-client.md.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONNECT_SECONDS = 5.0


class RequestFailedError(Exception):
    """No answer came, or not the one that was needed; what was seen, in one line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its status and its body as it was sent."""

    status: int
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is none."""
        try:
            found = json.loads(self.content)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class Parser:
    """Puts one answer together from bytes as they come, however they are cut."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._status = 0
        self._left: int | None = None
        """Bytes that the body still lacks; None while the head is not whole, or for a chunked body."""
        self._chunked = False
        self._content = bytearray()

    def feed(self, data: bytes) -> Answer | None:
        """Take more bytes; gives the answer once it is whole. Raises ValueError for what is no such answer."""
        self._bytes += data
        if not self._status and not self._head():
            return None
        whole = self._chunks() if self._chunked else self._counted()
        if not whole:
            return None
        if self._bytes:
            raise ValueError("more bytes than the answer has")
        return Answer(self._status, bytes(self._content))

    def _head(self) -> bool:
        end = self._bytes.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = bytes(self._bytes[:end]).split(b"\r\n")
        del self._bytes[: end + 4]
        version, status, *_ = first.split(b" ", 2)
        if not version.startswith(b"HTTP/1."):
            raise ValueError(f"no HTTP/1 answer: {first[:40]!r}")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        self._chunked = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
        if not self._chunked:
            self._left = int(fields[b"content-length"]) if b"content-length" in fields else _no_length(status)
        self._status = int(status)
        return True

    def _counted(self) -> bool:
        self._left = (self._left or 0) - self._move(self._left or 0)
        return self._left == 0

    def _chunks(self) -> bool:
        """Move every whole chunk over; true after the last, empty one. Trailers are not expected."""
        while (end := self._bytes.find(b"\r\n")) >= 0:
            size = int(self._bytes[:end].split(b";")[0], 16)
            if len(self._bytes) < end + 2 + size + 2:
                return False
            del self._bytes[: end + 2]
            self._move(size)
            del self._bytes[:2]
            if size == 0:
                return True
        return False

    def _move(self, most: int) -> int:
        part = self._bytes[:most]
        self._content += part
        del self._bytes[:most]
        return len(part)


def _no_length(status: bytes) -> int:
    if status in (b"204", b"304"):
        return 0
    raise ValueError("an answer whose length is not told")


class Connection(asyncio.Protocol):
    """One keep-alive connection. A request that fails closes it: a late answer must never be taken for another's."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = Parser()
        self._waiting: asyncio.Future[Answer] | None = None
        self._lost = asyncio.get_running_loop().create_future()
        self.answered_at = 0.0
        """When the last answer was whole: seconds of the event loop's clock."""

    async def request(
        self, method: str, path: str, headers: Mapping[str, str], body: object = None, *, seconds: float
    ) -> Answer:
        """Send one request and wait for its answer, `seconds` at most. Raises RequestFailedError where none comes."""
        if self._transport is None or self._transport.is_closing():
            raise RequestFailedError("the connection is closed")
        if self._waiting is not None:
            raise RuntimeError("one request at a time")
        self._parser, self._waiting = Parser(), asyncio.get_running_loop().create_future()
        self._transport.write(_request_bytes(method, path, headers, body))
        try:
            async with asyncio.timeout(seconds):
                return await self._waiting
        except TimeoutError:
            raise RequestFailedError(f"no answer within {seconds:.1f} s") from None
        finally:
            if not self._waiting.done() or self._waiting.cancelled() or self._waiting.exception():
                self.close()
            self._waiting = None

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    async def closed(self) -> None:
        """Wait until the connection is gone."""
        await self._lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - streams only
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop with whatever has come."""
        if self._waiting is None or self._waiting.done():
            self.close()  # an answer that nobody asked for
            return
        try:
            answer = self._parser.feed(data)
        except (ValueError, KeyError) as problem:
            self._waiting.set_exception(RequestFailedError(f"unreadable answer: {problem}"))
            return
        if answer is not None:
            self.answered_at = asyncio.get_running_loop().time()
            self._waiting.set_result(answer)

    def connection_lost(self, problem: Exception | None) -> None:
        """Called by the event loop when the other side, or we, have hung up."""
        if not self._lost.done():
            self._lost.set_result(None)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(RequestFailedError(f"the connection was closed ({problem or 'by the server'})"))


def _request_bytes(method: str, path: str, headers: Mapping[str, str], body: object) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", *(f"{name}: {value}" for name, value in headers.items())]
    content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def connect(base: str) -> Connection:
    """Open a connection to a base URL such as http://127.0.0.1:8080. Raises RequestFailedError."""
    host, _, port = base.removeprefix("http://").rstrip("/").partition(":")
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, made = await asyncio.get_running_loop().create_connection(Connection, host, int(port or 80))
    except (OSError, TimeoutError) as problem:
        raise RequestFailedError(f"no connection to {base}: {problem or 'no answer in time'}") from problem
    return made
