"""Layers into settings: who wins, what counts, what is refused, what is made once and kept."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from smallcluster.errors import AskedWronglyError, MachineCannotError
from smallcluster.settings import Database, Settings, load


def loaded(env_folder: Path, db: str = "mysql", nodes: int = 2, **exported: str) -> Settings:
    return load(db, nodes=nodes, exported=exported, env_folder=env_folder, state=env_folder.parent / "state")


def test_each_layer_wins_over_the_one_before(env_folder: Path) -> None:
    assert loaded(env_folder).value("APP_VERSION") == "0.1.0"
    with (env_folder / "mysql.env").open("a") as stream:
        stream.write("APP_VERSION=0.2.0\n")
    assert loaded(env_folder).lines["APP_VERSION"].where == "env/mysql.env:3"
    (env_folder / "local.env").write_text("APP_VERSION=0.3.0\n")
    assert loaded(env_folder).value("APP_VERSION") == "0.3.0"
    assert loaded(env_folder, APP_VERSION="0.4.0").value("APP_VERSION") == "0.4.0"


def test_an_exported_override_is_told(env_folder: Path) -> None:
    found = loaded(env_folder, APP_VERSION="9.9.9")
    assert found.notices == ("exported APP_VERSION=9.9.9 overrides env/cluster.env:1 (0.1.0)",)


def test_an_exported_secret_counts_but_is_not_shown(env_folder: Path) -> None:
    found = loaded(env_folder, DW_AUTH_TOKEN="my-own-token")
    assert found.value("DW_AUTH_TOKEN") == "my-own-token"
    assert "my-own-token" not in " ".join(found.notices)


def test_exported_names_that_no_layer_declares_do_not_count(env_folder: Path) -> None:
    found = loaded(env_folder, HOME="/nowhere", DW_SERVER_ID="x", DW_MAX_MEMO_BYTES="1")
    assert {"HOME", "DW_SERVER_ID", "DW_MAX_MEMO_BYTES"}.isdisjoint(found.lines)
    assert found.notices == (
        "exported DW_MAX_MEMO_BYTES is ignored: no env layer declares it",
        "exported DW_SERVER_ID is ignored: it is set per node",
    )


def test_an_exported_value_is_checked_like_a_line(env_folder: Path) -> None:
    with pytest.raises(AskedWronglyError, match=r"exported APP_VERSION: the value .* contains a \$"):
        loaded(env_folder, APP_VERSION="$HOME")


@pytest.mark.parametrize("layer", ["cluster.env", "mysql.env", "local.env"])
def test_a_per_node_key_in_a_shared_layer_is_refused(env_folder: Path, layer: str) -> None:
    with (env_folder / layer).open("a") as stream:
        stream.write("DW_SERVER_ID=server-a\n")
    with pytest.raises(AskedWronglyError, match=rf"env/{layer}:\d+: DW_SERVER_ID stands in a layer"):
        loaded(env_folder)


@pytest.mark.parametrize("how", ["local", "exported"])
def test_a_connection_that_contradicts_the_database_is_refused(env_folder: Path, how: str) -> None:
    exported = {"DB_CONNECTION": "pgsql"} if how == "exported" else {}
    if how == "local":
        (env_folder / "local.env").write_text("DB_CONNECTION=pgsql\n")
    with pytest.raises(AskedWronglyError, match="contradicts --db=mysql") as caught:
        loaded(env_folder, **exported)
    assert "--db=pgsql" in caught.value.then


@pytest.mark.parametrize(
    ("given", "guess"), [("sqlite", "mysql"), ("postgres", "pgsql"), ("PG", "pgsql"), ("MariaDB", "mysql")]
)
def test_an_unknown_database_names_the_choices(env_folder: Path, given: str, guess: str) -> None:
    with pytest.raises(AskedWronglyError) as caught:
        loaded(env_folder, db=given)
    assert "--db=mysql or --db=pgsql" in caught.value.then
    assert f"most likely --db={guess}" in caught.value.then


def test_no_database_at_all_names_the_choices(env_folder: Path) -> None:
    with pytest.raises(AskedWronglyError, match="No database was named"):
        loaded(env_folder, db="")


@pytest.mark.parametrize("nodes", [-1, 0, 1, 4])
def test_only_two_or_three_nodes(env_folder: Path, nodes: int) -> None:
    with pytest.raises(AskedWronglyError, match=f"--nodes={nodes} is outside"):
        loaded(env_folder, nodes=nodes)


def test_secrets_are_made_once_and_kept_private(env_folder: Path) -> None:
    first, second = loaded(env_folder), loaded(env_folder)
    names = ("DW_AUTH_TOKEN", "DB_PASSWORD", "DB_ROOT_PASSWORD", "REDIS_PASSWORD")
    values = {first.value(name) for name in names}
    assert len(values) == len(names)
    assert min(map(len, values)) >= 32
    assert [first.value(name) for name in names] == [second.value(name) for name in names]
    store = env_folder.parent / "state" / "mysql" / "secrets.env"
    assert stat.S_IMODE(store.stat().st_mode) == 0o600


def test_a_secret_added_later_is_made_and_the_others_stay(env_folder: Path) -> None:
    before = loaded(env_folder).value("DW_AUTH_TOKEN")
    with (env_folder / "cluster.env").open("a") as stream:
        stream.write("DW_ADMIN_TOKEN=\n")
    after = loaded(env_folder)
    assert after.value("DW_AUTH_TOKEN") == before
    assert after.value("DW_ADMIN_TOKEN") not in ("", before)


def test_an_emptied_secret_is_refused_by_file_and_line(env_folder: Path) -> None:
    loaded(env_folder)
    store = env_folder.parent / "state" / "mysql" / "secrets.env"
    store.write_text("# cut short\nDW_AUTH_TOKEN=\n")
    with pytest.raises(AskedWronglyError, match=r"secrets.env:2: DW_AUTH_TOKEN is empty"):
        loaded(env_folder)


def test_two_verbs_that_make_secrets_at_once_agree(env_folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: loaded(env_folder).value("DW_AUTH_TOKEN"), range(16)))
    assert len(set(found)) == 1


def test_a_layer_without_a_connection_is_told(env_folder: Path) -> None:
    (env_folder / "mysql.env").write_text("DB_PORT=3306\n")
    with pytest.raises(AskedWronglyError, match="No env layer sets DB_CONNECTION"):
        loaded(env_folder)


def test_values_are_hidden_by_what_their_name_says(env_folder: Path) -> None:
    with (env_folder / "cluster.env").open("a") as stream:
        stream.write("MAIL_PASSWORD=hush\nAWS_SECRET_ACCESS_KEY=hush2\nAPP_URL=http://shown\n")
    found = loaded(env_folder)
    assert {"hush", "hush2"} <= set(found.secret_values)
    assert found.lines["MAIL_PASSWORD"].shown == "(hidden)"
    assert found.lines["APP_URL"].shown == "http://shown"


def test_databases_have_secrets_of_their_own(env_folder: Path) -> None:
    assert loaded(env_folder).value("DB_PASSWORD") != loaded(env_folder, db="pgsql").value("DB_PASSWORD")


def test_every_secret_value_is_known_for_hiding_longest_first(env_folder: Path) -> None:
    found = loaded(env_folder, DW_AUTH_TOKEN="short")
    assert found.secret_values[-1] == "short"
    assert found.value("DB_PASSWORD") in found.secret_values


def test_a_state_folder_that_can_not_be_made_is_named(env_folder: Path) -> None:
    (env_folder.parent / "state").write_text("a file stands where the folder should be")
    with pytest.raises(MachineCannotError, match="can't be written"):
        loaded(env_folder)


def test_projects_differ_by_database() -> None:
    from smallcluster.settings import project_name

    assert project_name(Database.MYSQL) != project_name(Database.PGSQL)


def test_the_shipped_layers_load_and_hold_the_operator_contract(tmp_path: Path) -> None:
    for db in Database:
        found = load(db.value, exported={}, state=tmp_path)
        for name in ("DW_AUTH_TOKEN", "DW_SIGNATURE_KEY", "APP_VERSION", "DW_SERIALIZER", "REDIS_HOST", "DB_HOST"):
            assert found.value(name), name
        assert found.value("CACHE_STORE") == found.value("QUEUE_CONNECTION") == "redis"
        assert found.value("DB_CONNECTION") == db.value
