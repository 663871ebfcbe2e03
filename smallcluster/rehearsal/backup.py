"""A backup of the database, made by its own tool in its container, and the proof that it can be restored."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smallcluster import database, files
from smallcluster.errors import ClusterBrokenError, MachineCannotError

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster
    from smallcluster.settings import Database

Query = Callable[[str], list[str]]
"""Runs SQL in one database; a line per row, tabs between columns."""
DEADLINE = 1800.0
"""Seconds that a dump or a restore may take before it counts as hung."""
_CHUNK = 1 << 20
_PART = ".part"
ROOM = 2
"""How many times the database's size must be free before anything is stopped."""


@dataclass(frozen=True)
class Backup:
    """A file that holds the whole database, with what proves that it is still the same file."""

    path: Path
    size: int
    """Bytes."""
    sha256: str
    seconds: float


@dataclass(frozen=True)
class Table:
    """What a table holds, as far as two copies of it can be told apart."""

    rows: int
    checksum: str


@dataclass(frozen=True)
class Proof:
    """A backup restored into a scratch database, compared table by table."""

    tables: Mapping[str, Table]
    differing: tuple[str, ...]
    """What is not the same, each with both sides; nothing if the backup can be relied on."""
    seconds: float


def refuse_too_little_room(cluster: Cluster, folder: Path) -> str:
    """What the database takes and what is free. Raises MachineCannotError where a backup might not fit."""
    size = int(cluster.query(database.size_query(cluster.settings.db))[0])
    free = shutil.disk_usage(files.folder(folder)).free
    told = f"the database takes {size} bytes, {free} are free at {folder}"
    if free < ROOM * size:
        raise MachineCannotError(
            "There is not enough room for a backup.",
            seen=told,
            why=f"{ROOM} times what the database takes must be free.",
            then=f"make room, or look at `ls -l {folder}` for backups that are no longer needed.",
        )
    return told


def take(cluster: Cluster, path: Path) -> Backup:
    """Dump the cluster's own database into a new file, mode 0600, complete or not there at all.

    Raises ClusterBrokenError with the tool's words where the database refuses or dies, MachineCannotError where the
    file can't be written.
    """
    began, part = time.monotonic(), path.with_name(f".{path.name}{_PART}")
    files.refuse_unwritable(path)
    digest, size = hashlib.sha256(), 0
    try:
        with open(part, "wb", opener=_private) as stream:
            for chunk in dumped(cluster):
                stream.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(path)
    except OSError as problem:
        raise MachineCannotError(
            f"The backup {path} can't be written.",
            seen=problem.strerror or str(problem),
            why=f"the disk is full, or the folder is somebody else's; {size} bytes were written.",
            then=f"look with `df -h {path.parent}`; nothing was changed in the database.",
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return Backup(path, size, digest.hexdigest(), time.monotonic() - began)


def forget_parts(folder: Path, prefix: str) -> None:
    """Remove what backups of a run that was killed left half written, by how their names begin."""
    for left in folder.glob(f".{prefix}*{_PART}"):
        left.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL | os.O_CREAT, 0o600)


def dumped(cluster: Cluster, name: str = "") -> Iterator[bytes]:
    """What the tool writes of the cluster's database, or of another one of the same server, as it comes.

    Raises ClusterBrokenError at its end where it failed, with its last words.
    """
    script = ("exec", "-T", "database", "sh", "-c", database.dump_script(cluster.settings.db), "dump", name)
    with cluster.compose.piped(*script, deadline=DEADLINE) as process:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        while chunk := process.stdout.read(_CHUNK):
            yield chunk
        words, status = process.finished()
    if status:
        raise ClusterBrokenError(
            f"The database could not be dumped: its tool ended with status {status}.",
            seen=cluster.redacted(words),
            why="its last words tell; a database that stops meanwhile ends it, too.",
            then="look with `invoke logs --service=database`; no backup was kept.",
        )


def verify(backup: Backup) -> None:
    """Raise ClusterBrokenError where the file is not the one that was written."""
    digest = hashlib.sha256()
    try:
        with backup.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as problem:
        seen = problem.strerror or str(problem)
    else:
        if digest.hexdigest() == backup.sha256:
            return
        seen = f"SHA-256 {digest.hexdigest()} instead of {backup.sha256}"
    raise ClusterBrokenError(f"The backup {backup.path} is not what was written.", seen=seen,
                             why="it was changed, cut short or removed since.")  # fmt: skip


def restore(cluster: Cluster, backup: Backup, into: str) -> None:
    """Restore a backup into an empty database of the same server.

    Raises ClusterBrokenError where the file is not the one that was written, or the tool refuses it.
    """
    verify(backup)
    script = database.restore_script(cluster.settings.db)
    with (
        backup.path.open("rb") as stream,
        cluster.compose.piped(
            "exec", "-T", "database", "sh", "-c", script, "restore", into, deadline=DEADLINE, stdin=stream
        ) as process,
    ):
        assert process.stdout is not None  # noqa: S101 - it was asked for
        process.stdout.read()
        words, status = process.finished()
    if status:
        raise ClusterBrokenError(
            f"The backup could not be restored: the tool ended with status {status}.",
            seen=cluster.redacted(words),
            why="the backup is of another version of the database, or the disk is full.",
        )


def table_names(kind: Database, query: Query) -> list[str]:
    """The tables of the database that `query` asks."""
    return query(database.tables_query(kind))


def tables(kind: Database, query: Query, listed: Sequence[str] | None = None) -> dict[str, Table]:
    """Rows and checksum of every table of the database that `query` asks, or of those that are known to be there."""
    listed = table_names(kind, query) if listed is None else listed
    if not listed:
        return {}
    told = query("; ".join(database.checksum_query(kind, table) for table in listed))
    pairs = zip(listed, told[::2], told[1::2], strict=True)  # all in one call of the client: clients wait meanwhile
    return {table: Table(int(rows), checksum.partition("\t")[2]) for table, rows, checksum in pairs}


def prove(cluster: Cluster, backup: Backup, expected: Mapping[str, Table], scratch: str) -> Proof:
    """Restore a backup into a scratch database, and compare it with what was there when it was taken."""
    began = time.monotonic()
    with cluster.another_database(scratch) as name:
        restore(cluster, backup, name)
        found = tables(cluster.settings.db, lambda sql: cluster.query(sql, name))
    differing = [
        f"{table}: {_told(expected.get(table))} when it was taken, {_told(found.get(table))} restored"
        for table in sorted({*expected, *found})
        if expected.get(table) != found.get(table)
    ]
    return Proof(found, tuple(differing), time.monotonic() - began)


def _told(table: Table | None) -> str:
    return f"{table.rows} rows ({table.checksum})" if table else "no such table"
