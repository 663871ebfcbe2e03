"""What setup would do on machines that were made up here: the whole decision, without touching one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smallcluster.engine import Reach
from smallcluster.errors import ExitCode, MachineCannotError
from smallcluster.setup.machine import EngineState, Machine, Tools
from smallcluster.setup.plan import Plan, packages_of, plan

BOOKWORM = Machine("debian", "12", "Debian GNU/Linux 12 (bookworm)", "root")
TRIXIE = Machine("debian", "13", "Debian GNU/Linux 13 (trixie)", "root")
SID = Machine("debian", "", "Debian GNU/Linux forky/sid", "root")
NOBLE = Machine("ubuntu", "24.04", "Ubuntu 24.04 LTS", "sudo")
FEDORA = Machine("fedora", "42", "Fedora Linux 42", "root")

NOTHING = Tools(cli=False, daemon=False, compose="", buildx="")
CLIENT_ONLY = replace(NOTHING, cli=True)
EVERYTHING = Tools(cli=True, daemon=True, compose="2.26.1", buildx="0.13.1")

TROUBLE = MachineCannotError("No Docker engine answers at unix:///x.")
ABSENT = EngineState(Reach.ABSENT, local=True, trouble=TROUBLE)
LEFT_OVER = EngineState(Reach.REFUSED, local=True, trouble=TROUBLE)
ANSWERS = EngineState(Reach.ANSWERS, local=True, version="20.10.24")

DEBIAN_12 = ("docker.io", "ca-certificates", "docker-compose", "docker-buildx")


@pytest.mark.parametrize(
    ("machine", "tools", "engine", "expected"),
    [
        pytest.param(BOOKWORM, NOTHING, ABSENT, Plan(DEBIAN_12, "trixie", True), id="debian-12-bare"),
        pytest.param(BOOKWORM, CLIENT_ONLY, ABSENT, Plan(DEBIAN_12, "trixie", True), id="debian-12-client-only"),
        pytest.param(
            replace(BOOKWORM, needs_apparmor=True),
            NOTHING,
            ABSENT,
            Plan(("docker.io", "ca-certificates", "apparmor", *DEBIAN_12[2:]), "trixie", True),
            id="debian-12-apparmor",
        ),
        pytest.param(
            TRIXIE,
            NOTHING,
            ABSENT,
            Plan(("docker.io", "docker-cli", "ca-certificates", *DEBIAN_12[2:]), None, True),
            id="debian-13-bare",
        ),
        pytest.param(
            SID,
            NOTHING,
            ABSENT,
            Plan(("docker.io", "docker-cli", "ca-certificates", *DEBIAN_12[2:]), None, True),
            id="debian-sid-bare",
        ),
        pytest.param(
            NOBLE,
            NOTHING,
            ABSENT,
            Plan(("docker.io", "ca-certificates", "docker-compose-v2", "docker-buildx"), None, True),
            id="ubuntu-bare",
        ),
        pytest.param(BOOKWORM, EVERYTHING, ANSWERS, Plan(), id="all-there"),
        pytest.param(FEDORA, EVERYTHING, ANSWERS, Plan(), id="fedora-all-there"),
        pytest.param(FEDORA, EVERYTHING, ABSENT, Plan(start=True), id="fedora-stopped"),
        pytest.param(replace(BOOKWORM, right="none"), EVERYTHING, ANSWERS, Plan(), id="all-there-no-root"),
        pytest.param(BOOKWORM, EVERYTHING, ABSENT, Plan(start=True), id="stopped"),
        pytest.param(BOOKWORM, EVERYTHING, LEFT_OVER, Plan(start=True), id="killed-socket-left"),
        pytest.param(
            BOOKWORM,
            replace(EVERYTHING, compose=""),
            ANSWERS,
            Plan(("docker-compose",), "trixie"),
            id="engine-without-compose",
        ),
        pytest.param(
            TRIXIE, replace(EVERYTHING, cli=False), ANSWERS, Plan(("docker-cli",)), id="engine-without-client"
        ),
    ],
)
def test_plan(machine: Machine, tools: Tools, engine: EngineState, expected: Plan) -> None:
    assert plan(machine, tools, engine) == expected


@pytest.mark.parametrize(
    ("machine", "tools", "engine", "said"),
    [
        pytest.param(FEDORA, NOTHING, ABSENT, "this is Fedora Linux 42", id="fedora"),
        pytest.param(replace(BOOKWORM, release="11"), NOTHING, ABSENT, "Debian 12 or newer", id="debian-11"),
        pytest.param(
            replace(BOOKWORM, right="none"), NOTHING, ABSENT, "docker.io, ca-certificates, docker-compose", id="user"
        ),
        pytest.param(replace(BOOKWORM, right="none"), EVERYTHING, ABSENT, "may not start it", id="user-stopped"),
    ],
)
def test_refusals_say_what_to_do(machine: Machine, tools: Tools, engine: EngineState, said: str) -> None:
    with pytest.raises(MachineCannotError, match=said) as refused:
        plan(machine, tools, engine)
    assert refused.value.code is ExitCode.MACHINE_CANNOT
    assert "invoke setup" in refused.value.then


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(EngineState(Reach.DENIED, local=True, trouble=TROUBLE), id="socket-closed-to-user"),
        pytest.param(EngineState(Reach.SILENT, local=True, trouble=TROUBLE), id="engine-hangs"),
        pytest.param(EngineState(Reach.SILENT, local=False, trouble=TROUBLE), id="remote-engine-away"),
    ],
)
def test_no_second_engine_beside_one_that_does_not_answer(engine: EngineState) -> None:
    with pytest.raises(MachineCannotError) as refused:
        plan(BOOKWORM, NOTHING, engine)
    assert refused.value is TROUBLE


def test_only_debian_12_takes_from_a_newer_suite() -> None:
    suites = {machine.title: packages_of(machine) for machine in (BOOKWORM, TRIXIE, SID, NOBLE)}
    assert {title for title, known in suites.items() if known and known.newer_suite} == {BOOKWORM.title}
