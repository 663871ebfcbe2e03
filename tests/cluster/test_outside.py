"""A database and a Redis that stand apart from the cluster, as the note's external ones do."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

import pytest

from smallcluster.images import resolve

from .conftest import Invoke, containers, leftovers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300), pytest.mark.usefixtures("nothing_running")]

ENVIRONMENT = {
    "mysql": {
        "MYSQL_ROOT_PASSWORD": "r",
        "MYSQL_DATABASE": "theirs",
        "MYSQL_USER": "us",
        "MYSQL_PASSWORD": "of-theirs",
    },
    "pgsql": {"POSTGRES_DB": "theirs", "POSTGRES_USER": "us", "POSTGRES_PASSWORD": "of-theirs"},
    "redis": {},
}
PORTS = {"mysql": 3306, "pgsql": 5432, "redis": 6379}


@dataclass(frozen=True)
class Outside:
    """The services' containers, and the variables that lead a cluster to them."""

    containers: Sequence[Any]
    variables: Mapping[str, str]


@pytest.fixture
def outside(client: Any, db: str) -> Iterator[Outside]:
    """Both services in containers of the test's own, published where the cluster's nodes can reach them."""
    subnet = client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Subnet"]
    gateway = str(next(ip_network(subnet).hosts()))  # what host.docker.internal stands for in a container
    started = {}
    try:
        for service, image in resolve([db, "redis"]).items():
            name, port = f"smallcluster-outside-{secrets.token_hex(3)}", f"{PORTS[service]}/tcp"
            made = client.containers.run(
                image.ref, name=name, detach=True, environment=ENVIRONMENT[service], ports={port: (gateway, 0)}
            )
            made.reload()
            started[service] = (made, made.ports[port][0]["HostPort"])
        host = "host.docker.internal"
        database = {"DB_HOST": host, "DB_PORT": started[db][1], "DB_DATABASE": "theirs", "DB_USERNAME": "us",
                    "DB_PASSWORD": "of-theirs"}  # fmt: skip
        redis = {"REDIS_HOST": host, "REDIS_PORT": started["redis"][1]}
        yield Outside([made for made, _ in started.values()], database | redis)
    finally:
        for made, _ in started.values():
            made.remove(force=True, v=True)


def test_a_cluster_over_services_outside_of_it(invoke: Invoke, client: Any, db: str, outside: Outside) -> None:
    ran = invoke("smoke", f"--db={db}", "--keep", "--json", **outside.variables)
    assert ran.code == 11, ran.err
    assert set(containers(client, db)) == {"bootstrap", "server-a", "server-b", "balancer", "scheduler"}
    open_questions = {check for check, verdict in ran.checks().items() if verdict != "holds"}
    assert open_questions == {
        "private-services", "compose-keeps-data-services-private", "closed-run-is-pruned",
        "readiness-follows-the-database", "unmigrated-node-is-not-ready",
    }  # fmt: skip
    causes = {one["check"]: one["cause"] for one in ran.data["checks"]}
    assert "database and redis outside of this cluster" in causes["private-services"]
    assert "a database of the cluster's own" in causes["closed-run-is-pruned"]
    assert invoke("bootstrap", f"--db={db}", **outside.variables).code == 0
    down = invoke("down", f"--db={db}", **outside.variables)
    assert (down.code, leftovers(client, db)) == (0, [])
    for one in outside.containers:
        one.reload()
        assert one.status == "running"


@pytest.mark.once
def test_a_database_that_refuses_the_password_is_told_in_its_own_words(
    invoke: Invoke, client: Any, db: str, outside: Outside
) -> None:
    wrong = {"DB_PASSWORD": "of-nobody", "DW_BOOTSTRAP_RETRIES": "1"}
    ran = invoke("up", f"--db={db}", **outside.variables | wrong)
    assert ran.code == 10, ran.err
    assert "bootstrap did not come up" in ran.err
    assert "password authentication failed" in ran.err
    assert "of-nobody" not in ran.err
    assert not leftovers(client, db)


@pytest.mark.once
def test_a_redis_that_refuses_the_password_is_a_broken_rule(invoke: Invoke, db: str, outside: Outside) -> None:
    ran = invoke("smoke", f"--db={db}", "--json", **outside.variables, REDIS_PASSWORD="of-nobody")
    assert ran.code == 10, ran.err
    assert ran.checks()["nodes-reach-redis"] == "broken"
    assert ran.checks()["nodes-ready"] == "holds"
    assert "of-nobody" not in ran.out + ran.err
