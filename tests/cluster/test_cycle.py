"""Starting, failing to start, being stopped half way: what is said, which exit code, and that nothing is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from smallcluster import checks, static
from smallcluster.images import resolve_service
from smallcluster.paths import STATE

from .conftest import Invoke, finish, leftovers, start

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300), pytest.mark.usefixtures("nothing_running")]

CHECKS = len(checks.ALL)
FILES = len(static.ALL)


def test_smoke_brings_up_proves_and_takes_down(invoke: Invoke, client: Any, db: str, tmp_path: Path) -> None:
    ran = invoke("smoke", f"--db={db}", "--json", f"--junit={tmp_path}/smoke.xml")
    assert ran.code == 0, ran.err
    data = ran.data
    assert (data["verdict"], data["exit_code"], data["database"]) == ("holds", 0, db)
    assert list(ran.checks().values()) == ["holds"] * (FILES + CHECKS)
    assert all(check["evidence"] for check in data["checks"])
    assert [phase["name"].split()[0] for phase in data["phases"]] == ["up", "ready", f"{FILES}", f"{CHECKS}", "down"]
    assert {image["origin"] for image in data["images"].values()} <= {"built here", "pulled"}
    assert not leftovers(client, db)
    suite = ElementTree.parse(tmp_path / "smoke.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == (str(FILES + CHECKS), "0", "0")
    folder = Path(data["evidence"])
    logs = {path.stem for path in (folder / "logs").iterdir()}
    assert logs == {"database", "redis", "bootstrap", "server-a", "server-b", "balancer", "scheduler"}
    assert (folder / "env" / "server-b.env").read_text().count("DW_SERVER_ID=server-b") == 1


@pytest.mark.once
def test_three_nodes_are_kept_and_told_where(invoke: Invoke, db: str) -> None:
    ran = invoke("smoke", f"--db={db}", "--nodes=3", "--keep")
    assert ran.code == 0, ran.err
    assert "Left running: balancer http://127.0.0.1:" in ran.out
    assert "Verdict: HOLDS" in ran.out.splitlines()[-1]
    again = invoke("smoke", f"--db={db}", "--json")
    assert again.code == 0
    crossed = next(one for one in again.data["checks"] if one["check"] == "task-completed-on-other-node")
    assert len(crossed["evidence"]) == 6
    fewer = invoke("smoke", f"--db={db}", "--nodes=2")
    assert fewer.code == 13
    assert "not asked for: server-c" in fewer.err
    assert invoke("down", f"--db={db}").code == 0


@pytest.mark.once
def test_a_terminal_that_goes_away_leaves_no_cluster(client: Any, db: str) -> None:
    process = start("smoke", f"--db={db}")
    _until_told(process, "bootstrap started")
    assert process.stderr is not None
    assert process.stdout is not None
    process.stderr.close()
    process.stdout.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 11
    assert not leftovers(client, db)


@pytest.mark.once
def test_a_cluster_without_its_redis_is_broken(invoke: Invoke, client: Any, db: str) -> None:
    ran = invoke("smoke", f"--db={db}", "--json", REDIS_HOST="nowhere")
    assert ran.code == 10
    assert ran.checks()["nodes-reach-redis"] == "broken"
    assert ran.checks()["nodes-ready"] == "holds"
    found = next(one for one in ran.data["checks"] if one["check"] == "nodes-reach-redis")
    assert found["then"] == f"read {ran.data['evidence']}/logs/server-a.log"
    assert not leftovers(client, db)


@pytest.mark.once
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("▶ up", signal.SIGINT),
        ("database started", signal.SIGTERM),
        (f"▶ {CHECKS} checks", signal.SIGTERM),
    ],
)
def test_stopped_at_any_moment_nothing_is_left(client: Any, db: str, number: signal.Signals, moment: str) -> None:
    process = start("smoke", f"--db={db}")
    _until_told(process, moment)
    process.send_signal(number)
    ran = finish(process)
    assert ran.code == 11, ran.err
    assert "Traceback" not in ran.err + ran.out
    assert f"Stopped by {number.name}" in ran.out
    assert not leftovers(client, db)


@pytest.mark.once
def test_a_ctrl_c_cuts_no_teardown_short_and_stops_a_chain_of_verbs(client: Any, db: str) -> None:
    process = start("smoke", f"--db={db}", "smoke", f"--db={db}")
    _until_told(process, "server-a started")
    process.send_signal(signal.SIGINT)
    _until_told(process, "▶ down")
    process.send_signal(signal.SIGINT)
    ran = finish(process)
    assert ran.code == 11
    assert "▶ up" not in ran.err
    assert not leftovers(client, db)


@pytest.mark.once
def test_a_teardown_that_is_cut_short_names_what_is_left(invoke: Invoke, client: Any, db: str) -> None:
    process = start("smoke", f"--db={db}")
    _until_told(process, "server-a started")
    process.send_signal(signal.SIGINT)
    _until_told(process, "stopping balancer, scheduler")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    ran = finish(process)
    left = leftovers(client, db)
    assert ran.code == 11
    assert not [name for name in left if name not in ran.out]
    assert not left or f"invoke down --db={db}" in ran.out
    assert invoke("down", f"--db={db}").code == 0


@pytest.mark.once
def test_an_interrupted_up_leaves_nothing(client: Any, db: str) -> None:
    process = start("up", f"--db={db}")
    _until_told(process, "bootstrap started")
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 11
    assert not leftovers(client, db)


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_setup_ends_with_its_code_and_can_be_repeated(
    invoke: Invoke, client: Any, number: signal.Signals
) -> None:
    image = resolve_service("redis")
    if image.origin != "built here":
        pytest.skip(f"{image.ref} was pulled here, so setup would have nothing to build")
    client.images.get(image.ref).tag("smallcluster-test/kept", "1")
    client.images.remove(image.ref)
    try:
        process = start("setup")
        _until_told(process, "▶ asking whether an image registry answers")
        process.send_signal(number)
        ran = finish(process)
        assert (ran.code, "Traceback" in ran.err) == (11, False), ran.err
    finally:
        client.images.get("smallcluster-test/kept:1").tag(*image.ref.rsplit(":", 1))
        client.images.remove("smallcluster-test/kept:1")
    assert invoke("setup").code == 0


@pytest.mark.once
def test_a_killed_run_is_found_and_can_be_taken_away(invoke: Invoke, client: Any, db: str) -> None:
    process = start("smoke", f"--db={db}")
    _until_told(process, "database started")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert leftovers(client, db)
    again = invoke("up", f"--db={db}")
    assert again.code == 13
    assert f"invoke down --db={db}" in again.err
    ran = invoke("down", f"--db={db}")
    assert ran.code == 0, ran.err


@pytest.mark.once
def test_a_node_that_refuses_to_start_is_told_with_its_own_words(invoke: Invoke, client: Any, db: str) -> None:
    ran = invoke("smoke", f"--db={db}", DW_AUTH_DRIVER="nonsense")
    assert ran.code == 10, ran.err
    assert "did not come up: exited with status" in ran.out
    assert "Evidence: " in ran.out
    assert "DW_AUTH_DRIVER" in ran.out
    assert "Verdict: BROKEN" in ran.out
    assert not leftovers(client, db)


def test_a_bootstrap_that_fails_is_told(invoke: Invoke, client: Any, db: str) -> None:
    ran = invoke("up", f"--db={db}", DB_PORT="1", DW_BOOTSTRAP_RETRIES="1", DW_BOOTSTRAP_DELAY_SECONDS="0")
    assert ran.code == 10, ran.err
    assert "bootstrap did not come up: exited with status 1" in ran.err
    logs = re.search(r"read (\S+/logs)", ran.err)
    assert logs
    assert (Path(logs[1]) / "bootstrap.log").read_text()
    assert not leftovers(client, db)


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("smoke", "--db=sqlite"), 12, "--db=mysql or --db=pgsql"),
        (("smoke",), 12, "No database was named"),
        (("up", "--db=mysql", "--nodes=4"), 12, "--nodes=2 or --nodes=3"),
        (("up", "--db=mysql", "--nodes=1"), 12, "--nodes=2 or --nodes=3"),
        (("smoke", "--db=mysql", "--nodes=two"), 12, "--nodes=2 or --nodes=3"),
        (("render", "--db=mysql", "--nodes=0"), 12, "--nodes=2 or --nodes=3"),
        (("bench", "--db=mysql", "--polls=0"), 12, "--polls=0 is not a number from 1 to 14000"),
        (("bootstrap", "--db=mysql"), 13, "invoke up --db=mysql"),
        (("logs",), 12, "No database was named"),
        (("logs", "--db=mysql"), 13, "invoke up --db=mysql"),
    ],
)
def test_wrong_questions_get_a_sentence(invoke: Invoke, arguments: tuple[str, ...], code: int, words: str) -> None:
    ran = invoke(*arguments)
    assert ran.code == code, ran.err
    assert words in ran.err
    assert ran.out == ""


@pytest.mark.once
@pytest.mark.parametrize("verb", ["smoke", "bench", "up", "down", "status", "logs", "bootstrap", "doctor"])
def test_without_an_engine_every_verb_says_so(invoke: Invoke, db: str, verb: str, tmp_path: Path) -> None:
    arguments = [verb] if verb == "doctor" else [verb, f"--db={db}"]
    ran = invoke(*arguments, DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert ran.code == 13
    assert "invoke setup" in ran.err + ran.out or "DOCKER_HOST" in ran.err + ran.out


@pytest.mark.once
def test_as_json_even_a_stop_is_json_alone(invoke: Invoke) -> None:
    ran = invoke("smoke", "--db=oracle", "--json")
    assert ran.data["exit_code"] == ran.code == 12
    assert ran.data["problem"]["then"]


@pytest.mark.once
def test_the_state_folder_is_private_where_it_holds_secrets(invoke: Invoke, db: str) -> None:
    ran = invoke("render", f"--db={db}")
    assert ran.code == 0
    for path in map(Path, ran.out.split()):
        assert path.is_relative_to(STATE)
        assert path.suffix != ".env" or path.stat().st_mode & 0o777 == 0o600


def _until_told(process: subprocess.Popen[str], words: str) -> None:
    """Read the progress until these words come."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return
    raise AssertionError(f"{words!r} never came: {''.join(seen)}")
