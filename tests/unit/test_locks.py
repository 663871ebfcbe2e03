"""One verb at a time: the second is told who is at work, and a dead one holds nobody up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smallcluster import locks
from smallcluster.errors import AskedWronglyError, MachineCannotError
from smallcluster.settings import Database


def test_the_second_verb_is_told_of_the_first(tmp_path: Path) -> None:
    with (
        locks.exclusive(Database.MYSQL, "smoke", tmp_path),
        pytest.raises(AskedWronglyError, match="Another verb is at work on the mysql cluster") as caught,
        locks.exclusive(Database.MYSQL, "down", tmp_path),
    ):
        raise AssertionError("two verbs at once")
    assert "invoke smoke, process" in caught.value.seen


def test_the_other_database_is_free(tmp_path: Path) -> None:
    with locks.exclusive(Database.MYSQL, "smoke", tmp_path), locks.exclusive(Database.PGSQL, "smoke", tmp_path):
        pass


def test_a_killed_verb_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal, pathlib; from smallcluster import locks; from smallcluster.settings import Database\n"
        f"with locks.exclusive(Database.MYSQL, 'smoke', pathlib.Path({str(tmp_path)!r})):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with locks.exclusive(Database.MYSQL, "smoke", tmp_path):
        pass


def test_what_a_killed_verb_left_running_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = tmp_path / Database.MYSQL / locks.CHILDREN
    guard.parent.mkdir()
    with locks.handed_on(guard) as descriptor:
        program = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[descriptor])
    assert child.stdout is not None
    child.stdout.readline()
    monkeypatch.setattr(locks, "CHILDREN_SECONDS", 0.2)
    with (
        pytest.raises(MachineCannotError, match="does not end"),
        locks.exclusive(Database.MYSQL, "down", tmp_path),
    ):
        raise AssertionError("its Compose command still runs")
    child.communicate()
    with locks.exclusive(Database.MYSQL, "down", tmp_path):
        pass
