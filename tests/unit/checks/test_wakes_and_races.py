"""Wakes across nodes and races for tasks, judged on hand-made outcomes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.made import answer

from smallcluster import waiting
from smallcluster.checks import races, wakes
from smallcluster.checks.races import TASKS, Race
from smallcluster.checks.wakes import TRIES, Wake
from smallcluster.verdicts import Verdict


def wake(seconds: float = 0.02, *, held: bool = True, run: str = "r", waiting: str = "server-a") -> Wake:
    return Wake(
        waiting=waiting,
        starting="server-b",
        polled=answer("server-a", task={"run_id": run} if run else None),
        started=answer("server-b", run_id="r"),
        seconds=seconds,
        held=held,
    )


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        ([wake()] * TRIES, Verdict.HOLDS),
        ([wake()] * (TRIES - 1) + [wake(0.9)], Verdict.HOLDS),  # one slow wake on a busy machine is no reprobe
        ([wake(0.5)] * TRIES, Verdict.BROKEN),
        ([wake()] * (TRIES - 1) + [wake(run="")], Verdict.BROKEN),
        ([wake()] * (TRIES - 1) + [wake(run="another")], Verdict.BROKEN),
        ([wake(held=False)] * TRIES, Verdict.UNKNOWN),
    ],
)
def test_wakes(seen: list[Wake], verdict: Verdict) -> None:
    own = [wake(0.01, waiting="server-b")] * TRIES
    assert wakes.wakes_cross_nodes.judge((*seen, *own)).verdict is verdict


def test_slow_wakes_prove_nothing_on_a_machine_that_is_as_slow_within_one_node() -> None:
    busy = [wake(0.4, waiting="server-b")] * TRIES
    assert wakes.wakes_cross_nodes.judge((*[wake(0.5)] * TRIES, *busy)).verdict is Verdict.UNKNOWN
    assert wakes.wakes_cross_nodes.judge((*[wake()] * TRIES, *busy)).verdict is Verdict.HOLDS
    assert wakes.wakes_cross_nodes.judge((*[wake(run="")] * TRIES, *busy)).verdict is Verdict.BROKEN


def race(tasks: int = TASKS) -> Race:
    runs = [f"run-{number}" for number in range(tasks)]
    return Race(set(runs), [(f"server-{'ab'[at % 2]}", run, 1) for at, run in enumerate(runs)])


def test_a_fair_race_holds() -> None:
    assert races.racing_pollers_share_no_task.judge(race()).verdict is Verdict.HOLDS


def test_a_task_that_two_pollers_got_is_broken_and_named() -> None:
    seen = race()
    seen.handed.append(("server-b", "run-7", 1))
    judged = races.racing_pollers_share_no_task.judge(seen)
    assert judged.verdict is Verdict.BROKEN
    assert "twice: run run-7" in judged.evidence


def test_a_task_that_nobody_got_is_broken_and_named() -> None:
    seen = race()
    seen.handed.pop()
    judged = races.racing_pollers_share_no_task.judge(seen)
    assert judged.verdict is Verdict.BROKEN
    assert f"never: run run-{TASKS - 1}" in judged.evidence


def test_a_refused_request_is_broken() -> None:
    seen = race()
    seen.failures.append("POST … → 500")
    assert races.racing_pollers_share_no_task.judge(seen).verdict is Verdict.BROKEN


def test_a_race_that_one_node_ran_alone_proves_nothing() -> None:
    seen = race()
    seen.handed = [("server-a", run, attempt) for _, run, attempt in seen.handed]
    assert races.racing_pollers_share_no_task.judge(seen).verdict is Verdict.UNKNOWN
    assert races.racing_pollers_share_no_task.judge(race(3)).verdict is Verdict.UNKNOWN


def test_a_task_and_a_start_that_both_name_no_run_are_no_wake() -> None:
    nameless = replace(wake(), polled=answer(task={"task_id": "t"}), started=answer())
    assert wakes.wakes_cross_nodes.judge((nameless,) * TRIES).verdict is Verdict.BROKEN


def test_a_race_that_time_cut_short_has_lost_nothing() -> None:
    seen = race()
    del seen.handed[100:]
    seen.cut_short = True
    assert races.racing_pollers_share_no_task.judge(seen).verdict is Verdict.UNKNOWN
    seen.handed.append(seen.handed[0])
    assert races.racing_pollers_share_no_task.judge(seen).verdict is Verdict.BROKEN


def test_a_server_that_took_in_fewer_tasks_in_time_is_raced_for_those() -> None:
    assert races.racing_pollers_share_no_task.judge(race(races.ENOUGH)).verdict is Verdict.HOLDS


def test_a_course_stops_when_nothing_is_handed_out_any_more() -> None:
    seen = Race({"a", "b"})
    course = races.Course(seen, quiet=0.3)
    assert course.enter()
    course.leave("server-a", {"run_id": "a", "workflow_task_attempt": 1})
    waiting.until_none("it is quiet", lambda: None if not course.enter() else "quiet", deadline=10)
    assert not seen.cut_short


def test_the_last_task_tells_how_many_polls_still_wait() -> None:
    seen = Race({"a"})
    course = races.Course(seen, quiet=9.0)
    assert [course.enter() for _ in range(3)] == [True, True, True]
    assert course.leave("server-a", {"run_id": "a"}) == 2
    assert course.leave("server-b", {"run_id": "x", "workflow_id": "smoke-race-1-release-0"}) == 0
    assert course.leave("server-b", {"run_id": "a"}) == 0
    assert not course.enter()
    assert seen.runs == {"a": 2}  # a second hand-out after the end is still seen
