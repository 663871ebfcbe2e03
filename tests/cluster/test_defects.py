"""Defects planted in a running cluster: caught, put back, and never left behind in silence."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from smallcluster.paths import STATE

from .conftest import Invoke, containers, finish, leftovers, start

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300), pytest.mark.usefixtures("nothing_running")]

SOME = ("duplicate-server-id", "sqlite", "lease-in-memory", "two-schedulers", "balancer-knows-one-node")


def test_some_are_caught_and_everything_is_taken_down(invoke: Invoke, client: Any, db: str) -> None:
    ran = invoke("defects", f"--db={db}", "--json", *(f"--only={name}" for name in SOME))
    assert ran.code == 0, ran.err
    told = {one["defect"]: one for one in ran.data["defects"]}
    assert told.keys() == set(SOME)
    assert all(one["caught"] and one["right_rule"] and not one["missed"] for one in told.values())
    assert "task-completed-on-other-node" in told["lease-in-memory"]["red"]
    assert not leftovers(client, db)


@pytest.mark.once
def test_a_cluster_that_runs_is_put_back_and_one_that_does_nothing_leaves_it_green(invoke: Invoke, db: str) -> None:
    assert invoke("up", f"--db={db}").code == 0
    ran = invoke("defects", f"--db={db}", "--only=nothing", "--only=token-differs")
    assert ran.code == 0, ran.out
    assert "Defects: 2 of 2 as they must be" in ran.out.splitlines()[-1]
    assert invoke("smoke", f"--db={db}").code == 0
    assert invoke("down", f"--db={db}").code == 0


@pytest.mark.once
def test_a_run_that_was_killed_is_found_by_the_next_verb(invoke: Invoke, client: Any, db: str) -> None:
    assert invoke("up", f"--db={db}").code == 0
    process = start("defects", f"--db={db}", "--only=version-differs")
    assert process.stderr is not None
    while "looking" not in process.stderr.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert (STATE / db / "defect-planted").exists()
    ran = invoke("smoke", f"--db={db}")
    assert ran.code == 12
    assert f"A planted defect was left in the {db} cluster" in ran.err
    assert invoke("down", f"--db={db}").code == 0
    assert not leftovers(client, db)


@pytest.mark.once
def test_one_that_is_interrupted_puts_everything_back(invoke: Invoke, client: Any, db: str) -> None:
    assert invoke("up", f"--db={db}").code == 0
    process = start("defects", f"--db={db}", "--only=nothing")
    assert process.stderr is not None
    while "looking" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 11
    assert all(one.running for name, one in containers(client, db).items() if name != "bootstrap")
    assert not (STATE / db / "defect-planted").exists()
    assert invoke("down", f"--db={db}").code == 0


@pytest.mark.once
def test_a_name_that_no_defect_has(invoke: Invoke, db: str) -> None:
    ran = invoke("defects", f"--db={db}", "--only=no-such-thing")
    assert ran.code == 12
    assert "choose one of: acknowledged-before-commit" in ran.err
