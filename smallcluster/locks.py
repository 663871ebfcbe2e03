"""One verb at a time changes a cluster: a second one in the same checkout is told who is at work."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smallcluster import files, waiting
from smallcluster.errors import AskedWronglyError, ClusterBrokenError, MachineCannotError
from smallcluster.paths import STATE

CHILDREN = "children"
"""The file in a cluster's state folder that its Compose commands hold a lock of."""
CHILDREN_SECONDS = 60.0
"""How long what a killed verb had begun may still take."""


@contextmanager
def exclusive(db: str, verb: str, state: Path = STATE) -> Iterator[None]:
    """Hold a cluster's lock while a verb changes it; the kernel releases it however the process ends.

    Waits for the Compose commands that a killed verb has left running. Raises AskedWronglyError that names the verb
    and process at work, MachineCannotError where such a command does not end.
    """
    path = files.folder(state / db) / "lock"
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise AskedWronglyError(
                f"Another verb is at work on the {db} cluster of this checkout.",
                seen=stream.read().strip() or "its lock is held",
                then="wait for it to end, or use another checkout: clusters of two checkouts run side by side.",
            ) from None
        stream.truncate(0)
        stream.write(f"invoke {verb}, process {os.getpid()}\n")
        stream.flush()
        _await_children(path.with_name(CHILDREN))
        yield
        stream.truncate(0)


@contextmanager
def handed_on(path: Path) -> Iterator[int]:
    """A descriptor for a child to inherit, with a lock that lasts as long as the child does, whatever becomes of us."""
    with path.open("a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield stream.fileno()


def _await_children(path: Path) -> None:
    with path.open("a", encoding="utf-8") as stream:

        def free() -> str | None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return "a Compose command of a verb that was killed"
            return None

        try:
            waiting.until_none("no Compose command is left running", free, deadline=CHILDREN_SECONDS)
        except ClusterBrokenError:
            raise MachineCannotError(
                "A Compose command that a killed verb had begun does not end.",
                seen=f"{path} is locked after {CHILDREN_SECONDS:g} s",
                why="the engine hangs, or is very busy.",
                then="`fuser -v " + str(path) + "` names it; end it, then repeat the command.",
            ) from None


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock for a moment, waiting for whoever else holds it for a moment."""
    with path.open("a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
