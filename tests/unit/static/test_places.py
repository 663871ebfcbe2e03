"""Where the services and keys of a Compose file stand, in the forms that Compose takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallcluster.static import places
from smallcluster.static.places import Places

FILE = """\
x-server: &server
  image: server:1
  env_file: common.env
  environment: &environment
    DB_CONNECTION: mysql
services:
  server-a:
    <<: *server
    environment:
      <<: *environment
      DW_SERVER_ID: a
  server-b:
    <<: *server
    image: server:2
    env_file: [common.env, {path: b.env}]
    environment:
      - DW_SERVER_ID=b
      - FROM_OUTSIDE
    deploy:
      update_config: {order: start-first}
  child: {extends: server-a}
"""
COMMON = "# for all\n\nREDIS_HOST=redis\nAPP_DEBUG=0\n"


@pytest.fixture
def seen(tmp_path: Path) -> Places:
    (tmp_path / "compose.yaml").write_text(FILE)
    (tmp_path / "common.env").write_text(COMMON)
    (tmp_path / "b.env").write_text("APP_DEBUG=1\n")
    return places.read([("compose.yaml", tmp_path / "compose.yaml")], "compose.yaml")


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        (("server-a",), "compose.yaml:7"),
        (("server-a", "image"), "compose.yaml:2"),
        (("server-b", "image"), "compose.yaml:14"),
        (("server-a", "environment", "DW_SERVER_ID"), "compose.yaml:11"),
        (("server-a", "environment", "DB_CONNECTION"), "compose.yaml:5"),
        (("server-b", "environment", "DW_SERVER_ID"), "compose.yaml:17"),
        (("server-a", "environment", "REDIS_HOST"), "common.env:3"),
        (("server-b", "environment", "APP_DEBUG"), "b.env:1"),
        (("server-b", "environment", "FROM_OUTSIDE"), "compose.yaml:16"),
        (("server-b", "deploy", "update_config"), "compose.yaml:20"),
        (("server-b", "deploy", "mode"), "compose.yaml:19"),
        (("child", "image"), "compose.yaml:21"),
        (("from-elsewhere", "image"), "compose.yaml"),
    ],
)
def test_each_key_has_the_line_that_says_it(seen: Places, keys: tuple[str, ...], place: str) -> None:
    assert seen.of(*keys) == place


def test_an_included_file_is_named_with_its_own_lines(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("include:\n  - path: [parts/data.yaml]\nservices: {a: {image: x}}\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "data.yaml").write_text("include: [../compose.yaml]\nservices:\n  db:\n    ports: [1]\n")
    seen = places.read([("here/compose.yaml", tmp_path / "compose.yaml")], "here/compose.yaml")
    assert seen.of("db", "ports") == "here/parts/data.yaml:4"
    assert seen.of("a", "image") == "here/compose.yaml:3"


def test_of_two_files_the_later_has_the_say(tmp_path: Path) -> None:
    for name, text in (
        ("one.yaml", "services: {a: {image: x, ports: []}}"),
        ("two.yaml", "\nservices: {a: {image: y}}"),
    ):
        (tmp_path / name).write_text(text)
    seen = places.read([(name, tmp_path / name) for name in ("one.yaml", "two.yaml")], "compose/")
    assert (seen.of("a", "image"), seen.of("a", "ports"), seen.of("b")) == ("two.yaml:2", "one.yaml:1", "compose/")


@pytest.mark.parametrize(
    "text", ["", "services:", "- a", "services: [", "services: {a: null}", "services: {a: {1: x}}"]
)
def test_a_file_that_says_little_has_few_lines(text: str, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(text)
    assert places.read([("compose.yaml", path)], "compose.yaml").of("b", "image") == "compose.yaml"
