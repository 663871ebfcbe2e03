"""A cluster as somebody else's: the same checks, over its published addresses alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smallcluster.paths import STATE
from smallcluster.settings import load

from .conftest import Invoke

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def target(invoke: Invoke, db: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file that describes this checkout's cluster as a stranger would know it."""
    invoke("down", f"--db={db}")
    ran = invoke("up", f"--db={db}", "--json")
    assert ran.code == 0, ran.err
    value = load(db, exported={}).value
    urls = {"BALANCER_URL": "balancer", "SERVER_A_URL": "server-a", "SERVER_B_URL": "server-b"}
    lines = [f"{name}={ran.data['routes'][route]}" for name, route in urls.items()]
    lines += [f"{name}={value(name)}" for name in ("DW_WORKER_TOKEN", "DW_OPERATOR_TOKEN", "DW_ADMIN_TOKEN")]
    path = tmp_path_factory.mktemp("target") / "there.env"
    path.write_text("\n".join([*lines, f"DB_CONNECTION={db}", ""]))
    yield path
    assert invoke("down", f"--db={db}").code == 0


def test_what_http_can_tell_holds_and_the_rest_is_unknown(invoke: Invoke, target: Path) -> None:
    ran = invoke("smoke", f"--target={target}", "--json")
    assert ran.code == 11, ran.err
    verdicts = ran.checks()
    unknown = {check for check, verdict in verdicts.items() if verdict != "holds"}
    assert unknown == {
        "bootstrap-completed-once", "containers-steady", "one-scheduler", "scheduler-passes-ran", "private-services",
        "closed-run-is-pruned", "expired-lease-goes-to-another-worker", "heartbeat-keeps-a-lease",
        "balancer-fails-over",
        "admission-budget-holds-over-nodes", "readiness-follows-the-database", "unmigrated-node-is-not-ready",
        "no-secret-in-logs",
    }  # fmt: skip
    assert all("this check needs" in one["cause"] for one in ran.data["checks"] if one["check"] in unknown)
    assert "scheduler.prunes" in ran.data["unjudged_rules"]
    assert "smoke.start" not in ran.data["unjudged_rules"]


def test_it_cleans_up_after_itself(invoke: Invoke, target: Path) -> None:
    invoke("smoke", f"--target={target}")
    folder = STATE / "evidence" / "latest-target"
    sent = [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]
    made = {one["sent"]["worker_id"] for one in sent if one["path"] == "/api/worker/register" and one["status"] == 201}
    gone = {one["path"].rpartition("/")[2] for one in sent if one["method"] == "DELETE" and one["status"] == 200}
    assert made <= gone
    token = next(line for line in target.read_text().splitlines() if line.startswith("DW_ADMIN_TOKEN")).partition("=")[
        2
    ]
    assert not [path for path in folder.rglob("*") if path.is_file() and token in path.read_text()]


def test_read_only_sends_no_more_than_questions(invoke: Invoke, target: Path) -> None:
    ran = invoke("smoke", f"--target={target}", "--read-only", "--json")
    assert ran.code == 11
    verdicts = ran.checks()
    assert (verdicts["nodes-ready"], verdicts["nodes-are-one-release"]) == ("holds", "holds")
    assert "broken" not in verdicts.values()
    transcript = Path(ran.data["evidence"]) / "transcript.jsonl"
    assert {json.loads(line)["method"] for line in transcript.read_text().splitlines()} == {"GET"}


def test_the_balancer_alone(invoke: Invoke, target: Path) -> None:
    ran = invoke("smoke", f"--target={target}", "--nodes-unreachable", "--json")
    assert ran.code == 11
    verdicts = ran.checks()
    assert (verdicts["run-verified-through-balancer"], verdicts["task-leased-on-one-node"]) == ("holds", "unknown")
    assert "broken" not in verdicts.values()


@pytest.mark.once
def test_another_services_address_and_a_wrong_token(invoke: Invoke, target: Path, tmp_path: Path) -> None:
    text, wrong = target.read_text(), tmp_path / "wrong.env"
    url = next(line for line in text.splitlines() if line.startswith("BALANCER_URL")).partition("=")[2]
    cases: list[tuple[str, str, str]] = [
        (url, "http://127.0.0.1:9", "does not answer"),
        ("DW_WORKER_TOKEN=", "DW_WORKER_TOKEN=x", ""),
        ("DW_OPERATOR_TOKEN=", "DW_OPERATOR_TOKEN=x", ""),
    ]
    for old, new, told in cases:
        wrong.write_text(text.replace(old, new))
        ran: Any = invoke("smoke", f"--target={wrong}")
        assert ran.code in (10, 11), ran.out
        assert told in ran.out
        assert "Traceback" not in ran.err
