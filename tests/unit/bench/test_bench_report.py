"""One bench, two printers: every figure beside its target, and an exit code that is no verdict on the cluster."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smallcluster import evidence
from smallcluster.bench.cycles import Cycles
from smallcluster.bench.figures import Latencies, Spread
from smallcluster.bench.floor import Floor
from smallcluster.bench.idle_polls import IdlePolls
from smallcluster.bench.machine import Machine
from smallcluster.bench.plan import Plan
from smallcluster.bench.run import BenchReport, Measured
from smallcluster.bench.starts import Starts
from smallcluster.bench.traffic import Ledger
from smallcluster.bench.usage import Cores, Memory
from smallcluster.bench.wakes import Direction, Wakes
from smallcluster.cluster import Cluster
from smallcluster.errors import ClusterBrokenError, ExitCode, InterruptedRunError, PersonError
from smallcluster.images import Image
from smallcluster.progress import Phase
from smallcluster.report import bench
from smallcluster.settings import Settings

IMAGE = Image("server", "some/server:1", "built here", "sha256:" + "a" * 64, "sha256:" + "a" * 64, "1.0")


def cycles(rate: float = 60.0, **changed: Any) -> Cycles:
    values: dict[str, Any] = {
        "rate": Spread.of([rate - 5, rate, rate + 5]),
        "crowded": Latencies.of([0.1, 0.2]),
        "alone": Latencies.of([0.01, 0.03]),
        "completed": 1000,
    }
    return Cycles(**(values | changed))


def wakes(*seconds: float) -> Wakes:
    return Wakes((Direction("server-a", "server-b", 0.06, list(seconds)), Direction("server-b", "server-a")))


def idle(**changed: Any) -> IdlePolls:
    values: dict[str, Any] = {
        "route": "server-a",
        "asked": 5000,
        "hold": 30,
        "workers": 100,
        "opened_within": 9.5,
        "held": 5000,
        "shortest": 30.0,
        "longest": 30.4,
        "health": Latencies(200, 3.0, 60.0, 80.0),
        "before": Memory(60.0, 50.0),
        "during": Memory(180.0, 170.0),
        "after": Memory(120.0, 110.0),
    }
    return IdlePolls(**(values | changed))


def whole(**changed: Any) -> Measured:
    values: dict[str, Any] = {
        "addresses": {"balancer": "http://10.0.0.2:8080"},
        "addressed": "somewhere",
        "cycles": cycles(),
        "cores": Cores({"server-a": 0.5, "client": 0.1}, 20.0),
        "floor": Floor(Spread.of([80.0, 100.0, 120.0]), Spread.of([0.5, 0.7, 0.8])),
        "wakes": wakes(0.004, 0.006, 0.05),
        "idle_polls": idle(),
        "starts": Starts(Spread.of([0.5, 0.9, 0.7])),
        "ledger": Ledger(workers=103, started=10, completed=8),
    }
    return Measured(**(values | changed))


@pytest.fixture
def report(settings: Settings) -> Any:
    def made(measured: Measured, problem: PersonError | None = None, left_running: bool = False) -> BenchReport:
        cluster = SimpleNamespace(settings=settings, images={"server": IMAGE}, routes=lambda: {"balancer": "http://x"})
        return BenchReport(
            cluster=cast("Cluster", cluster),
            plan=Plan(runs=3, seconds=3, polls=5000, hold=30),
            machine=Machine(2, "Some Processor", 8000, "Linux 6", "3.11.7", 0.5),
            load_after=2.5,
            engine="28.0",
            measured=measured,
            phases=(Phase("up", 5.0),),
            evidence=evidence.begin("bench", settings, datetime.now(UTC)),
            brought_up=True,
            left_running=left_running,
            seconds=90.0,
            problem=problem,
        )

    return made


def test_the_data_hold_every_figure_its_target_and_whether_it_is_met(report: Any) -> None:
    data = json.loads(json.dumps(bench.bench_as_data(report(whole()))))
    assert (data["schema"], data["exit_code"], data["database"]) == ("smallcluster.bench/1", 0, "mysql")
    found = {one["name"].strip(): (one["value"], one["target"], one["met"]) for one in data["figures"]}
    assert found == {
        "start → poll → complete, balancer": (60.0, 100.0, False),
        "one whole cycle, 1 connection, p50": (10.0, None, None),
        "one whole cycle, 1 connection, p99": (30.0, 50.0, True),
        "bare handlers, same SQL": (100.0, None, None),
        "share of it reached": (0.7, 0.6, True),
        "wake across nodes, p50": (6.0, 5.0, False),
        "wake across nodes, p99": (50.0, 25.0, False),
        "idle polls held by one node": (5000, 5000, True),
        "memory of that node meanwhile": (180.0, 250.0, True),
        "/api/health of it meanwhile, p50": (3.0, None, None),
        "/api/health of it meanwhile, p99": (60.0, 50.0, False),
        "a further node, start to ready": (0.7, 1.5, True),
    }
    assert data["machine"]["cores"] == 2
    assert (data["machine"]["load"], data["machine"]["load_after"], data["machine"]["engine"]) == (0.5, 2.5, "28.0")
    assert data["processor_ms_per_cycle"] == {"server-a": 10.0, "client": 2.0}
    assert data["wakes"][0]["latencies"]["count"] == 3
    assert "docker stats" in data["idle_polls"]["memory"]["used"]
    assert data["cycles"]["rate"]["runs"] == [55.0, 60.0, 65.0]


def test_a_person_reads_machine_client_figures_and_what_is_left(
    report: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.print_bench(report(whole(), left_running=True))
    out = capsys.readouterr().out
    for words in (
        "2 cores (Some Processor), 8.0 GB memory, Linux 6, load 0.50 before and 2.50 after; engine 28.0",
        "Client: a lean asyncio HTTP/1.1 client",
        "8 connections, median of 3 runs of 3 s, 55 to",
        "each for 30 to 30.4 s, taken in within 9.5 s",
        "60 before, 120 afterwards; anonymous 170",
        "Processor time per cycle: server-a 10 ms, client 2 ms",
        "twice the slowest of 20 polls with timeout_seconds 0 (60 ms)",
        "Left in the cluster: 103 worker registrations, 8 completed workflows, 2 open ones",
    ):
        assert words in out
    assert out.splitlines()[-1] == "Measured (mysql, 2 nodes; 5 of 9 measured targets met; 90.0 s; exit 0)"


def test_what_can_t_be_measured_there_says_why_and_makes_nothing_weak(report: Any) -> None:
    made = report(whole(floor=Floor(absent="no bare handlers"), starts=Starts(absent="out of reach")))
    assert made.exit_code is ExitCode.HOLDS
    told = {one.detail for one in bench.figures(made) if one.value is None}
    assert {"no bare handlers", "out of reach"} <= told


def test_postgresql_has_a_higher_target(report: Any) -> None:
    made = report(whole(cycles=cycles(rate=120.0)))
    assert bench.figures(made)[0].met is True
    settings = SimpleNamespace(db="pgsql", nodes=2)
    cast("Any", made.cluster).settings = settings
    assert bench.figures(made)[0].met is False


@pytest.mark.parametrize(
    ("measured", "problem", "code"),
    [
        (whole(), None, ExitCode.HOLDS),
        (whole(cycles=cycles(rate=1.0)), None, ExitCode.HOLDS),  # a missed target is a number, not a verdict
        (whole(cycles=cycles(weak=("POST … → 503",))), None, ExitCode.UNKNOWN),
        (whole(idle_polls=idle(weak=["only 4000 of 5000"])), None, ExitCode.UNKNOWN),
        (whole(wakes=None), None, ExitCode.UNKNOWN),
        (whole(floor=Floor(weak=("no task",))), None, ExitCode.UNKNOWN),
        (whole(starts=Starts(weak=("never ready",))), None, ExitCode.UNKNOWN),
        (Measured(), InterruptedRunError("Stopped."), ExitCode.UNKNOWN),
        (Measured(), ClusterBrokenError("Not ready."), ExitCode.BROKEN),
    ],
)
def test_the_exit_code_says_whether_it_was_measured(
    report: Any, measured: Measured, problem: PersonError | None, code: ExitCode
) -> None:
    made = report(measured, problem)
    assert made.exit_code is code
    assert bench.bench_as_data(made)["exit_code"] == int(code)


def test_what_was_not_reached_is_named_and_never_a_met_target(report: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = report(Measured(), InterruptedRunError("Stopped by SIGINT."))
    assert [one.met for one in bench.figures(made)] == [None] * 12
    bench.print_bench(made)
    out = capsys.readouterr().out
    assert "Weak: idle polls: not measured" in out
    assert "Stopped by SIGINT." in out
    assert out.splitlines()[-1].startswith("Stopped (mysql, 2 nodes; 0 of 0 measured targets met;")


def test_weak_figures_are_shown_with_the_reason(report: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bench.print_bench(report(whole(cycles=cycles(weak=("POST /api/workflows via balancer → 503",)))))
    out = capsys.readouterr().out
    assert "Weak: cycles: POST /api/workflows via balancer → 503" in out
    assert out.splitlines()[-1].startswith("Too weak to judge")
