"""A cluster that someone else runs: its file, and what is said of one that can't be judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invoke import Exit
from support.nodes import CERTIFICATE, Raw, faithful, serving
from support.recorded import Reply
from support.replay import TOKEN, Call, Replayed

from smallcluster import smoke_target, target, verbs
from smallcluster.checks.base import THROUGH, Need
from smallcluster.containers import BALANCER
from smallcluster.errors import AskedWronglyError, ExitCode
from smallcluster.progress import Progress
from smallcluster.smoke import SmokeReport

GOOD = f"""BALANCER_URL=http://balancer.example:80/
SERVER_A_URL=http://10.0.0.1:8080
SERVER_B_URL=https://10.0.0.2
DW_AUTH_TOKEN={TOKEN}
DB_CONNECTION=pgsql
"""


@pytest.fixture
def no_network() -> None:
    """This module speaks to its own servers on loopback."""


@pytest.fixture(autouse=True)
def kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "STATE", tmp_path / "state")


def read(folder: Path, text: str, *, nodes_unreachable: bool = False, read_only: bool = False) -> target.Target:
    path = folder / "there.env"
    path.write_text(text)
    return target.read(path, nodes_unreachable=nodes_unreachable, read_only=read_only)


def test_a_target_and_what_it_lets_checks_do(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert found.routes() == {
        BALANCER: "http://balancer.example:80", "server-a": "http://10.0.0.1:8080", "server-b": "https://10.0.0.2",
    }  # fmt: skip
    assert (found.settings.nodes, found.settings.value("DW_DEFAULT_NAMESPACE")) == (2, "smallcluster")
    assert smoke_target.absent(found) == {Need.ENGINE, Need.DATABASE, Need.OUR_ENV, Need.BUDGET, Need.LEASES}
    assert "SERVER_A_URL" not in found.settings.lines
    assert TOKEN in found.settings.secret_values


def test_the_balancer_alone_and_reading_alone(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD, nodes_unreachable=True, read_only=True)
    assert list(found.routes()) == [BALANCER]
    assert {Need.NODES, Need.WRITES} <= smoke_target.absent(found)
    assert found.settings.value("DW_DEFAULT_NAMESPACE") == "", "nothing may be made, so the server's default is asked"
    assert read(tmp_path, GOOD + "NAMESPACE=mine\n", read_only=True).settings.value("DW_DEFAULT_NAMESPACE") == "mine"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("BALANCER_URL=http://balancer.example:80/", "", "BALANCER_URL is not set"),
        ("http://balancer.example:80/", "balancer.example", "there.env:1: BALANCER_URL is not the address"),
        ("http://10.0.0.1:8080", "http://10.0.0.1:8080/api", "there.env:2: SERVER_A_URL is not the address"),
        ("SERVER_B_URL=https://10.0.0.2", "", "1 of two or three nodes"),
        (f"DW_AUTH_TOKEN={TOKEN}", "DW_AUTH_TOKEN=", "no token is there"),
        ("DB_CONNECTION=pgsql", "", "DB_CONNECTION is not set"),
        ("DB_CONNECTION=pgsql", "DB_CONNECTION=sqlite", "sqlite is not a database"),
        ("DB_CONNECTION=pgsql", "DB_CONNECTION=pgsql\nCA_FILE=none.pem", "there is no file"),
        ("DB_CONNECTION=pgsql", "DW_AUTH_TOKN=x", "DW_AUTH_TOKN is not a variable"),
        ("DB_CONNECTION=pgsql", "what is this", "is not NAME=value"),
    ],
)
def test_a_slip_in_the_file_is_told(old: str, new: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(AskedWronglyError, match=told):
        read(tmp_path, GOOD.replace(old, new))


def smoked(folder: Path, spoil: Callable[[Call, Reply], Raw] = faithful, **flags: bool) -> SmokeReport:
    with serving(Replayed(), ("server-a", "server-b"), spoil) as routes:
        text = GOOD.replace("http://balancer.example:80/", routes[BALANCER])
        text = text.replace("http://10.0.0.1:8080", routes["server-a"]).replace("https://10.0.0.2", routes["server-b"])
        asked = read(folder, text, **flags)
        return smoke_target.smoke_target(asked, Progress(), strict=False, began=0.0)


def test_reading_alone_sends_nothing_that_writes(tmp_path: Path) -> None:
    report = smoked(tmp_path, read_only=True)
    sent = [json.loads(line) for line in (report.evidence.folder / "transcript.jsonl").read_text().splitlines()]
    assert {one["method"] for one in sent} == {"GET"}
    verdicts = {one.check: one.verdict.value for one in report.findings}
    assert (verdicts["balancer-health"], verdicts["nodes-have-own-ids"]) == ("holds", "holds")
    assert (verdicts["workflow-starts"], verdicts["containers-steady"]) == ("unknown", "unknown")
    assert report.exit_code is ExitCode.UNKNOWN
    assert {"smoke.start", "runs.steady"} <= set(report.unjudged)
    assert "smoke.health" not in report.unjudged


def test_through_the_balancer_alone_nothing_is_said_of_a_node(tmp_path: Path) -> None:
    report = smoked(tmp_path, nodes_unreachable=True, read_only=True)
    sent = [json.loads(line) for line in (report.evidence.folder / "transcript.jsonl").read_text().splitlines()]
    assert {one["route"] for one in sent} <= {BALANCER, *THROUGH}
    verdicts = {one.check: one.verdict.value for one in report.findings}
    assert (verdicts["balancer-health"], verdicts["nodes-ready"]) == ("holds", "unknown")


def instead(status: int, content: bytes) -> Callable[[Call, Reply], Raw]:
    return lambda *_: Raw(status, content, {"Content-Type": "text/html"})


def other(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Call, Reply], Raw]:
    return lambda call, reply: faithful(call, Reply(reply.status, change(reply.body)))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (instead(200, b"<html>welcome</html>"), "is not answered by a Durable Workflow Server"),
        (instead(404, b"no"), "is not answered by a Durable Workflow Server"),
        (instead(401, b"{}"), "does not take the token"),
        (other(lambda body: body | {"control_plane": {"version": "3"}}), "speaks other versions"),
        (other(lambda body: body | {"worker_protocol": {"version": "2.0"}}), "speaks other versions"),
    ],
)
def test_what_can_not_be_judged_is_unknown_and_says_why(spoil: Any, told: str, tmp_path: Path) -> None:
    report = smoked(tmp_path, spoil)
    assert report.problem is not None
    assert told in str(report.problem)
    assert (report.exit_code, report.findings) == (ExitCode.UNKNOWN, ())


def test_nobody_answers(tmp_path: Path) -> None:
    asked = read(tmp_path, GOOD.replace("http://balancer.example:80/", "http://127.0.0.1:1"), nodes_unreachable=True)
    report = smoke_target.smoke_target(asked, Progress(), strict=False, began=0.0)
    assert "does not answer" in str(report.problem)
    assert report.exit_code is ExitCode.UNKNOWN


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_is_trusted_by_its_signers_file_alone(trusted: bool, tmp_path: Path) -> None:
    with serving(Replayed(), ("server-a", "server-b"), tls=True) as routes:
        text = GOOD.replace("http://balancer.example:80/", routes[BALANCER])
        text += f"CA_FILE={CERTIFICATE}\n" if trusted else ""
        asked = read(tmp_path, text, nodes_unreachable=True, read_only=True)
        report = smoke_target.smoke_target(asked, Progress(), strict=False, began=0.0)
    if trusted:
        assert {one.check: one.verdict.value for one in report.findings}["balancer-health"] == "holds"
    else:
        assert "its certificate is not trusted" in str(report.problem)
        assert "CA_FILE" in str(report.problem)


@pytest.mark.parametrize(
    "given", [{"db": "mysql", "target": "x.env"}, {"keep": True, "target": "x.env"}, {"db": "mysql", "read_only": True}]
)
def test_flags_that_do_not_go_together(given: dict[str, Any]) -> None:
    none = {"db": "", "nodes": "", "image": "", "keep": False, "target": "", "nodes_unreachable": False,
            "read_only": False, "strict": False, "json": False, "junit": "", "debug": False}  # fmt: skip
    with pytest.raises(Exit) as ended:
        verbs.smoke(**(none | given))
    assert ended.value.code == 12
