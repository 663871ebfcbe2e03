"""Which image is taken, what it may hold, and when it is out of date."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallcluster import images, recipes, versions
from smallcluster.errors import AskedWronglyError, MachineCannotError
from smallcluster.paths import CHECKOUT
from smallcluster.setup import pull

SAID = {
    "mysql": ("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", "9.7.4-2"),
    "pgsql": ("postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)", "17.12"),
    "redis": ("Redis server v=8.0.2 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", "8.0.2"),
    "nginx": ("nginx version: nginx/1.26.3", "1.26.3"),
    "server": ("dw-refserver 0.1.0", "0.1.0"),
}
OTHERS = {
    "mysql": "/usr/sbin/mysqld  Ver 11.8.3-MariaDB-0+deb13u1 for debian-linux-gnu on x86_64 (Debian 13)",
    "redis": "Valkey server v=8.1.1 sha=00000000:1 malloc=jemalloc-5.3.0 bits=64 build=1",
    "nginx": "nginx version: openresty/1.27.1.1",
    "pgsql": "",
}


@pytest.mark.parametrize(("service", "said", "version"), [(name, *answer) for name, answer in SAID.items()])
def test_a_program_says_its_version(service: str, said: str, version: str) -> None:
    assert versions.judge(service, "some:tag", said) == version


@pytest.mark.parametrize(("service", "said"), OTHERS.items())
def test_another_product_behind_the_tag_is_refused(service: str, said: str) -> None:
    with pytest.raises(MachineCannotError, match="The image some:tag is not") as refused:
        versions.judge(service, "some:tag", said)
    assert said in refused.value.seen


def test_every_service_has_a_question_and_names() -> None:
    assert set(versions.QUESTIONS) == {recipes.kind_of(service) for service in images.SERVICES}
    assert set(images.names()) == {*images.SERVICES, recipes.BASE}


def test_published_names_go_first() -> None:
    assert images.candidates("mysql") == ["mysql:8.4", "smallcluster/mysql:local"]
    assert images.candidates("server") == [f"smallcluster/server-reference:{recipes.recipe('server')}"]


def test_an_unknown_service_is_refused() -> None:
    with pytest.raises(AskedWronglyError, match="mariadb"):
        images.candidates("mariadb")


def test_every_local_image_has_a_recipe_of_its_own() -> None:
    hashes = {name: recipes.recipe(name) for name in images.names()}
    assert len(set(hashes.values())) == len(hashes)


def test_a_server_is_made_from_the_reference_servers_sources() -> None:
    files = {file.relative_to(CHECKOUT).as_posix() for file in recipes.sources("server")}
    assert {"refserver/pyproject.toml", "refserver/requirements.lock", "compose/images/server/Dockerfile"} <= files
    assert not any("__pycache__" in file or ".egg-info" in file for file in files)


@pytest.fixture
def recipe_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one image, to be changed by the test."""
    folder = tmp_path / "compose" / "images" / "thing"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM base\n")
    monkeypatch.setattr(recipes, "CHECKOUT", tmp_path)
    monkeypatch.setattr(recipes, "IMAGES", folder.parent)
    monkeypatch.setattr(recipes, "_SHARED", ())
    return folder


def test_a_recipe_changes_with_content_name_and_mode(recipe_folder: Path) -> None:
    seen = {recipes.recipe("thing")}
    (recipe_folder / "Dockerfile").write_text("FROM other\n")
    seen.add(recipes.recipe("thing"))
    (recipe_folder / "entrypoint").write_text("")
    seen.add(recipes.recipe("thing"))
    (recipe_folder / "entrypoint").chmod(0o755)
    seen.add(recipes.recipe("thing"))
    assert len(seen) == 4


def test_a_recipe_does_not_change_with_what_python_leaves_behind(recipe_folder: Path) -> None:
    before = recipes.recipe("thing")
    (recipe_folder / "__pycache__").mkdir()
    (recipe_folder / "__pycache__" / "x.cpython-313.pyc").write_bytes(b"\0")
    assert recipes.recipe("thing") == before


def test_answers_are_remembered_by_image_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "REMEMBERED", tmp_path / "state" / "image-versions.json")
    assert versions.remembered("mysql", "sha256:1") is None
    versions.remember("mysql", "sha256:1", "9.7.4")
    versions.remember("redis", "sha256:2", "8.0.2")
    assert versions.remembered("mysql", "sha256:1") == "9.7.4"
    assert versions.remembered("mysql", "sha256:2") is None


def test_a_broken_memory_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "REMEMBERED", tmp_path / "image-versions.json")
    versions.REMEMBERED.write_text('{"mysql sha256:1": ')
    assert versions.remembered("mysql", "sha256:1") is None


def test_a_pulls_progress_reads_well() -> None:
    word = {"id": "2d35ebdb57d9", "status": "Downloading", "progress": "[=> ] 2MB/20MB"}
    assert pull.described("redis:8", word) == "redis:8 2d35ebdb57d9 Downloading [=> ] 2MB/20MB"
