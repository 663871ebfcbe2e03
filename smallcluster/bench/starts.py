"""How long a node takes from its container's start until it is ready: a further node, beside those that serve."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smallcluster import interrupts
from smallcluster.bench.addresses import OWN
from smallcluster.bench.figures import Spread
from smallcluster.containers import ONE_OFF_LABEL, PROJECT_LABEL, SERVICE_LABEL, Container, container_from, instant

if TYPE_CHECKING:
    from docker.models.containers import Container as Handle

    from smallcluster.cluster import Cluster

LOOK_SECONDS = 0.01
"""Between two looks at whether it is ready; the figure is that much too long at most."""
PATIENCE = 30.0
SERVICE = "bench-node"


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
        with _another(cluster) as node:
            seconds = _ready_after(node)
        if seconds is None:
            return Starts(Spread.of(took), weak=(f"a further node was not ready within {PATIENCE:g} s",))
        took.append(seconds)
        say(f"start {number} of {runs}: ready after {seconds:.2f} s")
    return Starts(Spread.of(took))


@contextmanager
def _another(cluster: Cluster) -> Iterator[Handle]:
    """A started container like the last node's, under an id and a name of its own, publishing nothing."""
    model = cluster.containers()[cluster.settings.node_names[-1]]
    with interrupts.deferred():
        made = _made_like(cluster, model)
    try:
        made.start()
        yield made
    finally:
        with interrupts.shielded():
            made.remove(force=True)


def _made_like(cluster: Cluster, model: Container) -> Handle:
    config: dict[str, Any] = cluster.client.containers.get(model.id).attrs["Config"]
    made = cluster.client.containers.create(
        model.image_id,
        config["Cmd"],
        entrypoint=config["Entrypoint"],
        user=config["User"],
        environment=cluster.environment_of(model) | {"DW_SERVER_ID": SERVICE},
        network=model.networks[0],
        # of the project, so that a teardown takes it too; a one-off job, so that nobody takes it for a node
        labels={PROJECT_LABEL: cluster.settings.project, SERVICE_LABEL: SERVICE, ONE_OFF_LABEL: "True"},
    )
    for network in model.networks[1:]:
        cluster.client.networks.get(network).connect(made)
    return made


def _ready_after(node: Handle) -> float | None:
    import requests

    deadline = time.monotonic() + PATIENCE
    node.reload()
    found = container_from(node.attrs)
    while time.monotonic() < deadline:
        try:
            if requests.get(f"http://{found.address}:8080/api/ready", timeout=2).status_code == 200:
                return time.time() - instant(found.started_at).timestamp()
        except requests.RequestException:
            pass  # not there yet: what the wait is for
        time.sleep(LOOK_SECONDS)
    return None
