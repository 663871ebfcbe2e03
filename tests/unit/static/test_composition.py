"""Static checks of a Compose file, as Compose hands it over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smallcluster import static
from smallcluster.errors import AskedWronglyError
from smallcluster.static import composition
from smallcluster.static.composition import Composition
from smallcluster.static.places import Places
from smallcluster.verdicts import Finding, Verdict

SERVER: dict[str, Any] = {"image": "server:1", "environment": {"DB_CONNECTION": "mysql", "APP_VERSION": "1"}}
PASSES = "schedule:evaluate; activity:timeout-enforce; history:prune"
GOOD: dict[str, dict[str, Any]] = {
    "server-a": SERVER | {"command": ["serve"]},
    "server-b": SERVER | {"command": ["serve"]},
    "maintenance": SERVER | {"command": ["sh", "-c", PASSES]},
    "init": SERVER | {"command": ["server-bootstrap"]},
    "db": {"image": "library/mysql:8"},
    "cache": {"image": "redis"},
}
PRIVATE = "compose-keeps-data-services-private"
SCHEDULER = "compose-runs-one-scheduler"
RELEASE = "compose-runs-one-release"
WHERE = Places(
    "compose.yaml",
    {
        ("db",): "compose.yaml:30",
        ("db", "ports"): "compose.yaml:32",
        ("server-a", "environment", "DB_CONNECTION"): "compose.yaml:4",
        ("server-a", "env_file"): "compose.yaml:3",
        ("server-b", "deploy", "update_config"): "compose.yaml:14",
        ("server-b", "command"): "compose.yaml:12",
    },
)
ROLLING = "compose-replaces-nothing-one-by-one"
SUPERVISOR = "compose-is-the-only-supervisor"


def not_holding(change: dict[str, dict[str, Any] | None]) -> dict[str, str]:
    services = {name: one for name, one in (GOOD | change).items() if one is not None}
    found = {one.check: one.verdict.value for one in findings(services)}
    return {check: verdict for check, verdict in found.items() if verdict != "holds"}


def findings(services: dict[str, dict[str, Any]]) -> list[Finding]:
    return [check.run(Composition(WHERE, services)) for check in static.OF_COMPOSITION]


def changed(name: str, **values: Any) -> dict[str, Any]:
    return {name: GOOD.get(name, SERVER) | values}


@pytest.mark.parametrize(
    ("change", "check", "verdict"),
    [
        ({}, "", ""),
        (changed("db", ports=[{"target": 3306, "published": "3306"}]), PRIVATE, "broken"),
        (changed("cache", network_mode="host"), PRIVATE, "broken"),
        ({"db": None, "cache": None}, PRIVATE, "unknown"),
        (changed("second", command=["dw-refserver", "scheduler"]), SCHEDULER, "broken"),
        (changed("maintenance", deploy={"replicas": 2}), SCHEDULER, "broken"),
        (changed("maintenance", scale=2), SCHEDULER, "broken"),
        (changed("maintenance", command=["schedule:evaluate"]), SCHEDULER, "broken"),
        ({"maintenance": None}, SCHEDULER, "unknown"),
        (changed("server-b", image="server:2"), RELEASE, "broken"),
        (changed("server-b", deploy={"update_config": {"order": "start-first"}}), ROLLING, "broken"),
        (changed("server-b", command=["/usr/bin/supervisord", "-n"]), SUPERVISOR, "broken"),
        (changed("server-b", entrypoint=["pm2-runtime"]), SUPERVISOR, "broken"),
        (changed("server-b", environment={"DB_CONNECTION": "mysql", "KUBERNETES_PORT": "1"}), SUPERVISOR, "broken"),
        (changed("server-b", deploy={"mode": "global"}), SUPERVISOR, "broken"),
    ],
)
def test_one_service_that_is_wrong(change: dict[str, Any], check: str, verdict: str) -> None:
    assert not_holding(change) == ({check: verdict} if check else {})


def test_a_file_without_servers_says_nothing() -> None:
    found = not_holding(dict.fromkeys(("server-a", "server-b", "maintenance", "init")))
    assert found == dict.fromkeys((SCHEDULER, RELEASE, ROLLING, SUPERVISOR), "unknown")


def test_the_services_environments_are_those_of_the_cluster() -> None:
    made = Composition(WHERE, GOOD).environments()
    assert set(made.files) == {"server-a", "server-b", "scheduler", "bootstrap"}
    assert made.nodes == ("server-a", "server-b")
    assert made.told("server-a", "DB_CONNECTION") == "compose.yaml:4: DB_CONNECTION=mysql"
    assert made.told("server-a", "APP_VERSION") == "compose.yaml:3, server-a: APP_VERSION=1"
    assert made.told("server-b", "APP_VERSION") == "compose.yaml, server-b: APP_VERSION=1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("db", ports=[{"target": 3306, "published": "33"}]), "compose.yaml:32: db: publishes 33 for 3306"),
        (changed("db", network_mode="host"), "compose.yaml:32: db: network_mode host"),
        (
            changed("server-b", deploy={"update_config": {"order": "x"}}),
            "compose.yaml:14: server-b: deploy.update_config",
        ),
        (changed("server-b", command=["pm2"]), "compose.yaml:12: server-b: pm2"),
        (changed("server-b", image="server:2"), "compose.yaml: server-b: server:2"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(change: dict[str, Any], said: str) -> None:
    broken = [one for one in findings(GOOD | change) if one.verdict is Verdict.BROKEN]
    assert [said in one.judgement.evidence for one in broken] == [True], broken


@pytest.mark.parametrize(
    ("text", "said"), [(None, "no such file"), ("apiVersion: v1\nkind: Deployment\n", "Kubernetes manifest")]
)
def test_what_is_no_compose_file_is_refused(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AskedWronglyError) as refused:
        composition.read(path)
    assert said in str(refused.value)
