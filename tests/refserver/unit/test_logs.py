"""Log lines: in order, soon, and bounded where nobody takes them."""

from __future__ import annotations

import asyncio
import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from dw_refserver import logs


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    written = io.BytesIO()
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stdout=SimpleNamespace(buffer=written)))
    return written


def events(out: io.BytesIO) -> list[str]:
    return [json.loads(line)["event"] for line in out.getvalue().splitlines()]


def test_requests_wait_a_moment_and_everything_else_takes_them_along(out: io.BytesIO) -> None:
    async def work() -> None:
        logs.log("request", path="/a")
        assert events(out) == []
        logs.log("draining")
        assert events(out) == ["request", "draining"]
        logs.log("request", path="/b")
        await asyncio.sleep(0.2)
        assert events(out) == ["request", "draining", "request"]

    asyncio.run(work())


def test_what_can_not_be_written_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch, out: io.BytesIO) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(logs, "sys", SimpleNamespace(stdout=SimpleNamespace(buffer=Full())))
        for _ in range(5):
            logs.log("draining")
    logs.log("serving")
    assert events(out) == ["serving", "log_lines_lost"]
    assert json.loads(out.getvalue().splitlines()[1])["lines"] == 5
