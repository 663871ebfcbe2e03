"""What the engine tells of a container, and what a person is told of one that did not come up."""

from __future__ import annotations

from typing import Any, cast

import pytest

from smallcluster.cluster import Cluster
from smallcluster.compose import Outcome
from smallcluster.containers import Container, container_from
from smallcluster.errors import ClusterBrokenError
from smallcluster.settings import Settings

REFUSED = "ERROR 1045 (28000): Access denied for user 'workflow'@'localhost'\n"


def attributes(health: dict[str, Any] | None) -> dict[str, Any]:
    """An inspect answer of a running database with this health."""
    return {
        "Id": "0" * 64,
        "Name": "/project-database-1",
        "Image": "sha256:1",
        "Path": "mysqld",
        "Args": [],
        "State": {"Status": "running", "ExitCode": 0, "StartedAt": "", "FinishedAt": "", "Health": health},
        "Config": {"Labels": {"com.docker.compose.service": "database"}, "Image": "mysql"},
        "HostConfig": {"NetworkMode": "private"},
        "NetworkSettings": {"Networks": {}, "Ports": {}},
    }


@pytest.mark.parametrize(
    ("health", "said"),
    [
        ({"Status": "unhealthy", "Log": [{"Output": "earlier"}, {"Output": REFUSED}]}, REFUSED.strip()),
        ({"Status": "unhealthy", "Log": []}, ""),
        ({"Status": "healthy", "Log": [{"Output": "1"}]}, ""),
        (None, ""),
    ],
)
def test_an_unhealthy_container_tells_what_its_check_said_last(health: dict[str, Any] | None, said: str) -> None:
    made = container_from(attributes(health))
    assert made.health_said == said
    assert made.health == (health or {}).get("Status")


def test_what_a_database_does_not_log_its_health_check_tells(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    health = {"Status": "unhealthy", "Log": [{"Output": REFUSED + settings.value("DB_PASSWORD")}]}
    database: Container = container_from(attributes(health))
    monkeypatch.setattr(Cluster, "containers", lambda _: {"database": database})
    monkeypatch.setattr(Cluster, "log_of", lambda *_, **__: "ready for connections\n")
    cluster = Cluster(settings=settings, images={}, client=cast("Any", None))
    problem = cluster._up_failed(Outcome(1, ""))
    assert isinstance(problem, ClusterBrokenError)
    assert problem.what == "database did not come up: running (unhealthy)."
    assert problem.seen.startswith("ready for connections\nits health check says: ERROR 1045 (28000): Access denied")
    assert "(hidden)" in problem.seen
