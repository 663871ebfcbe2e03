"""The server's image that a person named: what is refused, and by which programs a server is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smallcluster import engine, flavours, server_image, versions
from smallcluster.errors import AskedWronglyError
from smallcluster.flavours import Flavour, flavour_of
from smallcluster.progress import Progress


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(versions, "REMEMBERED", tmp_path / "remembered.json")


def image(architecture: str = "amd64", **labels: str) -> Any:
    return SimpleNamespace(id="sha256:1", labels=labels, attrs={"Architecture": architecture})


def test_an_image_for_another_processor_is_refused_before_anything_runs_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    client: Any = SimpleNamespace(images=SimpleNamespace(get=lambda _: image("arm64")))
    monkeypatch.setattr(engine, "facts", lambda _: SimpleNamespace(architecture="amd64"))
    with pytest.raises(AskedWronglyError, match="made for another processor") as refused:
        server_image.named(client, "some/server:1", Progress())
    assert refused.value.seen == "the image is for arm64, the engine runs on amd64."
    assert "--platform=linux/amd64" in refused.value.then


@pytest.mark.parametrize(
    ("said", "flavour"),
    [
        ("dw-refserver\nserver-bootstrap\n", Flavour.REFERENCE),
        ("server-bootstrap\n", Flavour.PUBLISHED),
    ],
)
def test_programs_tell_the_server(monkeypatch: pytest.MonkeyPatch, said: str, flavour: Flavour) -> None:
    asked = []
    monkeypatch.setattr(versions, "run", lambda *question: asked.append(question) or said)
    client: Any = object()
    assert [flavour_of(client, "some/server:1", image()) for _ in range(2)] == [flavour] * 2
    assert len(asked) == 1, "an image is asked once"


def test_an_image_built_here_needs_no_question() -> None:
    client: Any = None
    labels = {"io.smallcluster.image": "server"}
    assert flavour_of(client, "x", image(**labels)) is Flavour.REFERENCE


def test_an_image_without_either_program_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "run", lambda *_: "")
    client: Any = object()
    with pytest.raises(AskedWronglyError, match="is not a Durable Workflow Server") as refused:
        flavour_of(client, "some/thing:1", image(**{"io.smallcluster.image": "redis"}))
    assert all(program in refused.value.seen for program in flavours.PROGRAMS)
