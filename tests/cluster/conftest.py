"""The whole cluster on Docker Compose, driven through the verbs as a person drives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from smallcluster import engine
from smallcluster.containers import Container, read_containers
from smallcluster.errors import MachineCannotError
from smallcluster.paths import CHECKOUT
from smallcluster.settings import Database, project_name

PATIENCE = 240.0
"""Seconds that a verb may take here: far more than it needs, so that only a hang fails for its time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--db", choices=[db.value for db in Database], default="pgsql", help="which durable database")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run what doesn't depend on the database with PostgreSQL only: it is the quicker one to start."""
    if config.getoption("--db") == Database.PGSQL.value:
        return
    left_out = [item for item in items if item.get_closest_marker("once")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def db(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--db"))


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    try:
        made = engine.connect()
    except MachineCannotError as problem:
        if os.environ.get("SMALLCLUSTER_REQUIRE_ENGINE") == "1":
            raise
        pytest.skip(f"no Docker engine: {problem.what}")
    yield made
    made.close()


@dataclass(frozen=True)
class Ran:
    """How a verb ended: its exit code, what it printed where, and how long it took in seconds."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def data(self) -> dict[str, Any]:
        """Its stdout as JSON; fails the test where stdout is anything else."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def checks(self) -> dict[str, str]:
        """Verdicts by check of a `smoke --json`."""
        return {one["check"]: one["verdict"] for one in self.data["checks"]}


Invoke = Callable[..., Ran]


def start(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `invoke ARGUMENTS` in a session of its own, as a shell does in a terminal."""
    program = Path(sys.executable).with_name("invoke")
    return subprocess.Popen(
        [str(program), *arguments],
        cwd=CHECKOUT,
        env=_without_ci(os.environ) | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _without_ci(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which no verb annotates: faults planted here are no errors of the CI run around them."""
    return {name: value for name, value in environment.items() if name != "GITHUB_ACTIONS"}


def finish(process: subprocess.Popen[str]) -> Ran:
    """Wait for a verb to end."""
    began = time.monotonic()
    out, err = process.communicate(timeout=PATIENCE)
    return Ran(process.returncode, out, err, time.monotonic() - began)


@pytest.fixture(scope="session", autouse=True)
def nobody_elses(client: Any) -> None:
    """These tests start and remove this checkout's clusters: one that a person runs here is not theirs to touch."""
    for database in Database:
        found = read_containers(client, project_name(database))
        if any(one.running for one in found.values()):
            pytest.exit(
                f"a {database.value} cluster of this checkout runs: `invoke down --db={database.value}` first", 3
            )


@pytest.fixture(scope="session")
def invoke(client: Any) -> Invoke:
    """Run a verb to its end. No verb may ever show a traceback or exit with Invoke's own 1."""

    def run(*arguments: str, **environment: str) -> Ran:
        ran = finish(start(*arguments, environment=environment))
        assert "Traceback" not in ran.err + ran.out, ran.err
        assert ran.code != 1, ran.err
        return ran

    return run


@pytest.fixture
def nothing_running(invoke: Invoke, db: str, client: Any) -> Iterator[None]:
    """Nothing of the cluster is there before, and the test leaves nothing behind either."""
    assert invoke("down", f"--db={db}").code == 0
    yield
    left = leftovers(client, db)
    invoke("down", f"--db={db}")
    assert not left


def leftovers(client: Any, db: str) -> list[str]:
    """Everything of this checkout's cluster that the engine still has."""
    mine = {"label": f"com.docker.compose.project={project_name(Database(db))}"}
    found = [*client.containers.list(all=True, filters=mine), *client.networks.list(filters=mine)]
    return [thing.name for thing in (*found, *client.volumes.list(filters=mine))]


def containers(client: Any, db: str) -> dict[str, Container]:
    """The cluster's containers by service."""
    return read_containers(client, project_name(Database(db)))
