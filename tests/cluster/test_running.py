"""What the verbs do with a cluster that runs. One cluster serves the whole module, in the order written here."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smallcluster.paths import STATE
from smallcluster.settings import Database, load

from .conftest import Invoke, containers, leftovers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def running(invoke: Invoke, db: str, client: Any) -> Iterator[dict[str, str]]:
    """The cluster, brought up by `invoke up`; its addresses by route."""
    invoke("down", f"--db={db}")
    ran = invoke("up", f"--db={db}", "--json")
    assert ran.code == 0, ran.err
    yield ran.data["routes"]
    assert invoke("down", f"--db={db}").code == 0
    assert not leftovers(client, db)


def identities(client: Any, db: str) -> dict[str, tuple[str, str]]:
    return {name: (one.id, one.started_at) for name, one in containers(client, db).items()}


def secrets_of(db: str) -> tuple[str, ...]:
    return load(db, exported={}).secret_values


def test_up_gives_addresses_that_answer(running: dict[str, str]) -> None:
    assert set(running) == {"balancer", "server-a", "server-b"}
    for url in running.values():
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{url}/api/ready", timeout=10) as answer:
            assert answer.status == 200


def test_the_contracts_order_was_kept(client: Any, db: str) -> None:
    found = containers(client, db)
    times = {name: (one.started_at, one.finished_at) for name, one in found.items()}
    bootstrapped = times["bootstrap"][1]
    assert max(times["database"][0], times["redis"][0]) < times["bootstrap"][0]
    assert bootstrapped < min(times[name][0] for name in ("server-a", "server-b", "scheduler"))
    assert max(times["server-a"][0], times["server-b"][0]) < times["balancer"][0]


def test_only_balancer_and_nodes_publish_and_only_on_loopback(client: Any, db: str) -> None:
    found = containers(client, db)
    published = {name: one.published for name, one in found.items() if one.published or one.bindings}
    assert set(published) == {"balancer", "server-a", "server-b"}
    assert all(address.startswith("127.0.0.1:") for addresses in published.values() for address in addresses)


def test_smoke_checks_a_running_cluster_and_leaves_it(invoke: Invoke, client: Any, db: str) -> None:
    before = identities(client, db)
    ran = invoke("smoke", f"--db={db}", "--json")
    assert ran.code == 0, ran.out
    assert set(ran.checks().values()) == {"holds"}
    assert (ran.data["brought_up"], ran.data["left_running"]) == (False, True)
    after = identities(client, db)
    assert after.pop("server-b")[0] == before.pop("server-b")[0], "stopped under traffic and started again"
    assert after == before


def test_up_again_changes_nothing(invoke: Invoke, client: Any, db: str) -> None:
    before = identities(client, db)
    assert invoke("up", f"--db={db}").code == 0
    assert identities(client, db) == before


def test_up_with_other_settings_is_refused_and_changes_nothing(invoke: Invoke, client: Any, db: str) -> None:
    before = identities(client, db)
    ran = invoke("up", f"--db={db}", APP_VERSION="9.9.9")
    assert ran.code == 12
    assert "exported APP_VERSION=9.9.9 overrides env/cluster.env" in ran.err
    assert "server-a has another APP_VERSION" in ran.err
    assert "stop-the-world" in ran.err
    assert identities(client, db) == before


@pytest.mark.once
@pytest.mark.parametrize("verb", ["smoke", "bootstrap"])
def test_a_running_cluster_is_not_judged_by_other_settings(invoke: Invoke, db: str, verb: str) -> None:
    ran = invoke(verb, f"--db={db}", DW_AUTH_TOKEN="another-token")
    assert ran.code == 12
    assert "server-a has another DW_AUTH_TOKEN" in ran.err
    assert "another-token" not in ran.err + ran.out


def test_the_one_shot_job_may_run_again(invoke: Invoke, db: str) -> None:
    for verb in ("bootstrap", "migrate"):
        ran = invoke(verb, f"--db={db}")
        assert ran.code == 0, ran.err
        assert ran.out.strip()
    assert invoke("smoke", f"--db={db}").code == 0


@pytest.mark.once
def test_a_second_verb_is_told_that_one_is_at_work(invoke: Invoke, db: str) -> None:
    from smallcluster import locks

    with locks.exclusive(Database(db), "smoke"):
        ran = invoke("down", f"--db={db}")
    assert ran.code == 12
    assert "invoke smoke, process" in ran.err


def test_status_shows_every_container(invoke: Invoke, client: Any, db: str) -> None:
    shown = invoke("status", f"--db={db}", "--json").data[db]
    assert set(shown) == set(containers(client, db))
    table = invoke("status", f"--db={db}").out
    for service in shown:
        assert service in table


@pytest.mark.once
def test_logs_of_one_service_and_of_none(invoke: Invoke, db: str) -> None:
    ran = invoke("logs", f"--db={db}", "--service=bootstrap")
    assert ran.code == 0
    assert ran.out
    assert all(line.startswith("bootstrap") for line in ran.out.splitlines())
    wrong = invoke("logs", f"--db={db}", "--service=server-z")
    assert wrong.code == 12
    assert "server-a" in wrong.err


@pytest.mark.once
def test_followed_logs_go_on_until_interrupted(db: str) -> None:
    import signal

    from .conftest import finish, start

    process = start("logs", f"--db={db}", "--service=scheduler", "--follow")
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline().startswith("scheduler")
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 0


def test_no_secret_is_in_any_log_or_in_the_evidence(invoke: Invoke, client: Any, db: str) -> None:
    secrets = secrets_of(db)
    assert len(secrets) > 5
    raw = {name: _log(client, one.id) for name, one in containers(client, db).items()}
    assert not [name for name, text in raw.items() if any(secret in text for secret in secrets)]
    invoke("smoke", f"--db={db}")
    folder = STATE / "evidence" / f"latest-{db}"
    texts = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert {"report.json", "transcript.jsonl", "containers.json", "images.json"} <= {path.name for path in texts}
    assert not [path for path, text in texts.items() if any(secret in text for secret in secrets)]


def _log(client: Any, identity: str) -> str:
    return str(client.containers.get(identity).logs().decode())


def test_no_secret_is_in_any_process_list(client: Any, db: str) -> None:
    for name, one in containers(client, db).items():
        if one.running:
            listed = json.dumps(client.containers.get(one.id).top())
            assert not [secret for secret in secrets_of(db) if secret in listed], name


def test_ports_are_read_anew_after_a_restart(invoke: Invoke, client: Any, db: str) -> None:
    for name in ("server-a", "balancer"):
        client.containers.get(containers(client, db)[name].id).restart(timeout=5)
    _until_smoke_holds(invoke, db)


def test_a_dead_node_is_named(invoke: Invoke, client: Any, db: str) -> None:
    node = client.containers.get(containers(client, db)["server-b"].id)
    node.kill()
    ran = invoke("smoke", f"--db={db}", "--json")
    assert ran.code == 10
    broken = {one["check"]: one for one in ran.data["checks"] if one["verdict"] == "broken"}
    assert {"nodes-ready", "containers-steady"} <= set(broken)
    assert "server-b: exited with status 137" in broken["containers-steady"]["evidence"]
    assert broken["containers-steady"]["then"] == f"invoke logs --service=server-b --db={db}"
    refused = invoke("up", f"--db={db}")
    assert refused.code == 13
    assert "Only a part" in refused.err
    assert "server-b exited with status 137" in refused.err
    node.start()
    _until_smoke_holds(invoke, db)


@pytest.mark.once
def test_a_node_that_hangs_is_named_in_bounded_time(invoke: Invoke, client: Any, db: str) -> None:
    node = client.containers.get(containers(client, db)["server-b"].id)
    node.pause()
    try:
        ran = invoke("smoke", f"--db={db}", "--json")
    finally:
        node.unpause()
    assert ran.code == 10
    assert ran.checks()["nodes-ready"] == "broken"
    assert ran.seconds < 90
    _until_smoke_holds(invoke, db)


@pytest.mark.once
def test_a_second_scheduler_is_seen(invoke: Invoke, client: Any, db: str) -> None:
    first = client.containers.get(containers(client, db)["scheduler"].id)
    second = client.containers.run(
        first.image,
        ["dw-refserver", "scheduler"],
        detach=True,
        environment=first.attrs["Config"]["Env"],
        network=next(iter(first.attrs["NetworkSettings"]["Networks"])),
        labels=first.labels,
        name=f"{first.name}-second",
    )
    try:
        ran = invoke("smoke", f"--db={db}", "--json")
    finally:
        second.remove(force=True)
    assert ran.code == 10
    assert ran.checks()["one-scheduler"] == "broken"


@pytest.mark.once
def test_without_a_scheduler_what_it_should_have_done_is_missed(invoke: Invoke, client: Any, db: str) -> None:
    scheduler = client.containers.get(containers(client, db)["scheduler"].id)
    scheduler.stop(timeout=5)
    ran = invoke("smoke", f"--db={db}", "--json")
    scheduler.start()
    assert ran.code == 10
    broken = {check for check, verdict in ran.checks().items() if verdict == "broken"}
    work = {"due-schedule-fires-once", "expired-activity-times-out", "closed-run-is-pruned"}
    assert broken == work | {"one-scheduler", "containers-steady"}
    _until_smoke_holds(invoke, db)


@pytest.mark.once
def test_clusters_of_both_databases_run_at_the_same_time(invoke: Invoke, client: Any, db: str) -> None:
    other = {"mysql": "pgsql", "pgsql": "mysql"}[db]
    ran = invoke("smoke", f"--db={other}")
    assert ran.code == 0, ran.out
    assert invoke("smoke", f"--db={db}").code == 0
    assert not leftovers(client, other)


@pytest.mark.once
def test_a_stopped_cluster_is_told_and_started_again(invoke: Invoke, client: Any, db: str) -> None:
    for one in containers(client, db).values():
        client.containers.get(one.id).stop(timeout=5)
    ran = invoke("smoke", f"--db={db}")
    assert ran.code == 13
    assert f"`invoke up --db={db}` starts it again" in ran.err
    assert invoke("up", f"--db={db}").code == 0
    _until_smoke_holds(invoke, db)


@pytest.mark.once
def test_a_volume_that_is_left_alone_is_neither_taken_over_by_a_smoke_nor_lost(
    invoke: Invoke, client: Any, db: str
) -> None:
    for one in containers(client, db).values():
        client.containers.get(one.id).remove(force=True)
    ran = invoke("smoke", f"--db={db}", "--junit=/proc/no/such.xml")
    assert (ran.code, "can't be written" in ran.err) == (13, True)
    ran = invoke("smoke", f"--db={db}")
    assert ran.code == 13
    assert f"`invoke up --db={db}` starts it again with its data" in ran.err
    assert invoke("up", f"--db={db}").code == 0
    _until_smoke_holds(invoke, db)


@pytest.mark.once
def test_half_a_cluster_is_neither_checked_nor_completed(invoke: Invoke, client: Any, db: str) -> None:
    client.containers.get(containers(client, db)["scheduler"].id).remove(force=True)
    for verb in ("smoke", "up"):
        ran = invoke(verb, f"--db={db}")
        assert ran.code == 13
        assert "missing: scheduler" in ran.err
        assert f"invoke down --db={db}" in ran.err


def test_down_is_quick_whole_and_repeatable(invoke: Invoke, client: Any, db: str) -> None:
    ran = invoke("down", f"--db={db}")
    assert ran.code == 0
    assert not leftovers(client, db)
    again = invoke("down", f"--db={db}")
    assert (again.code, "Nothing of" in again.err) == (0, True)


def _until_smoke_holds(invoke: Invoke, db: str) -> None:
    """A node or balancer that was just restarted may need moments; the smoke itself never waits for it."""
    deadline = time.monotonic() + 60
    while (ran := invoke("smoke", f"--db={db}")).code != 0:
        assert time.monotonic() < deadline, ran.out
        assert Path(STATE).exists()
