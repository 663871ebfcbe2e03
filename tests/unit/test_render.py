"""Settings into files: what each container gets, and what the balancer's configuration says."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from smallcluster import render
from smallcluster.errors import AskedWronglyError
from smallcluster.paths import CHECKOUT
from smallcluster.settings import Settings, load


def test_nodes_differ_in_their_id_only(settings: Settings) -> None:
    rendered = render.env_files(settings)
    first, second = rendered["server-a"], rendered["server-b"]
    assert {name for name in first if first[name] != second[name]} == {"DW_SERVER_ID"}
    assert (first["DW_SERVER_ID"], second["DW_SERVER_ID"]) == ("server-a", "server-b")


def test_three_nodes_render_a_third_file(env_folder: Path, tmp_path: Path) -> None:
    three = load("pgsql", nodes=3, exported={}, env_folder=env_folder, state=tmp_path / "state")
    assert set(render.env_files(three)) == {
        *("server-a", "server-b", "server-c", "bootstrap", "scheduler", "database", "redis")
    }
    assert "server server-c:8080" in render.nginx_conf(three)


def test_no_node_sees_the_database_root_password(settings: Settings) -> None:
    rendered = render.env_files(settings)
    root = settings.value("DB_ROOT_PASSWORD")
    holders = [name for name, values in rendered.items() if root in values.values()]
    assert holders == ["database"]


def test_the_database_gets_the_nodes_credentials_in_its_own_names(env_folder: Path, tmp_path: Path) -> None:
    found = load("pgsql", exported={}, env_folder=env_folder, state=tmp_path / "state")
    rendered = render.env_files(found)
    assert rendered["database"] == {
        "POSTGRES_USER": rendered["server-a"]["DB_USERNAME"],
        "POSTGRES_PASSWORD": rendered["server-a"]["DB_PASSWORD"],
        "POSTGRES_DB": rendered["server-a"]["DB_DATABASE"],
    }


def test_rendered_env_files_are_private(settings: Settings) -> None:
    for path in render.render(settings):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o600 if path.suffix == ".env" else 0o644), path


def test_rendering_twice_changes_nothing(settings: Settings) -> None:
    before = {path: path.read_text() for path in render.render(settings)}
    assert {path: path.read_text() for path in render.render(settings)} == before


def test_the_balancer_waits_longer_than_the_longest_poll(env_folder: Path, tmp_path: Path) -> None:
    found = load(
        "mysql",
        exported={"DW_WORKER_POLL_TIMEOUT": "300"},
        env_folder=env_folder,
        state=tmp_path / "state",
    )
    assert "proxy_read_timeout 330s;" in render.nginx_conf(found)


def test_the_balancer_is_not_sticky_and_repeats_no_post(settings: Settings) -> None:
    configuration = render.nginx_conf(settings)
    directives = re.sub(r"#.*", "", configuration)
    assert not re.search(r"ip_hash|sticky|\bhash\b|non_idempotent", directives)


@pytest.mark.parametrize("value", ["soon", "-1", "99999"])
def test_a_poll_timeout_that_is_no_number_of_seconds_is_refused(env_folder: Path, tmp_path: Path, value: str) -> None:
    exported = {"DW_WORKER_POLL_TIMEOUT": value}
    found = load("mysql", exported=exported, env_folder=env_folder, state=tmp_path / "state")
    with pytest.raises(AskedWronglyError, match="not a number of seconds"):
        render.nginx_conf(found)


def test_explain_names_every_line_and_shows_no_secret(settings: Settings) -> None:
    told = [f"{container} {line.name}={line.shown} {line.where}" for container, line in render.explain(settings)]
    assert any(one.startswith("server-b DW_SERVER_ID=server-b node") for one in told)
    assert any("APP_VERSION=0.1.0 env/cluster.env:1" in one for one in told)
    assert not any(secret in one for one in told for secret in settings.secret_values)


def test_every_env_file_that_compose_names_is_rendered(settings: Settings) -> None:
    named = set()
    for path in (CHECKOUT / "compose").glob("*.yaml"):
        named |= set(re.findall(r"/env/([a-z-]+)\.env", path.read_text()))
    assert named - {"server-c"} == set(render.env_files(settings))
