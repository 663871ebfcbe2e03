"""`invoke check` on Compose files: Compose itself reads them, and no engine is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Invoke

pytestmark = [pytest.mark.cluster, pytest.mark.once]

FILE = """
x-server: &server
  image: "server:${TAG:-1}"
  environment: &environment
    APP_VERSION: "1"
    DW_SERIALIZER: avro
    DW_WORKER_TOKEN: a-token-of-the-tests
    CACHE_STORE: redis
    QUEUE_CONNECTION: redis
    REDIS_HOST: cache
    DB_CONNECTION: mysql
    DB_HOST: db
    DB_DATABASE: w
services:
  server-a:
    <<: *server
    environment: {<<: *environment, DW_SERVER_ID: a}
  server-b:
    <<: *server
    environment: {<<: *environment, DW_SERVER_ID: b}
  scheduler:
    <<: *server
    profiles: [maintenance]
    command: sh -c "schedule:evaluate; activity:timeout-enforce; history:prune"
  db:
    image: "mysql:8"
  cache:
    image: "redis:7"
"""
OPENED = FILE.replace("DW_SERVER_ID: b", "DW_SERVER_ID: a").replace('"mysql:8"', '"mysql:8"\n    ports: ["3306:3306"]')


def line_of(text: str, words: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if words in line)


def test_anchors_profiles_and_interpolation_are_composes_to_read(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(FILE)
    ran = invoke("check", f"--compose={path}", "--json")
    assert (ran.code, set(ran.checks().values())) == (0, {"holds"}), ran.out
    path.write_text(OPENED)
    ran = invoke("check", f"--compose={path}", "--json")
    broken = {check for check, verdict in ran.checks().items() if verdict == "broken"}
    assert (ran.code, broken) == (10, {"env-gives-each-node-an-id", "compose-keeps-data-services-private"})
    assert f"{path}:{line_of(OPENED, 'ports:')}: db: publishes 3306 for 3306" in ran.out
    assert f"{path}:{line_of(OPENED, 'DW_SERVER_ID: a')}: DW_SERVER_ID=a" in ran.out


@pytest.mark.parametrize(
    "text", ["services: [", "services: {a: {imagine: x}}", "services: {a: {env_file: nowhere.env}}"]
)
def test_what_compose_can_not_read_is_refused_in_its_words(invoke: Invoke, tmp_path: Path, text: str) -> None:
    path = tmp_path / "compose.yaml"
    path.write_text(text)
    ran = invoke("check", f"--compose={path}")
    assert ran.code == 12
    assert "Compose can't read it" in ran.err
    assert "Seen: " in ran.err
