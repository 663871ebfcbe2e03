"""One result, three printers: a person's, a machine's, a CI system's."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from smallcluster import evidence
from smallcluster.cluster import Cluster
from smallcluster.errors import ExitCode, InterruptedRunError, MachineCannotError, PersonError
from smallcluster.images import Image
from smallcluster.progress import Phase
from smallcluster.report import annotations, console, junit, machine
from smallcluster.settings import Settings
from smallcluster.smoke import SmokeReport, leniently
from smallcluster.verdicts import Finding, Judgement, broken, holds, unknown

IMAGE = Image("server", "some/server:1", "built here", "sha256:" + "a" * 64, "sha256:" + "a" * 64, "1.0")


def finding(judgement: Judgement, check: str = "balancer-ready") -> Finding:
    return Finding(check=check, title="It is ready", rules=("smoke.ready",), judgement=judgement, seconds=0.1)


GOOD = finding(holds("GET /api/ready → 200"))
BAD = finding(broken("GET /api/ready → 503", expected="200", cause="a node.", then="invoke logs --service=server-a"))
WEAK = finding(unknown("no answer", cause="too weak."))


@pytest.fixture
def report(settings: Settings) -> Any:
    def made(*findings: Finding, problem: PersonError | None = None, left_running: bool = False) -> SmokeReport:
        cluster = SimpleNamespace(settings=settings, images={"server": IMAGE}, routes=lambda: {"balancer": "http://x"})
        return SmokeReport(
            cluster=cast("Cluster", cluster),
            findings=findings,
            phases=(Phase("up", 5.0, (Phase("nodes ready", 2.0),)),),
            evidence=evidence.begin("smoke", settings, datetime.now(UTC)),
            brought_up=True,
            left_running=left_running,
            seconds=7.0,
            problem=problem,
        )

    return made


@pytest.mark.parametrize(
    ("findings", "problem", "verdict", "code"),
    [
        ([GOOD], None, "holds", ExitCode.HOLDS),
        ([GOOD, BAD, WEAK], None, "broken", ExitCode.BROKEN),
        ([GOOD, WEAK], None, "unknown", ExitCode.UNKNOWN),
        ([], None, "unknown", ExitCode.UNKNOWN),
        ([], InterruptedRunError("Stopped."), "unknown", ExitCode.UNKNOWN),
        ([GOOD], MachineCannotError("Left."), "unknown", ExitCode.MACHINE_CANNOT),
        # what was found broken stays broken, whatever went wrong afterwards
        ([GOOD, BAD], MachineCannotError("Left."), "broken", ExitCode.BROKEN),
        ([BAD], InterruptedRunError("Stopped."), "broken", ExitCode.BROKEN),
    ],
)
def test_verdict_and_exit_code(
    report: Any, findings: list[Finding], problem: PersonError | None, verdict: str, code: ExitCode
) -> None:
    made = report(*findings, problem=problem)
    assert (made.verdict.value, made.exit_code) == (verdict, code)
    data = json.loads(json.dumps(machine.smoke_as_data(made)))
    assert (data["verdict"], data["exit_code"]) == (verdict, int(code))


def test_a_person_reads_rule_expectation_cause_and_next_step(report: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = report(GOOD, BAD)
    console.print_smoke(made)
    out = capsys.readouterr().out
    for words in ("✗ It is ready (balancer-ready)", "rule smoke.ready:", "expected: 200", "likely: a node."):
        assert words in out
    assert f"next: read {made.evidence.folder}/logs/server-a.log" in out
    assert out.splitlines()[-1].startswith("✗ Verdict: BROKEN (mysql, 2 nodes; 1 holds, 1 broken;")
    assert "\x1b[" not in out


AGAINST_THE_PROTOCOL = replace(BAD, check="timer-fires-once", rules=("protocol.timers",))


@pytest.mark.parametrize(
    ("rules", "warning"),
    [(("protocol.timers",), True), (("smoke.ready",), False), (("protocol.history-order", "smoke.ready"), False)],
)
def test_only_what_the_protocol_alone_demands_is_a_warning(rules: tuple[str, ...], warning: bool) -> None:
    assert leniently(replace(BAD, rules=rules)).warning is warning


def test_a_warning_is_shown_everywhere_and_decides_nothing(
    report: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    strict, lenient = report(GOOD, AGAINST_THE_PROTOCOL), report(GOOD, leniently(AGAINST_THE_PROTOCOL))
    assert (strict.exit_code, lenient.exit_code) == (ExitCode.BROKEN, ExitCode.HOLDS)
    assert [one["warning"] for one in machine.smoke_as_data(lenient)["checks"]] == [False, True]
    console.print_smoke(lenient)
    out = capsys.readouterr().out
    assert "! It is ready (timer-fires-once)" in out
    assert "decides nothing without --strict" in out
    assert "HOLDS (mysql, 2 nodes; 1 holds, 1 warnings;" in out
    junit.write(lenient, tmp_path / "out.xml")
    suite = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["2", "0", "0"]
    assert "warning: broken" in "".join(suite.itertext())
    assert [line.partition(" ")[0] for line in annotations.lines(lenient)] == ["::warning"]


def test_a_run_of_nothing_but_warnings_has_judged_nothing(report: Any) -> None:
    assert report(leniently(AGAINST_THE_PROTOCOL)).exit_code is ExitCode.UNKNOWN


def test_of_a_cluster_that_stays_the_next_step_is_a_command(report: Any) -> None:
    made = report(BAD, left_running=True)
    assert made.next_step(BAD) == "invoke logs --service=server-a --db=mysql"


def test_junit_counts_failures_and_errors(report: Any, tmp_path: Path) -> None:
    path = tmp_path / "out.xml"
    odd = finding(broken("log line \x1b[31m & <tag>", expected="x", cause="y"))
    junit.write(report(GOOD, odd, WEAK, problem=InterruptedRunError("Stopped.")), path)
    suite = ElementTree.parse(path).getroot()
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["4", "1", "2"]
    assert [case.get("name") for case in suite.iter("testcase")][-1] == "the run itself"
    failure = suite.find(".//failure")
    assert failure is not None
    assert "& <tag>" in (failure.text or "")


def test_junit_names_read_well_and_carry_the_checks_id(report: Any, tmp_path: Path) -> None:
    junit.write(report(BAD), tmp_path / "out.xml")
    case = ElementTree.parse(tmp_path / "out.xml").find(".//testcase")
    assert case is not None
    assert (case.get("classname"), case.get("name")) == ("smoke.mysql.2-nodes", "It is ready")
    properties = [(one.get("name"), one.get("value")) for one in case.iter("property")]
    assert properties == [("check", "balancer-ready"), ("rule", "smoke.ready")]
    failure = case.find("failure")
    assert failure is not None
    assert (failure.get("type"), failure.get("message", "")[:29]) == ("broken", "expected: 200; likely: a node")
    assert "rule smoke.ready: Through the balancer" in (failure.text or "")


def test_what_does_not_hold_is_an_annotation_of_one_line(report: Any) -> None:
    odd = finding(broken("100 %\r\nof it", expected="x", cause="y"), "a:b,c%")
    made = list(annotations.lines(report(GOOD, odd, WEAK, problem=InterruptedRunError("Stopped.", then="a"))))
    assert [line.partition("::It")[0] for line in made[:2]] == [
        "::error title=a%3Ab%2Cc%25",
        "::warning title=balancer-ready",
    ]
    assert "100 %25%0D%0Aof it%0Aexpected: x%0Alikely: y" in made[0]
    assert made[2] == "::error title=the run itself::Stopped.%0A  Next: a"
    assert all(len(line.splitlines()) == 1 for line in made)


def test_annotations_hide_secrets(report: Any, settings: Settings) -> None:
    secret = settings.value("DW_AUTH_TOKEN")
    (line,) = annotations.lines(report(finding(unknown(f"token {secret}"))))
    assert secret not in line
    assert "(hidden)" in line


def test_junit_hides_secrets(report: Any, settings: Settings, tmp_path: Path) -> None:
    secret = settings.value("DW_AUTH_TOKEN")
    junit.write(report(finding(holds(f"token {secret}"))), tmp_path / "out.xml")
    assert secret not in (tmp_path / "out.xml").read_text()


def test_what_a_server_echoes_is_hidden_before_any_printer_sees_it() -> None:
    said = finding(broken("401 token s3cret refused", expected="s3cret", cause="s3cret."))
    clean = said.hidden(("s3cret",))
    assert "s3cret" not in str(clean)
    assert clean.judgement.evidence == ("401 token (hidden) refused",)
    assert clean.verdict is said.verdict
