"""Is a node ready only while its database is there and migrated: seen on a further node, which serves nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from smallcluster.checks.base import Live, Need, check
from smallcluster.further_node import FurtherNode, answers_ready, ready_after
from smallcluster.verdicts import Judgement, broken, holds, unknown

START_SECONDS = 30.0
"""How long a further node may take to be ready, or to answer at all."""
NOTICE_SECONDS = 10.0
"""How long a node that has lost its database may still say that it is ready."""
LOOK_SECONDS = 0.1
UNMIGRATED = "smoke_unmigrated"
"""The empty database's name: always this one, so that the next smoke drops what a killed one has left."""


@dataclass(frozen=True)
class Loss:
    """A node that was ready, was cut off from its database, and had it back. Seconds are from the cut and the return.

    None where it did not come to that.
    """

    was_ready: bool
    noticed: float | None = None
    status: int | None = None
    """What /api/ready answered then."""
    recovered: float | None = None
    same_process: bool = False
    said: str = ""
    """The end of its log, where it did not go well."""


@dataclass(frozen=True)
class Unmigrated:
    """A node over an empty database: what /api/ready answered first, and whether the node ended instead."""

    status: int | None
    ended: bool
    said: str = ""


def loss(live: Live) -> Loss:
    """Start a further node, cut it off from its database, and give it back."""
    with live.cluster.further_node({}, "smoke-cut-off") as node:
        if not ready_after(node, START_SECONDS, LOOK_SECONDS):
            return Loss(was_ready=False, said=node.said())
        started = node.container.started_at
        node.cut_off()
        noticed, status = _when(node, lambda status: status not in (None, 200), NOTICE_SECONDS)
        node.reconnect()
        recovered, _ = _when(node, lambda status: status == 200, START_SECONDS)
        after = node.container
        same = after.running and after.started_at == started
        said = "" if noticed is not None and recovered is not None and same else node.said()
        return Loss(True, noticed, status, recovered, same, said)


def _when(node: FurtherNode, there: Callable[[int | None], bool], patience: float) -> tuple[float | None, int | None]:
    """After how many seconds /api/ready answered so, and with what; None where it did not within `patience`."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < patience:
        status = answers_ready(node.url)
        if there(status):
            return passed, status
        time.sleep(LOOK_SECONDS)
    return None, status


def unmigrated(live: Live) -> Unmigrated:
    """Start a further node over a database that no bootstrap has touched."""
    with (
        live.cluster.another_database(UNMIGRATED) as name,
        live.cluster.further_node({"DB_DATABASE": name}, "smoke-unmigrated") as node,
    ):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if (status := answers_ready(node.url)) is not None:
                return Unmigrated(status, ended=False, said=node.said())
            if not node.container.running:
                return Unmigrated(None, ended=True, said=node.said())
            time.sleep(LOOK_SECONDS)
        return Unmigrated(None, ended=False, said=node.said())


@check("readiness-follows-the-database", "upgrades.readiness", probe=loss, needs=[Need.ENGINE, Need.DATABASE])
def readiness_follows_the_database(seen: Loss) -> Judgement:
    """A node that loses its database says that it is not ready, and is ready again by itself when it is back"""
    if not seen.was_ready:
        return unknown(seen.said, cause="a further node was not ready, so nothing could be taken from it.")
    evidence = [
        f"cut off from its database: {_told(seen.noticed, f'/api/ready {seen.status}', NOTICE_SECONDS)}",
        f"with the database back: {_told(seen.recovered, '/api/ready 200', START_SECONDS)}",
    ]
    if seen.noticed is None or seen.recovered is None or not seen.same_process:
        return broken(
            *evidence,
            *([] if seen.same_process else ["its process ended"]),
            seen.said,
            expected="another status than 200 without the database, and 200 again with it, from the same process",
            cause="a node that does not ask its database calls itself ready."
            if seen.noticed is None
            else "the node holds on to connections that are dead, or gives up where it should try again.",
            then="invoke logs",
        )
    return holds(*evidence)


def _told(seconds: float | None, what: str, patience: float) -> str:
    return f"no {what} within {patience:g} s" if seconds is None else f"{what} after {seconds:.1f} s"


@check("unmigrated-node-is-not-ready", "upgrades.readiness", probe=unmigrated, needs=[Need.ENGINE, Need.DATABASE])
def unmigrated_node_is_not_ready(seen: Unmigrated) -> Judgement:
    """A node over a database that no bootstrap has touched does not say that it is ready"""
    if seen.ended:
        return holds("the node ended by itself", seen.said)
    if seen.status is None:
        return unknown(seen.said, cause="the node neither answered nor ended.")
    evidence = f"over an empty database: /api/ready {seen.status}"
    if seen.status == 200:
        return broken(
            evidence,
            expected="another status than 200 until the migrations ran",
            cause="the node does not look whether its tables are there.",
            then="invoke logs",
        )
    return holds(evidence)
