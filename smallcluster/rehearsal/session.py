"""The database's own client, started before the window and asked within it: to start one costs a tenth of a second."""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smallcluster import database
from smallcluster.errors import ClusterBrokenError
from smallcluster.rehearsal import backup

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster
    from smallcluster.compose import Piped

ANSWER_SECONDS = backup.DEADLINE
"""How long one answer may take: checksums of every table are asked for, beside a dump that may take as long."""
_CHUNK = 1 << 16


@dataclass
class Session:
    """One client, connected to the application's database."""

    cluster: Cluster
    client: Piped
    patience: float = ANSWER_SECONDS

    def query(self, sql: str) -> list[str]:
        """Run SQL; a line per row, tabs between columns. Raises ClusterBrokenError if refused or not answered."""
        assert self.client.stdin is not None  # noqa: S101 - it was asked for below
        end = f"end-{secrets.token_hex(6)}"
        with suppress(BrokenPipeError):  # it has ended: what it said comes below
            self.client.stdin.write(f"{sql};\nselect '{end}';\n".encode())
            self.client.stdin.flush()
        told = self._told_until(f"{end}\n".encode())
        return [row for row in told.decode(errors="replace").split("\n") if row and row != end]

    def _told_until(self, mark: bytes) -> bytes:
        assert self.client.stdout is not None  # noqa: S101 - as ever
        told, until = b"", time.monotonic() + self.patience
        while not told.endswith(mark):
            if not select.select([self.client.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                self.client.kill()  # what it says later answers nothing any more
                raise ClusterBrokenError(
                    f"The database did not answer within {self.patience:g} s.",
                    why="it hangs, or waits for a lock that somebody holds.",
                    then="look with `invoke logs --service=database`.",
                )
            part = os.read(self.client.stdout.fileno(), _CHUNK)
            if not part:
                raise self._ended()
            told += part
        return told

    def _ended(self) -> ClusterBrokenError:
        words, status = self.client.finished()
        return ClusterBrokenError(
            "The database refused a statement, or stopped.",
            seen=self.cluster.redacted(words) or f"its client ended with status {status}",
            then="look with `invoke logs --service=database`.",
        )


@contextmanager
def opened(cluster: Cluster, lasts: float) -> Iterator[Session]:
    """A session with the application's database, for as long as the block runs, but no more than so many seconds."""
    command = ("exec", "-T", "database", *database.session_command(cluster.settings.db))
    with cluster.compose.piped(*command, deadline=lasts, stdin=subprocess.PIPE) as client:
        assert client.stdin is not None  # noqa: S101 - it was asked for
        try:
            yield Session(cluster, client)
        finally:
            with suppress(BrokenPipeError):
                client.stdin.close()
