"""One verb at a time changes a cluster: a second one in the same checkout is told who is at work."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smallcluster import files
from smallcluster.errors import AskedWronglyError
from smallcluster.paths import STATE


@contextmanager
def exclusive(db: str, verb: str, state: Path = STATE) -> Iterator[None]:
    """Hold a cluster's lock while a verb changes it; the kernel releases it however the process ends.

    Raises AskedWronglyError that names the verb and process at work.
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
        yield
        stream.truncate(0)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock for a moment, waiting for whoever else holds it for a moment."""
    with path.open("a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
