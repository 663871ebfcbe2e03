"""The database's own client, started before the window and asked within it: to start one costs a tenth of a second."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smallcluster import database
from smallcluster.errors import ClusterBrokenError

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster
    from smallcluster.compose import Piped

DEADLINE = 7200.0
"""Seconds after which a client is ended, whatever it does."""


@dataclass
class Session:
    """One client, connected to the application's database."""

    cluster: Cluster
    client: Piped

    def query(self, sql: str) -> list[str]:
        """Run SQL; a line per row, tabs between columns. Raises ClusterBrokenError if it is refused, or dies."""
        assert self.client.stdin is not None  # noqa: S101 - it was asked for below
        assert self.client.stdout is not None  # noqa: S101 - as ever
        end = f"end-{secrets.token_hex(6)}"
        with suppress(BrokenPipeError):  # it has ended: what it said comes below
            self.client.stdin.write(f"{sql};\nselect '{end}';\n".encode())
            self.client.stdin.flush()
        rows: list[str] = []
        for line in self.client.stdout:
            row = line.decode(errors="replace").rstrip("\n")
            if row == end:
                return [one for one in rows if one]
            rows.append(row)
        words, status = self.client.finished()
        raise ClusterBrokenError(
            "The database refused a statement, or stopped.",
            seen=self.cluster.redacted(words) or f"its client ended with status {status}",
            then="look with `invoke logs --service=database`.",
        )


@contextmanager
def opened(cluster: Cluster) -> Iterator[Session]:
    """A session with the application's database, for as long as the block runs."""
    command = ("exec", "-T", "database", *database.session_command(cluster.settings.db))
    with cluster.compose.piped(*command, deadline=DEADLINE, stdin=subprocess.PIPE) as client:
        assert client.stdin is not None  # noqa: S101 - it was asked for
        try:
            yield Session(cluster, client)
        finally:
            with suppress(BrokenPipeError):
                client.stdin.close()
