"""The measuring client: its parser on bytes cut anywhere, and a connection to a server on a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallcluster.bench.client import Answer, Connection, Parser, RequestFailedError

COUNTED = b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\ncontent-length: 12\r\n\r\n{"task": {}}'
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'7\r\n{"task"\r\nB;note=x\r\n: {"a": 10}\r\n1\r\n}\r\n0\r\n\r\n'
)
ANSWERS = {
    COUNTED: Answer(201, b'{"task": {}}'),
    CHUNKED: Answer(200, b'{"task": {"a": 10}}'),
    b"HTTP/1.1 204 No Content\r\n\r\n": Answer(204, b""),
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n": Answer(200, b""),
}

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@given(st.sampled_from(list(ANSWERS)), st.data())
def test_an_answer_is_read_however_its_bytes_are_cut(raw: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1))))
    parser, answer = Parser(), None
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        assert answer is None, "whole before its last byte"
        answer = parser.feed(raw[start:end])
    assert answer == ANSWERS[raw]


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: some\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_such_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int() has its own words
        Parser().feed(raw)


def test_a_body_that_is_no_object_is_empty() -> None:
    assert [Answer(200, raw).body for raw in (b"[1]", b"<html>", b'{"a": 1}')] == [{}, {}, {"a": 1}]


@pytest.fixture
def against(tmp_path: Path) -> Callable[[Serve, Callable[[Connection], Coroutine[Any, Any, Any]]], Any]:
    """Run a test's coroutine on a connection to its own server."""

    def run(serve: Serve, client: Callable[[Connection], Coroutine[Any, Any, Any]]) -> Any:
        async def both() -> Any:
            path = str(tmp_path / "node")
            async with await asyncio.start_unix_server(serve, path):
                _, connection = await asyncio.get_running_loop().create_unix_connection(Connection, path)
                try:
                    return await client(connection)
                finally:
                    connection.close()
                    await asyncio.wait_for(connection.closed(), 5)

        return asyncio.run(asyncio.wait_for(both(), 20))

    return run


async def read_request(reader: asyncio.StreamReader) -> tuple[list[str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    lengths = [int(line.partition(":")[2]) for line in head if line.lower().startswith("content-length:")]
    return head, await reader.readexactly(lengths[0]) if lengths else b""


def test_requests_follow_one_another_on_one_connection(against: Any) -> None:
    seen: list[tuple[list[str], bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (COUNTED, CHUNKED):
            seen.append(await read_request(reader))
            writer.write(answer)
        writer.close()

    async def client(connection: Connection) -> list[int]:
        first = await connection.request("POST", "/api/x", {"X-Namespace": "default"}, {"a": [1]}, seconds=5)
        told = connection.answered_at
        second = await connection.request("GET", "/api/health", {}, seconds=5)
        assert told < connection.answered_at <= asyncio.get_running_loop().time()
        return [first.status, second.status]

    assert against(serve, client) == [201, 200]
    (post, body), (get, nothing) = seen
    assert post[0] == "POST /api/x HTTP/1.1"
    assert {"X-Namespace: default", "Content-Type: application/json", "Content-Length: 9"} <= set(post)
    assert (body, nothing) == (b'{"a":[1]}', b"")
    assert get[0] == "GET /api/health HTTP/1.1"


def test_no_answer_in_time_closes_the_connection_and_nothing_is_sent_again(against: Any) -> None:
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while await reader.read(10_000):
            requests += 1
        writer.close()

    async def client(connection: Connection) -> None:
        with pytest.raises(RequestFailedError, match=r"no answer within 0\.1 s"):
            await connection.request("GET", "/slow", {}, seconds=0.1)
        with pytest.raises(RequestFailedError, match="the connection is closed"):
            await connection.request("GET", "/again", {}, seconds=5)

    against(serve, client)
    assert requests == 1


@pytest.mark.parametrize(
    ("sent", "words"), [(b"", "closed"), (COUNTED[:-3], "closed"), (b"nonsense\r\n\r\n", "unreadable answer")]
)
def test_half_an_answer_or_none_is_a_failed_request(against: Any, sent: bytes, words: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(sent)
        writer.close()

    async def client(connection: Connection) -> None:
        with pytest.raises(RequestFailedError, match=words):
            await connection.request("GET", "/cut", {}, seconds=5)

    against(serve, client)


def test_an_answer_that_nobody_asked_for_closes_the_connection(against: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(COUNTED)
        await reader.read()
        writer.close()

    async def client(connection: Connection) -> None:
        await asyncio.wait_for(connection.closed(), 5)
        with pytest.raises(RequestFailedError, match="closed"):
            await connection.request("GET", "/x", {}, seconds=5)

    against(serve, client)
