"""From a defect to what Compose is given, and from findings to what a trial says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smallcluster.defects.base import Defect, Patch, containers_of
from smallcluster.defects.plant import plant
from smallcluster.defects.run import Trial, told
from smallcluster.edits import Edit
from smallcluster.settings import Settings, load

DEFECT = Defect(id="one", says="One.", breaks=("api.one-owner",), caught_by=("a", "b"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load("pgsql", nodes=3, exported={}, state=tmp_path)


def with_(**changed: object) -> Defect:
    return Defect(**(DEFECT.__dict__ | changed))  # type: ignore[arg-type]


def test_words_for_several_containers(settings: Settings) -> None:
    assert containers_of(["last-node", "redis"], settings) == ["server-c", "redis"]
    assert containers_of(["nodes", "first-node"], settings) == ["server-a", "server-b", "server-c"]
    assert containers_of(["everywhere"], settings) == ["server-a", "server-b", "server-c", "scheduler", "bootstrap"]


def test_variables_go_to_the_containers_that_are_meant(settings: Settings) -> None:
    planted = plant(with_(env={"last-node": {"A": "1"}, "nodes": {"B": "2"}}), settings, "/package")
    environments = {name: one["environment"] for name, one in planted.overlay["services"].items()}
    assert environments == {"server-a": {"B": "2"}, "server-b": {"B": "2"}, "server-c": {"A": "1", "B": "2"}}
    assert planted.file is not None
    assert json.loads(planted.file.read_text()) == planted.overlay


def test_a_patched_module_is_mounted_over_the_images_own(settings: Settings) -> None:
    patch = Patch("def application(", "def application_of(", "routes.py", ("last-node",))
    planted = plant(with_(patches=(patch,)), settings, "/package")
    (volume,) = planted.overlay["services"]["server-c"]["volumes"]
    path, target, mode = volume.split(":")
    assert (target, mode, list(planted.overlay["services"])) == ("/package/routes.py", "ro", ["server-c"])
    assert "def application_of(" in Path(path).read_text()


def test_two_patches_of_one_module_are_one_file(settings: Settings) -> None:
    patches = (
        Patch("ENDPOINTS = (", "ENDPOINTS: object = (", "routes.py"),
        Patch("_LOST_POLL = {", "_LOST = {", "routes.py"),
    )
    planted = plant(with_(patches=patches), settings, "/package")
    assert {len(one["volumes"]) for one in planted.overlay["services"].values()} == {1}


def test_the_balancers_file_is_a_copy_of_its_own(settings: Settings) -> None:
    planted = plant(with_(nginx=(Edit("proxy_buffering off;", "proxy_buffering on;"),)), settings, "/package")
    (volume,) = planted.overlay["services"]["balancer"]["volumes"]
    folder, target, _ = volume.split(":")
    assert target == "/etc/nginx/smallcluster"
    assert "proxy_buffering on;" in (Path(folder) / "nginx.conf").read_text()


def test_nothing_to_merge_is_no_file(settings: Settings) -> None:
    assert plant(DEFECT, settings, "/package").file is None


@pytest.mark.parametrize(
    ("red", "caught", "blamed", "word"),
    [
        ({"a": ("api.one-owner",), "b": ()}, True, True, "caught by a, b"),
        ({"a": ("smoke.health",), "b": ()}, True, False, "but of another rule"),
        ({"a": ("api.one-owner",)}, False, True, "MISSED by b; red: a"),
        ({}, False, False, "red: nothing"),
    ],
)
def test_a_trial(red: dict[str, tuple[str, ...]], caught: bool, blamed: bool, word: str) -> None:
    trial = Trial(DEFECT, red=red)
    assert (trial.caught, trial.blamed) == (caught, blamed)
    assert word in told(trial)


def test_a_harmless_one_must_leave_all_green() -> None:
    harmless = with_(breaks=(), caught_by=())
    assert Trial(harmless).caught
    assert not Trial(harmless, red={"a": ()}).caught
    assert "RED: a" in told(Trial(harmless, red={"a": ()}))
