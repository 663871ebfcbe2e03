"""The least that the window can take: what can't be left out of it, each alone, on an idle copy, in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from smallcluster import further_node
from smallcluster.errors import ClusterBrokenError
from smallcluster.rehearsal import backup

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster
    from smallcluster.rehearsal.backup import Backup

READY_SECONDS = 60.0
PAUSE_SECONDS = 0.05
MOST = 1.5
"""How many times the floor a window may last."""


def measure(cluster: Cluster, copy: Backup, name: str, patience: float, say: Callable[[str], None]) -> dict[str, float]:
    """Seconds for the dump of an idle copy, the migrations on it, and one node's start to ready, by their names.

    `cluster` is the new one, `name` that of a scratch database, `patience` how long the bootstrap job may take.
    """
    with cluster.another_database(name) as scratch:
        say("restoring the backup into a database of its own")
        backup.restore(cluster, copy, scratch)
        return {
            "dump": _dump(cluster, scratch),
            "migrations": _migrations(cluster, scratch, patience),
            "node": _node(cluster, scratch),
        }


def _dump(cluster: Cluster, scratch: str) -> float:
    began = time.monotonic()
    for _ in backup.dumped(cluster, scratch):
        pass
    return time.monotonic() - began


def _migrations(cluster: Cluster, scratch: str, patience: float) -> float:
    model, began = cluster.containers()["bootstrap"], time.monotonic()
    with further_node.started(cluster.client, model, {"DB_DATABASE": scratch}, "floor-bootstrap") as job:
        status = job.handle.wait(timeout=patience)["StatusCode"]
        seconds = time.monotonic() - began
        if status:
            raise ClusterBrokenError(
                f"The bootstrap job ended with status {status} on a copy of the backup.",
                seen=cluster.redacted(job.said().strip()),
                why="it migrated the database itself: what a job needs besides is not in the copy.",
            )
    return seconds


def _node(cluster: Cluster, scratch: str) -> float:
    began = time.monotonic()
    with cluster.further_node({"DB_DATABASE": scratch}, "floor") as node:
        if not further_node.ready_after(node, READY_SECONDS, PAUSE_SECONDS):
            raise ClusterBrokenError(
                f"A node on a copy of the backup was not ready within {READY_SECONDS:g} s.",
                seen=cluster.redacted(node.said().strip()),
            )
        return time.monotonic() - began


def told(floor: dict[str, float], downtime: float | None) -> str:
    """The floor in a sentence, and how many times as long clients were not served."""
    parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in floor.items())
    least = sum(floor.values())
    whole = f"the least that it can take is {least:.1f} s ({parts})"
    return whole if downtime is None else f"{whole}; it took {downtime:.1f} s, {downtime / least:.2f} times that"
