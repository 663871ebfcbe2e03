"""Where the bench sends its requests: to the containers themselves where this machine reaches them."""

from __future__ import annotations

import socket

from smallcluster.cluster import Cluster
from smallcluster.containers import BALANCER

OWN = "the containers' own addresses, past the engine's port proxy"
PUBLISHED = "the published ports: the containers' own addresses are out of reach, so the engine's proxy is measured too"
_PORT = 8080
_CONNECT_SECONDS = 1.0


def addresses(cluster: Cluster) -> tuple[dict[str, str], str]:
    """Base URLs by route, and which kind of address they are.

    A published port leads through a proxy process of the engine, which costs a part of the cores that are measured
    and ends for good where its open files run out: a few thousand connections. The containers' own addresses are
    reachable on the engine's own Linux machine.
    """
    found = cluster.containers()
    own = {name: found[name].address for name in (BALANCER, *cluster.settings.node_names)}
    if all(map(_answers, own.values())):
        return {name: f"http://{address}:{_PORT}" for name, address in own.items()}, OWN
    return cluster.routes(), PUBLISHED


def _answers(address: str) -> bool:
    try:
        socket.create_connection((address, _PORT), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
