"""The one-shot job: from nothing, again, several at once, and against nothing at all."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from dw_refserver import migrations
from dw_refserver.settings import load
from dw_refserver.store.database import opened
from dw_refserver.store.namespaces import HEAD
from dw_refserver.store.tables import metadata

from refserver.harness import Cluster

pytestmark = pytest.mark.refserver


def drop_everything(cluster: Cluster) -> None:
    names = [*metadata.tables, "alembic_version"]
    cluster.execute(*(f"drop table {name}" for name in names))


def test_twice_is_as_good_as_once(cluster: Cluster) -> None:
    started = time.monotonic()
    done = cluster.run("bootstrap")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"bootstrap: schema version {HEAD}, already current", "bootstrap: namespace 'default' already there",
    ]  # fmt: skip
    assert time.monotonic() - started < 15


def test_three_at_once_on_an_empty_database(cluster: Cluster) -> None:
    drop_everything(cluster)
    jobs = [cluster.spawn(f"bootstrap-{number}", "bootstrap") for number in range(3)]
    assert [process.wait(30) for process, _ in jobs] == [0, 0, 0]
    said = "".join(log.read_text() for _, log in jobs)
    assert said.count(f"schema version none -> {HEAD}") == 1
    assert said.count("namespace 'default' created") == 1
    assert cluster.a.get("/ready").status == 200


def test_an_interrupted_migration_can_be_run_again(cluster: Cluster) -> None:
    """As MySQL leaves it, where each table is committed by itself: some tables, no version."""
    cluster.execute("drop table activity_executions", "drop table alembic_version")
    assert cluster.a.get("/ready").body["checks"]["migrations"] == {
        "status": "missing", "missing_tables": ["activity_executions", "alembic_version"],
        "remediation": "Run server-bootstrap against this database.",
    }  # fmt: skip
    done = cluster.run("bootstrap")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"bootstrap: schema version none -> {HEAD}")
    assert cluster.a.get("/ready").status == 200


@pytest.mark.parametrize(("release", "lack"), [("0001", "missing"), ("0002", "missing"), ("0004", "pending")])
def test_a_database_of_an_earlier_release_migrates_and_keeps_its_rows(
    cluster: Cluster, release: str, lack: str
) -> None:
    name = f"from-{release}"
    cluster.a.start(name, workflow_id=name)
    asyncio.run(to_version(cluster, release))
    cluster.execute(
        "insert into workflow_schedules (id, namespace, schedule_id, status)"
        f" values ('{name}', 'default', '{name}', 'active')"
    )
    assert cluster.a.get("/ready").body["checks"]["migrations"]["status"] == lack
    done = cluster.run("bootstrap")
    assert done.stdout.splitlines()[0] == f"bootstrap: schema version {release} -> {HEAD}"
    assert cluster.a.get(f"/workflows/{name}").status == 200
    cluster.a.register("w", name)
    assert cluster.b.complete(cluster.a.poll("w", name).body["task"]).status == 200
    schedule = cluster.b.get(f"/schedules/{name}").body
    assert (schedule["overlap_policy"], schedule["fires_count"], schedule["spec"]) == ("skip", 0, None)
    assert cluster.b.delete(f"/schedules/{name}").status == 200
    assert cluster.a.create_schedule(name).status == 201


def test_half_a_migration_is_finished(cluster: Cluster) -> None:
    """As MySQL leaves one that died: some of its parts are there, and the version is the one before."""
    asyncio.run(to_version(cluster, "0002"))
    cluster.execute(
        "alter table workflow_schedules add column spec text",
        "alter table workflow_schedules add column fires_count integer not null default 0",
        "create index workflow_runs_listed on workflow_runs (namespace, id)",
    )
    done = cluster.run("bootstrap")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"bootstrap: schema version 0002 -> {HEAD}")
    asyncio.run(to_version(cluster, "0002"))  # and takes its own parts away again, to come back whole
    assert cluster.run("bootstrap").returncode == 0


async def to_version(cluster: Cluster, version: str) -> None:
    def downgrade(connection: Any) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.downgrade(config, version)

    async with opened(load(cluster.env).database, "test") as db, db.transaction.begin() as connection:
        await connection.run_sync(downgrade)


def test_the_tables_are_what_the_queries_think(cluster: Cluster) -> None:
    def differences(connection: Any) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async def compare() -> list[Any]:
        async with opened(load(cluster.env).database, "test") as db, db.transaction.connect() as connection:
            return await connection.run_sync(differences)

    assert asyncio.run(compare()) == []


def test_no_database_is_said_try_by_try(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    done = cluster.run("bootstrap", DB_PORT=port, DW_BOOTSTRAP_RETRIES="2", DW_BOOTSTRAP_DELAY_SECONDS="0.1")
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert [line.split(":")[1].strip() for line in lines] == ["try 1 of 2", "try 2 of 2", "gave up"]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_wrong_password_is_no_traceback(cluster: Cluster) -> None:
    done = cluster.run("bootstrap", DB_PASSWORD="wrong", DW_BOOTSTRAP_RETRIES="1")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
