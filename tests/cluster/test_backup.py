"""A backup of a cluster's database: taken by its own tool, restored beside it, compared table by table."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smallcluster.cluster import Cluster
from smallcluster.errors import ClusterBrokenError, MachineCannotError
from smallcluster.images import resolve
from smallcluster.rehearsal import backup, session
from smallcluster.rehearsal.backup import Backup, Table
from smallcluster.settings import load

from .conftest import Invoke

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster(invoke: Invoke, db: str, client: Any) -> Iterator[Cluster]:
    """A cluster with what a smoke leaves in it."""
    invoke("down", f"--db={db}")
    assert invoke("smoke", f"--db={db}", "--keep").code == 0
    yield Cluster(settings=load(db, exported={}), images=resolve([db, "redis", "nginx", "server"]), client=client)
    assert invoke("down", f"--db={db}").code == 0


@pytest.fixture(scope="module")
def taken(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Backup, dict[str, Table]]:
    """A backup, and what the tables held when nothing wrote to them."""
    for service in ("server-a", "server-b", "scheduler"):
        cluster.client.containers.get(cluster.containers()[service].id).stop(timeout=5)
    held = backup.tables(cluster.settings.db, cluster.query)
    return backup.take(cluster, tmp_path_factory.mktemp("backup") / "before.dump"), held


def test_it_is_whole_private_and_can_be_restored(cluster: Cluster, taken: tuple[Backup, dict[str, Table]]) -> None:
    made, held = taken
    assert held["workflow_runs"].rows > 200
    assert made.size == made.path.stat().st_size > 10_000
    assert made.path.stat().st_mode & 0o777 == 0o600
    proof = backup.prove(cluster, made, held, "proof")
    assert proof.differing == ()
    assert proof.tables == held
    assert len(cluster.query("select 1")) == 1, "the cluster's own database is as it was"


def test_a_client_that_stays_is_asked_more_than_once_and_says_why_it_ended(cluster: Cluster) -> None:
    with session.opened(cluster, 60) as asked:
        assert asked.query("select 1; select 'a b'") == ["1", "a b"]
        assert asked.query("select 1 where 1 = 2") == []
        assert backup.tables(cluster.settings.db, asked.query) == backup.tables(cluster.settings.db, cluster.query)
        for _ in range(2):  # it ended with the first
            with pytest.raises(ClusterBrokenError) as refused:
                asked.query("select nothing from nowhere")
            assert "nowhere" in refused.value.seen


def test_a_client_that_gets_no_answer_says_so_and_is_not_asked_again(cluster: Cluster, db: str) -> None:
    sleeps = "select sleep(20)" if db == "mysql" else "select pg_sleep(20)"
    with session.opened(cluster, 60) as asked:
        asked.patience = 0.5
        with pytest.raises(ClusterBrokenError, match=r"did not answer within 0\.5 s"):
            asked.query(sleeps)
        with pytest.raises(ClusterBrokenError, match="refused a statement, or stopped"):
            asked.query("select 1")


def test_a_database_that_a_killed_run_left_is_dropped_before_it_is_made_anew(cluster: Cluster) -> None:
    with cluster.another_database("left") as name:
        cluster.query("create table from_before (one integer)", name)
        with cluster.another_database("left"):
            assert backup.table_names(cluster.settings.db, lambda sql: cluster.query(sql, name)) == []


def test_a_login_that_is_cut_off_does_not_hold_a_scratch_database_up_for_long(cluster: Cluster, db: str) -> None:
    if db == "mysql":
        pytest.skip("MySQL drops databases whoever logs in")
    found = cluster.container("database")
    assert found is not None
    words = b"user\0somebody\0database\0postgres\0\0"
    with socket.create_connection((found.address, 5432), timeout=5) as login:
        login.sendall(struct.pack("!II", 8 + len(words), 3 << 16) + words)
        assert login.recv(1) == b"R", "it asks for a password, and waits"
        began = time.monotonic()
        with cluster.another_database("left"):
            pass
        assert time.monotonic() - began < 30


def test_a_row_more_or_another_value_is_seen(cluster: Cluster, taken: tuple[Backup, dict[str, Table]]) -> None:
    made, held = taken
    cluster.query("update workflow_namespaces set description = 'changed since' where name = 'default'")
    now = backup.tables(cluster.settings.db, cluster.query)
    assert {name for name in held if now[name] != held[name]} == {"workflow_namespaces"}
    proof = backup.prove(cluster, made, now | {"gone": Table(1, "x")}, "proof")
    assert [line.partition(":")[0] for line in proof.differing] == ["gone", "workflow_namespaces"]
    assert "no such table restored" in proof.differing[0]


def test_a_file_that_was_changed_is_not_restored(
    cluster: Cluster, taken: tuple[Backup, dict[str, Table]], tmp_path: Path
) -> None:
    copy = replace(taken[0], path=tmp_path / "copy.dump")
    copy.path.write_bytes(taken[0].path.read_bytes()[:-1])
    with pytest.raises(ClusterBrokenError, match="is not what was written"):
        backup.restore(cluster, copy, "nowhere")
    with pytest.raises(ClusterBrokenError, match="is not what was written"):
        backup.verify(replace(copy, path=tmp_path / "none.dump"))


def test_a_disk_that_is_too_small_is_told_before_anything_stops(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "bytes, " in backup.refuse_too_little_room(cluster, tmp_path)
    monkeypatch.setattr(backup.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(MachineCannotError, match="not enough room"):
        backup.refuse_too_little_room(cluster, tmp_path)


def test_what_cannot_be_written_or_dumped_leaves_no_file(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(MachineCannotError):
        backup.take(cluster, Path("/proc/none/x.dump"))
    with pytest.raises(MachineCannotError, match="can't be written"):
        backup.take(cluster, Path("/dev/full/x.dump"))
    cluster.client.containers.get(cluster.containers()["database"].id).stop(timeout=10)
    with pytest.raises(ClusterBrokenError, match="could not be dumped"):
        backup.take(cluster, tmp_path / "x.dump")
    assert list(tmp_path.iterdir()) == []
