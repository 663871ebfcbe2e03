"""What a smoke does when it leaves: ends what is still open, several at a time, and not for ever."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.made import answer

from smallcluster.checks import run
from smallcluster.checks.base import Live

NAMES = {f"smoke-{number:02}" for number in range(2 * run.GOODBYES)}


def leaving(terminate: Any, workers: set[str]) -> Live:
    """A look at a server that still lists every workflow, and one of somebody else's."""
    listed = answer(workflows=[{"workflow_id": name} for name in (*sorted(NAMES), "another's")])
    api = SimpleNamespace(
        get=lambda _: listed,
        terminate=terminate,
        deregister_worker=lambda name: workers.discard(name) or answer(status=200),
    )
    return cast("Live", SimpleNamespace(started=set(NAMES), workers=set(workers), api=lambda _: api))


def test_what_is_open_is_ended_several_at_a_time_and_every_worker_taken_away() -> None:
    together, ended, workers = threading.Barrier(run.GOODBYES), [], {"one", "two"}

    def terminate(workflow: str, _: str) -> None:
        together.wait(10)  # a node that hangs: nobody is answered before all are there
        ended.append(workflow)

    run.say_goodbye(leaving(terminate, workers))
    assert (set(ended), workers) == (NAMES, set())


def test_no_further_one_is_begun_with_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "GOODBYE_SECONDS", 0.0)
    ended: list[str] = []
    run.say_goodbye(leaving(lambda workflow, _: ended.append(workflow), set()))
    assert ended == []
