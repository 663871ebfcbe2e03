"""Real databases and Redis in containers of the tests' own, and real nodes as processes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from refserver.harness import Cluster, Containers, bootstrapped
from smallcluster import engine as engines
from smallcluster.errors import MachineCannotError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    try:
        client = engines.connect()
    except MachineCannotError as error:
        if os.environ.get("SMALLCLUSTER_REQUIRE_ENGINE") == "1":
            pytest.fail(f"SMALLCLUSTER_REQUIRE_ENGINE=1, but {error}")
        pytest.skip(f"needs a Docker engine: {error}")
    with closing(client):
        yield client


@pytest.fixture(scope="session")
def containers(engine: DockerClient) -> Iterator[Containers]:
    """All containers that the tests start; gone afterwards, with their network."""
    made = Containers(engine, f"refserver-test-{secrets.token_hex(3)}")
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session", params=["mysql", "pgsql"])
def database(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def pairs(containers: Containers, database: str) -> list[dict[str, Container]]:
    """Two databases, each with its Redis, started together so that the second is up when it is wanted."""
    return [containers.pair(database) for _ in range(2)]


@pytest.fixture(scope="session")
def cluster(
    containers: Containers, database: str, pairs: list[dict[str, Container]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Two nodes over one bootstrapped database, shared by the tests that don't break anything."""
    with bootstrapped(containers, pairs[0], database, tmp_path_factory.mktemp(database)) as made:
        made.serve("server-a")
        made.serve("server-b")
        yield made


@pytest.fixture
def fragile(
    containers: Containers, database: str, pairs: list[dict[str, Container]], tmp_path: Path
) -> Iterator[Cluster]:
    """A cluster of the test's own, reached through doors that stay put while containers stop and start."""
    with bootstrapped(containers, pairs[1], database, tmp_path, doors=True) as made:
        yield made


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--numprocesses=2 --dist=loadgroup`, one process per database: what is shared in a session stays shared."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec and "database" in callspec.params:
            item.add_marker(pytest.mark.xdist_group(callspec.params["database"]))
