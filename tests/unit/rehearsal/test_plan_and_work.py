"""The plan in the note's order, what a worker of the rehearsal decides, and what a comparison of histories sees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.made import answer

from smallcluster.errors import ClusterBrokenError
from smallcluster.rehearsal import plan as plans
from smallcluster.rehearsal import run, steps, window, worker, workload
from smallcluster.rehearsal.journal import Work
from smallcluster.rehearsal.plan import STEPS, Plan
from smallcluster.rehearsal.workload import Workload, changed
from smallcluster.static import nginx

PLAN = Plan(
    database="pgsql", nodes=2, from_image="old", from_id="1", from_version="0.1.0", to_image="new", to_id="2",
    to_version="0.2.0", world="w", backups="/backups",
)  # fmt: skip


def test_the_notes_order_and_something_to_do_for_each_step() -> None:
    order = [step.id for step in STEPS]
    noted = ["drain-workers", "stop-scheduler", "stop-nodes", "bootstrap", "start-nodes", "start-workers",
             "start-scheduler"]  # fmt: skip
    assert [step for step in order if step in noted] == noted
    assert order.index("stop-nodes") < order.index("back-up") < order.index("bootstrap")
    assert set(order) - set(steps.WORK) == {"smoke"}
    assert set(plans.WINDOW) < set(order)


def test_the_plan_is_read_back_as_it_was_saved_and_told_whole() -> None:
    assert plans.told_from(PLAN.as_data()) == PLAN
    told = "\n".join(plans.lines(PLAN))
    assert "from 0.1.0, old" in told
    assert all(step.verified in told for step in STEPS)
    assert told.count("verified:") == told.count("undone:") == len(STEPS)


@pytest.mark.parametrize(
    ("before", "after", "newer"),
    [("0.1.0", "0.2.0", True), ("0.9.0", "0.10.0", True), ("0.2.0", "0.2.0", False), ("0.2.0", "0.1.0", False),
     ("0.2.0 (label)", "0.3.0", True), ("not stated", "0.2.0", None)],
)  # fmt: skip
def test_newer(before: str, after: str, newer: bool | None) -> None:
    assert plans.newer(before, after) is newer


def history(*kinds: str) -> dict[str, Any]:
    return {"task_queue": "q", "arguments": {"codec": "avro", "blob": "x"},
            "history_events": [{"event_type": kind} for kind in kinds]}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "seen", "command"),
    [
        ("plain", (), "complete_workflow"),
        ("activity", ("WorkflowStarted",), "schedule_activity"),
        ("activity", ("ActivityScheduled", "ActivityCompleted"), "complete_workflow"),
        ("timer", ("WorkflowStarted",), "start_timer"),
        ("timer", ("TimerScheduled", "TimerFired"), "complete_workflow"),
    ],
)
def test_what_a_workflow_does_next(kind: str, seen: tuple[str, ...], command: str) -> None:
    (decided,) = worker.decide(f"rehearsal.x.{kind}", history(*seen))
    assert decided["type"] == command


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (answer(status=200, recorded=True), "done"), (answer(status=201), "done"),
        (answer(status=200, recorded=False), "refused"), (answer(status=409), "refused"),
        (answer(status=503), "don't know"), (answer(status=None), "don't know"),
    ],
)  # fmt: skip
def test_what_is_known_of_an_operation(given: Any, outcome: str) -> None:
    assert worker.outcome_of(given) == outcome


def test_a_history_must_begin_with_what_it_was() -> None:
    one, two, other = {"id": "1", "event_type": "A"}, {"id": "2", "event_type": "B"}, {"id": "3", "event_type": "B"}
    assert list(changed("w", [one], [one, two])) == []
    assert list(changed("w", [one, two], [one, other])) == ["w: event 2 was B (2), and is another now"]
    assert list(changed("w", [one, two], [one])) == ["w has 1 events; it had 2"]


def test_a_worker_that_never_drains_is_named_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "DRAIN_SECONDS", 1.0)
    work = Workload(lambda: pytest.fail("nobody is asked"), tmp_path, Work("abc"))
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    for name, program in (("deaf", deaf), ("good", "import time; print(flush=True); time.sleep(60)")):
        process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        work._processes[name] = process
    assert work.workers == ("deaf", "good")
    assert (work.drain(), work.workers) == (["deaf"], ())


def test_a_worker_drains_when_whoever_started_it_is_gone() -> None:
    program = (
        "from smallcluster.rehearsal.worker import when_alone; import threading; one = threading.Event(); "
        "when_alone(one.set); print(flush=True); raise SystemExit(0 if one.wait(30) else 1)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.communicate(timeout=20)  # it closes our end
    assert process.returncode == 0


def test_what_was_acknowledged_before_the_kill_is_recalled(tmp_path: Path) -> None:
    lines = [{"what": "start", "workflow_id": "a", "run_id": "1", "outcome": "done"},
             {"what": "start", "workflow_id": "b", "outcome": "don't know"},
             {"what": "start", "workflow_id": "c", "outcome": "refused"},
             {"what": "signal", "workflow_id": "d", "outcome": "done"}]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / workload.OPERATIONS).write_text(text + '{"what": "sta')
    work = Workload(lambda: pytest.fail("nobody is asked"), tmp_path, Work("abc"))
    work.recall()
    assert (work.started, work.unknown) == ({"a": "1"}, {"b"})


def test_the_maintenance_answer_names_no_node(tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text(window.maintenance_conf())
    seen = nginx.read(path)
    assert (seen.proxied, dict(seen.upstreams)) == ([], {})
    assert "return 503" in path.read_text()
    assert "Retry-After" in path.read_text()


def looked_at(*health: str) -> Any:
    """A cluster whose balancer the engine finds in one state after the other, the last one for good."""
    states = list(health)
    return SimpleNamespace(
        container=lambda service: SimpleNamespace(health=states.pop(0) if len(states) > 1 else states[0])
    )


def test_a_smoke_waits_until_the_engine_has_seen_that_the_balancer_serves_again() -> None:
    said: list[str] = []
    run.await_looked_at(looked_at("unhealthy", "unhealthy", "healthy"), said.append)
    assert said == ["waiting for the engine's next look at the balancer"] * 2
    run.await_looked_at(looked_at("starting"), said.append)
    assert len(said) == 2


def test_a_balancer_that_stays_unhealthy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.1)
    with pytest.raises(ClusterBrokenError, match="the engine finds the balancer healthy"):
        run.await_looked_at(looked_at("unhealthy"), lambda _: None)
