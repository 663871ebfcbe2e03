"""What containers use, as the engine's statistics say: memory by named figures, processor time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import DockerClient

    from smallcluster.cluster import Cluster

MEMORY_SOURCE = "the engine's statistics of the container: memory usage − inactive file cache, as `docker stats` shows"
ANONYMOUS_SOURCE = "of which anonymous: the process's own pages, without files and socket buffers"


@dataclass(frozen=True)
class Memory:
    """One look at a container's memory, in MB (a million bytes)."""

    used: float
    """Memory usage minus inactive file cache: what `docker stats` shows."""
    anonymous: float
    """The process's own pages (anon, or total_rss under cgroup v1)."""


def memory_of(client: DockerClient, container_id: str) -> Memory:
    """Ask the engine."""
    return memory_from(_stats(client, container_id))


def memory_from(stats: Mapping[str, Any]) -> Memory:
    """Read the engine's answer, of whichever cgroup version."""
    usage, detail = stats["memory_stats"]["usage"], stats["memory_stats"]["stats"]
    inactive = detail["total_inactive_file"] if "total_inactive_file" in detail else detail["inactive_file"]
    anonymous = detail["total_rss"] if "total_rss" in detail else detail["anon"]
    return Memory(used=round((usage - inactive) / 1e6, 1), anonymous=round(anonymous / 1e6, 1))


@dataclass
class Cores:
    """Processor cores in use over a stretch, by container; `client` is this process."""

    used: dict[str, float] = field(default_factory=dict)


@contextmanager
def cores_used(cluster: Cluster) -> Iterator[Cores]:
    """Fill in, at the end, how many cores each running container and this process used while the block ran."""
    found, cores = Cores(), cluster.containers()
    running = {name: one.id for name, one in cores.items() if one.running}
    before, began = _processor_seconds(cluster.client, running), time.monotonic()
    yield found
    after, took = _processor_seconds(cluster.client, running), time.monotonic() - began
    found.used = {name: round((after[name] - before[name]) / took, 2) for name in after}


def _processor_seconds(client: DockerClient, containers: Mapping[str, str]) -> dict[str, float]:
    seconds = {
        name: _stats(client, one)["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9 for name, one in containers.items()
    }
    return seconds | {"client": time.process_time()}


def _stats(client: DockerClient, container_id: str) -> dict[str, Any]:
    """One look; without `one_shot` the engine takes a second look a second later, for percentages."""
    told: dict[str, Any] = client.api.stats(container_id, stream=False, one_shot=True)
    return told
