"""Percentiles, targets, plans, and the figures that come from the engine and the kernel."""

from __future__ import annotations

import os
import resource
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallcluster.bench import plan as plans
from smallcluster.bench.figures import Figure, Latencies, Spread, percentile
from smallcluster.bench.machine import this_machine
from smallcluster.bench.plan import Plan, make_room, plan_asked
from smallcluster.bench.usage import Moment, cores_between, machine_seconds, memory_from
from smallcluster.errors import AskedWronglyError, MachineCannotError


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([5.0], 99, 5.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        ([float(one) for one in range(1, 101)], 99, 99.0),
        ([float(one) for one in range(1, 201)], 99, 198.0),
        ([1.0, 2.0], 99, 2.0),
    ],
)
def test_percentiles_are_values_that_were_measured(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(1, 100))
def test_so_many_values_do_not_exceed_a_percentile(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(one <= found for one in values) >= percent / 100 * len(values)


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    assert Latencies.of([]) is None
    assert Spread.of([]) is None


def test_durations_become_milliseconds_and_runs_a_median() -> None:
    assert Latencies.of([0.001, 0.002, 0.5]) == Latencies(count=3, p50=2.0, p99=500.0, slowest=500.0)
    assert Spread.of([80.0, 60.0, 90.0, 70.0]) == Spread(75.0, 60.0, 90.0, (80.0, 60.0, 90.0, 70.0))


@pytest.mark.parametrize(
    ("value", "target", "at_least", "met"),
    [
        (80.0, 80.0, True, True),
        (79.9, 80.0, True, False),
        (40.0, 40.0, False, True),
        (40.1, 40.0, False, False),
        (None, 40.0, False, None),
        (1.0, None, False, None),
    ],
)
def test_a_target_is_met_or_not_or_nobody_knows(
    value: float | None, target: float | None, at_least: bool, met: bool | None
) -> None:
    assert Figure(name="x", value=value, unit="ms", target=target, at_least=at_least).met is met


def flags(**changed: str) -> dict[str, Any]:
    return {"runs": "5", "seconds": "3", "polls": "5000", "hold": "30", "longest_hold": 30} | changed


def test_flags_become_a_plan() -> None:
    assert plan_asked(**flags()) == Plan(runs=5, seconds=3, polls=5000, hold=30)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"runs": "0"}, "--runs=0 is not a number from 1 to 100"),
        ({"seconds": "many"}, "--seconds=many"),
        ({"polls": "-1"}, "--polls=-1"),
        ({"hold": "31"}, "from 3 to 30"),
        ({"hold": "2"}, "from 3 to 30"),
    ],
)
def test_what_can_not_be_measured_is_refused(changed: dict[str, str], words: str) -> None:
    with pytest.raises(AskedWronglyError) as caught:
        plan_asked(**flags(**changed))
    assert words in str(caught.value)


def test_a_machine_without_enough_open_files_or_ports_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(plans, "_ephemeral_ports", lambda: 1000)
    with pytest.raises(
        MachineCannotError, match="5000 idle polls need 5200 open files, and this process may have 4096"
    ):
        make_room(5000)
    with pytest.raises(MachineCannotError, match="as many local ports, and there are 1000"):
        make_room(2000)
    make_room(500)
    assert given[-1] == (700, 4096)


def test_memory_is_read_from_either_cgroup_version() -> None:
    first = {"usage": 100_000_000, "stats": {"total_inactive_file": 10_000_000, "total_rss": 80_000_000, "rss": 1}}
    second = {"usage": 100_000_000, "stats": {"inactive_file": 20_000_000, "anon": 70_000_000}}
    found = [memory_from({"memory_stats": one}) for one in (first, second)]
    assert [(one.used, one.anonymous) for one in found] == [(90.0, 80.0), (80.0, 70.0)]


def test_cores_are_processor_time_over_the_time_between_that_containers_own_looks() -> None:
    before = {"a": Moment(100.0, 5.0), "b": Moment(101.0, 0.0)}
    assert cores_between(before, {"a": Moment(110.0, 10.0), "b": Moment(105.0, 1.0)}) == {"a": 0.5, "b": 0.25}


def test_a_machine_is_busy_where_it_neither_idles_nor_waits_nor_was_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_CLK_TCK": 100}.__getitem__)
    assert machine_seconds("cpu  100 20 30 9999 999 4 5 41 0 0\ncpu0 1 1 1 1\n") == pytest.approx(1.59)


def test_this_machine_has_cores_and_a_name() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert f"{machine.cores} cores ({machine.processor})" in machine.shown
