"""What a rehearsal makes of what goes wrong: a hung job, a database that dies, a second one at once, Ctrl-C twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smallcluster.images import names
from smallcluster.recipes import PREVIOUS, SERVER

from .conftest import Invoke, containers, finish, leftovers, start
from .test_rehearsal_cut_off import at_work_on, journal

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.once,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("nothing_running"),
]
HUNG = "smallcluster/test-hung-job:1"
HANGS = 'job="$(command -v server-bootstrap)" && printf "#!/bin/sh\nexec sleep 600\n" > "$job" && chmod 755 "$job"'
HANGS_FOR = 25  # so long that the balancer's health check has given it up by the time it serves again


@pytest.fixture
def hung_image(client: Any) -> Iterator[str]:
    """The server as it stands here, but for its bootstrap job, which never ends."""
    made = client.containers.create(names()[SERVER].local, ["sh", "-c", HANGS], user="0")
    try:
        config = client.images.get(names()[SERVER].local).attrs["Config"]
        made.start()
        assert made.wait()["StatusCode"] == 0, made.logs()
        made.commit(*HUNG.split(":"), conf={"Cmd": config["Cmd"], "User": config["User"]})
    finally:
        made.remove(force=True)
    yield HUNG
    client.images.remove(HUNG, force=True)


def await_step(process: Any, db: str, step: str) -> None:
    while at_work_on(journal(db) or {"gaps": [], "attempts": []}, 0) != step:
        assert process.poll() is None
        time.sleep(0.005)


def up_of_the_old(invoke: Invoke, db: str, *more: str) -> None:
    assert invoke("up", f"--db={db}", f"--image={names()[PREVIOUS].local}", *more, APP_VERSION="0.1.0").code == 0


def test_a_bootstrap_job_that_hangs_is_stopped_and_the_old_release_put_back(
    invoke: Invoke, client: Any, db: str, hung_image: str
) -> None:
    up_of_the_old(invoke, db)
    ran = invoke("rehearse", f"--db={db}", "--yes", f"--to={hung_image}", f"--bootstrap-seconds={HANGS_FOR}")
    assert ran.code == 10, ran.err
    assert f"did not end within {HANGS_FOR} s, and was stopped" in ran.out
    assert f"invoke rehearse --db={db} --abandon" in ran.out
    assert not containers(client, db)["bootstrap"].running
    back = invoke("rehearse", f"--db={db}", "--abandon", "--yes")
    assert back.code == 0, back.out + back.err
    assert "Abandoned: " in back.out.splitlines()[-1]
    running = {one.image for name, one in containers(client, db).items() if name.startswith("server-") and one.running}
    assert running == {names()[PREVIOUS].local}
    assert invoke("down", f"--db={db}").code == 0
    assert not leftovers(client, db)


def test_a_database_that_dies_during_the_backup_and_a_second_rehearsal_meanwhile(
    invoke: Invoke, client: Any, db: str
) -> None:
    up_of_the_old(invoke, db)
    process = start("rehearse", f"--db={db}", "--yes")
    await_step(process, db, "drain-workers")
    second = invoke("rehearse", f"--db={db}", "--yes")
    assert (second.code, "Another verb is at work" in second.err) == (12, True), second.err
    await_step(process, db, "stop-nodes")
    client.containers.get(containers(client, db)["database"].id).kill()
    ran = finish(process)
    assert ran.code in (10, 13), ran.err
    assert f"invoke rehearse --db={db} --resume" in ran.out
    assert [one["step"] for one in (journal(db) or {})["attempts"]][-1] == "back-up"
    again = invoke("rehearse", f"--db={db}", "--resume", "--yes", "--json")
    assert (again.code, again.data["verdict"]) == (0, "holds"), again.err
    assert invoke("down", f"--db={db}").code == 0
    assert not leftovers(client, db)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for the preflight's demands and little more."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system that can be filled")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_backup_folder_that_fills_up_keeps_no_part_and_three_nodes_go_on_when_there_is_room(
    invoke: Invoke, client: Any, db: str, small_disk: Path
) -> None:
    up_of_the_old(invoke, db, "--nodes=3")
    process = start("rehearse", f"--db={db}", "--nodes=3", "--yes", f"--backups={small_disk}")
    await_step(process, db, "drain-workers")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 20_000))
    ran = finish(process)
    assert ran.code == 13, ran.out + ran.err
    assert "No space left on device" in ran.out
    assert "Verdict: UNKNOWN" in ran.out
    assert list(small_disk.iterdir()) == [filler]
    assert f"A rehearsal is not over: `invoke rehearse --db={db} --resume`" in invoke("status", f"--db={db}").out
    filler.unlink()
    again = invoke("rehearse", f"--db={db}", "--resume", "--yes", "--json")
    assert (again.code, again.data["verdict"], again.data["nodes"]) == (0, "holds", 3), again.err
    assert [path.suffix for path in small_disk.iterdir()] == [".dump"]
    assert invoke("down", f"--db={db}").code == 0
    assert not leftovers(client, db)


def test_ctrl_c_twice_says_what_is_left_and_it_can_be_taken_away(invoke: Invoke, client: Any, db: str) -> None:
    process = start("rehearse", f"--db={db}", "--yes")
    await_step(process, db, "back-up")
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.7)  # into the teardown, which the first one began
    os.kill(process.pid, signal.SIGINT)
    ran = finish(process)
    assert ran.code == 11, ran.out + ran.err
    assert "Traceback" not in ran.err
    assert "Verdict: UNKNOWN" in ran.out
    assert "invoke down" in ran.out or not leftovers(client, db), ran.out
    assert invoke("down", f"--db={db}").code == 0
    assert not leftovers(client, db)
