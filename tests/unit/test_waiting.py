"""Waits end when the condition holds, and otherwise say what was still missing."""

from __future__ import annotations

import pytest

from smallcluster import waiting
from smallcluster.errors import ClusterBrokenError


def test_a_condition_that_holds_ends_the_wait() -> None:
    answers = iter(["one thing", "another thing", None])
    said: list[str] = []
    took = waiting.until_none("all is well", lambda: next(answers), deadline=30, say=said.append)
    assert said == ["waiting for one thing", "waiting for another thing"]
    assert took < 30


def test_at_the_deadline_the_last_thing_missing_is_told() -> None:
    with pytest.raises(ClusterBrokenError) as caught:
        waiting.until_none("the node is ready", lambda: "server-a: 503", deadline=0.1)
    assert "the node is ready" in caught.value.what
    assert caught.value.seen == "server-a: 503"


def test_a_probe_that_knows_better_ends_the_wait_at_once() -> None:
    def probe() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        waiting.until_none("anything", probe, deadline=3600)
