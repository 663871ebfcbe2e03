"""Writes files whole or not at all, private where they hold secrets."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from smallcluster.errors import MachineCannotError


def write_private(path: Path, text: str) -> None:
    """Write `text` so that only its owner can read it (mode 0600); readers see the old file or the new one."""
    _write(path, text, 0o600)


def write_public(path: Path, text: str) -> None:
    """Write `text` for any reader (mode 0644): files without secrets that a container's own user must read."""
    _write(path, text, 0o644)


def json_lines(path: Path) -> list[Any]:
    """What a file of JSON lines holds, nothing where it is not there; a line that a kill cut through is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def refuse_unwritable(path: Path) -> None:
    """Raise MachineCannotError where a file can't be written, its folder made: better before the work than after it."""
    folder(path.parent)
    if (
        path.is_dir()
        or not os.access(path.parent, os.W_OK | os.X_OK)
        or (path.exists() and not os.access(path, os.W_OK))
    ):
        raise _unwritable(path, OSError(0, "not a file in a folder that this user may write to"))


def folder(path: Path) -> Path:
    """Make a folder with its parents; raises MachineCannotError where it can't be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise _unwritable(path, problem) from None
    return path


def _write(path: Path, text: str, mode: int) -> None:
    folder(path.parent)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), mode)
        Path(temporary).replace(path)
    except OSError as problem:
        raise _unwritable(path, problem) from None


def _unwritable(path: Path, problem: OSError) -> MachineCannotError:
    return MachineCannotError(
        f"{path} can't be written.",
        seen=problem.strerror or str(problem),
        why="the state folder belongs to another user, or the disk is full or read-only.",
        then=f"look with `ls -ld {path.parent}` and `df -h {path.parent}`, then repeat the command.",
    )
