"""Engine access: where the engine is, and what a person reads when it doesn't answer."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from smallcluster import engine
from smallcluster.engine import Reach
from smallcluster.errors import MachineCannotError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where DOCKER_HOST points; nothing is there yet."""
    place = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place}")
    return place


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Make PATH a folder with these shell programs alone."""
    for name, body in scripts.items():
        file = folder / name.replace("_", "-")
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    engine._compose_command.cache_clear()


def test_no_socket(place: Path) -> None:
    with pytest.raises(MachineCannotError, match="no such socket") as failed:
        engine.connect()
    assert "DOCKER_HOST" in failed.value.what
    assert failed.value.then == "invoke setup"


def test_a_socket_that_was_left_behind(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place))
    assert engine.reach(str(place)) is Reach.REFUSED
    with pytest.raises(MachineCannotError, match="stopped or killed"):
        engine.connect()


def test_an_engine_that_says_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 1.0)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place))
        silent.listen()
        with pytest.raises(MachineCannotError, match="hangs") as failed:
            engine.connect()
    assert "timed out" in failed.value.seen.lower()


def test_a_closed_socket_names_the_group(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(engine, "reach", lambda _: Reach.DENIED)  # root, who runs tests in CI, is denied nothing
    with pytest.raises(MachineCannotError, match="group docker"):
        engine.connect()


def test_docker_host_goes_before_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere.example:2375")
    monkeypatch.setenv("DOCKER_CONTEXT", "unknown")
    found = engine.endpoint()
    assert (found.url, found.named_by, found.local) == ("tcp://elsewhere.example:2375", "DOCKER_HOST", False)


def test_an_unknown_context_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    with pytest.raises(MachineCannotError, match="nowhere"):
        engine.endpoint()


def test_compose_is_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, docker="echo 2.26.1-4")
    assert engine.compose_command() == ["docker", "compose"]


def test_compose_version_1_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, docker="exit 1", docker_compose="echo 1.29.2")
    with pytest.raises(MachineCannotError, match=r"`docker-compose` is 1\.29\.2"):
        engine.compose_command()


def test_a_standalone_compose_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, docker="exit 1", docker_compose="echo v5.0.1")
    assert engine.compose_command() == ["docker-compose"]


def test_no_compose_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch)
    with pytest.raises(MachineCannotError, match="Compose version 2 is missing"):
        engine.compose_command()


@pytest.mark.parametrize(("version", "number"), [("2.26.1-4", 2), ("v5.0.1", 5), ("", 0), ("dev", 0)])
def test_major(version: str, number: int) -> None:
    assert engine.major(version) == number


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("unix:///var/run/docker.sock", True),
        ("tcp://127.0.0.1:2375", True),
        ("tcp://localhost:2376", True),
        ("tcp://[::1]:2375", True),
        ("tcp://build-machine:2375", False),
        ("ssh://somebody@build-machine", False),
    ],
)
def test_an_engine_on_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch, url: str, local: bool) -> None:
    monkeypatch.setenv("DOCKER_HOST", url)
    if local:
        engine.refuse_remote()
    else:
        with pytest.raises(MachineCannotError, match="named by DOCKER_HOST") as refused:
            engine.refuse_remote()
        assert "unset DOCKER_HOST" in refused.value.then
