"""How long a node takes from its container's start until it is ready: a further node, beside those that serve."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smallcluster import further_node
from smallcluster.bench.addresses import OWN
from smallcluster.bench.figures import Spread
from smallcluster.containers import instant

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster

LOOK_SECONDS = 0.01
"""Between two looks at whether it is ready; the figure is that much too long at most."""
PATIENCE = 30.0
PURPOSE = "bench-node"


@dataclass(frozen=True)
class Starts:
    """Seconds from a container's start, as the engine dates it, to the first 200 of /api/ready."""

    seconds: Spread | None = None
    absent: str = ""
    """Why it can't be measured here, where it can't."""
    weak: tuple[str, ...] = ()


def measure(cluster: Cluster, addressed: str, runs: int, say: Callable[[str], None]) -> Starts:
    """Start a further node as often as asked, each time in a new container that is removed afterwards."""
    if addressed != OWN:
        return Starts(absent="the containers' own addresses are out of reach")
    took: list[float] = []
    for number in range(1, runs + 1):
        seconds = _ready_after(cluster)
        if seconds is None:
            return Starts(Spread.of(took), weak=(f"a further node was not ready within {PATIENCE:g} s",))
        took.append(seconds)
        say(f"start {number} of {runs}: ready after {seconds:.2f} s")
    return Starts(Spread.of(took))


def _ready_after(cluster: Cluster) -> float | None:
    with cluster.further_node({}, PURPOSE) as node:
        if not further_node.ready_after(node, PATIENCE, LOOK_SECONDS):
            return None
        now = time.time()
        return now - instant(node.container.started_at).timestamp()
