"""Readiness, failing over and secrecy, judged from hand-made facts; answers looked through for secrets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.made import answer

from smallcluster.checks.base import Heard
from smallcluster.checks.failover import Failover, balancer_fails_over
from smallcluster.checks.readiness import (
    Loss,
    Unmigrated,
    readiness_follows_the_database,
    unmigrated_node_is_not_ready,
)
from smallcluster.checks.secrecy import Told, no_secret_in_answers, no_secret_in_logs

LOST = Loss(was_ready=True, noticed=0.2, status=503, recovered=0.4, same_process=True)


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "holds"),
        ({"was_ready": False}, "unknown"),
        ({"noticed": None}, "broken"),
        ({"recovered": None}, "broken"),
        ({"same_process": False}, "broken"),
    ],
)
def test_a_node_that_lost_its_database(changed: dict[str, Any], verdict: str) -> None:
    assert readiness_follows_the_database.judge(replace(LOST, **changed)).verdict.value == verdict


@pytest.mark.parametrize(
    ("status", "ended", "verdict"),
    [(503, False, "holds"), (None, True, "holds"), (200, False, "broken"), (None, False, "unknown")],
)
def test_a_node_over_an_empty_database(status: int | None, ended: bool, verdict: str) -> None:
    assert unmigrated_node_is_not_ready.judge(Unmigrated(status, ended)).verdict.value == verdict


def failover(**changed: Any) -> Failover:
    """Three workflows, all done and all there."""
    names = [f"w{number}" for number in range(3)]
    started = [replace(answer(status=201, workflow_id=name), sent={"workflow_id": name}) for name in names]
    runs = {
        name: answer(status=200, runs=[{"run_id": "r", "closed_at": "now", "status": "completed"}]) for name in names
    }
    done = {name: answer(status=200, recorded=True) for name in names}
    given: dict[str, Any] = {"started": started, "completed": done, "runs": runs, "returned": 1.0}
    return Failover("server-b", **(given | changed))


def test_nothing_lost_nothing_doubled() -> None:
    said = balancer_fails_over.judge(failover())
    assert said.verdict.value == "holds"
    assert said.evidence[0] == "server-b stopped: 3 of 3 starts acknowledged, 3 of 3 completions"


def one_other(name: str, runs: Any) -> Failover:
    seen = failover()
    seen.runs[name] = runs
    return seen


TWO_RUNS = [{"run_id": "r", "closed_at": "now"}, {"run_id": "s", "closed_at": "now"}]


@pytest.mark.parametrize(
    ("seen", "verdict", "word"),
    [
        (failover(problem=answer(status=503, reason="backend_unavailable")), "unknown", "earlier step"),
        (failover(idle="server-a"), "unknown", "server-a did not run"),
        (one_other("w1", answer(status=404, reason="instance_not_found")), "broken", "lost"),
        (one_other("w1", answer(status=200, runs=TWO_RUNS)), "broken", "doubled"),
        (one_other("w1", answer(status=200, runs=[{"run_id": "r", "status": "running"}])), "broken", "lost"),
        (one_other("w1", answer(status=503, reason="backend_unavailable")), "unknown", "not every run"),
        (failover(unserved=[answer(status=502)]), "broken", "does not try another node"),
        (failover(returned=None), "broken", "never tries this one again"),
    ],
)
def test_what_a_stopped_node_may_not_do(seen: Failover, verdict: str, word: str) -> None:
    said = balancer_fails_over.judge(seen)
    assert said.verdict.value == verdict
    assert word in " ".join((*said.evidence, said.cause))


def test_a_start_that_was_sent_once_and_refused_as_there_already_was_sent_twice_by_the_balancer() -> None:
    seen = failover()
    seen.started[1] = replace(seen.started[1], status=409, body={"reason": "duplicate_not_allowed"})
    assert balancer_fails_over.judge(seen).verdict.value == "broken"


@pytest.mark.parametrize("check", [no_secret_in_answers, no_secret_in_logs])
@pytest.mark.parametrize(
    ("leaks", "secrets", "verdict"), [((), 3, "holds"), (("here: the value of X",), 3, "broken"), ((), 0, "unknown")]
)
def test_secrets(check: Any, leaks: tuple[str, ...], secrets: int, verdict: str) -> None:
    assert check.judge(Told(leaks, "2 answers", secrets)).verdict.value == verdict


def test_every_answer_is_looked_through() -> None:
    heard = Heard()
    for text in ("nothing", "my s3cret-token!", "nothing"):
        heard.note(replace(answer(status=200), path="/api/x?page=1", text=text))
    assert heard.answers == 3
    assert list(heard.leaks({"DW_AUTH_TOKEN": "s3cret-token", "APP_KEY": "another"})) == [
        (f"{answer(status=200).method} /api/x via {answer(status=200).route} → 200", "DW_AUTH_TOKEN")
    ]
