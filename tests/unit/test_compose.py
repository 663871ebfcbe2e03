"""The Compose runner, driven with a stand-in program: bounded, talkative, ended with everything it started."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from smallcluster import interrupts
from smallcluster.compose import Compose
from smallcluster.errors import MachineCannotError


def stand_in(code: str) -> Compose:
    return Compose(command=(sys.executable, "-c", code), project="p", files=(Path("a.yaml"),), variables={"X": "1"})


def test_files_project_and_profiles_are_on_the_command_line() -> None:
    made = Compose(
        command=("docker", "compose"),
        project="p",
        files=(Path("a.yaml"), Path("b.yaml")),
        variables={},
        profiles=("three-nodes",),
    )
    line = " ".join(made.argv(["up", "--detach"]))
    assert line.startswith("docker compose --ansi never --progress plain --project-name p ")
    assert "--file a.yaml --file b.yaml --profile three-nodes up --detach" in line


def test_output_is_passed_on_line_by_line_and_kept() -> None:
    said: list[str] = []
    outcome = stand_in("import os; print('one'); print('two', os.environ['X']); raise SystemExit(3)").run(
        "up", say=said.append
    )
    assert said == ["one", "two 1"]
    assert (outcome.status, outcome.tail) == (3, "one\ntwo 1")


def test_variables_that_steer_compose_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_FILE", "somewhere-else.yaml")
    outcome = stand_in("import os; print(os.environ.get('COMPOSE_FILE'))").run("up")
    assert outcome.tail == "None"


def test_a_command_that_hangs_is_ended_and_told() -> None:
    began = time.monotonic()
    with pytest.raises(MachineCannotError, match="did not end within 1 s") as caught:
        stand_in("import time; print('waiting for a node', flush=True); time.sleep(600)").run("up", deadline=1)
    assert "waiting for a node" in caught.value.seen
    assert time.monotonic() - began < 60


def test_a_signal_at_the_moment_of_the_start_ends_the_command_too(monkeypatch: pytest.MonkeyPatch) -> None:
    born: list[subprocess.Popen[str]] = []
    spawn = Compose._spawn

    def spawn_and_signal(self: Compose, arguments: Sequence[str]) -> subprocess.Popen[str]:
        born.append(spawn(self, arguments))
        signal.raise_signal(signal.SIGTERM)
        return born[0]

    monkeypatch.setattr(Compose, "_spawn", spawn_and_signal)
    with pytest.raises(interrupts.Interruption), interrupts.as_exceptions():
        stand_in("import time; time.sleep(600)").run("up")
    assert born[0].poll() is not None
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    for timer in timers:
        timer.join(5)  # a cancelled one is about to end; one that was forgotten has minutes left
    assert not [timer for timer in timers if timer.is_alive()]


def test_an_interrupt_ends_the_command_too(tmp_path: Path) -> None:
    alive = tmp_path / "pid"
    code = (
        f"import os, time; open({str(alive)!r}, 'w').write(str(os.getpid())); print('up', flush=True); time.sleep(600)"
    )

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stand_in(code).run("up", say=interrupt)
    assert not Path(f"/proc/{alive.read_text()}").exists()
