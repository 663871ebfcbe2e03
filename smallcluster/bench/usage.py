"""What containers use, as the engine's statistics say: memory by named figures, processor time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallcluster.containers import instant

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
    """Processor cores in use over a stretch, by container; `client` is this process, the machine is all together."""

    used: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    """How long the stretch was."""

    def milliseconds_each(self, pieces: int) -> dict[str, float]:
        """Processor time per piece of work, of which so many were done: it varies less with a busy machine."""
        return {name: round(used * self.seconds * 1000 / pieces, 2) for name, used in self.used.items() if pieces}


@dataclass(frozen=True)
class Moment:
    """Processor seconds used until then: the engine's looks at containers are not all of the same moment."""

    at: float
    used: float


@contextmanager
def cores_used(cluster: Cluster) -> Iterator[Cores]:
    """Fill in, at the end, how many cores each running container and this process used while the block ran."""
    found = Cores()
    running = {name: one.id for name, one in cluster.containers().items() if one.running}
    before, began = _moments(cluster.client, running), time.monotonic()
    yield found
    found.seconds = time.monotonic() - began
    found.used = cores_between(before, _moments(cluster.client, running))


def cores_between(before: Mapping[str, Moment], after: Mapping[str, Moment]) -> dict[str, float]:
    """Cores in use between two looks, by name."""
    return {
        name: round((then.used - before[name].used) / (then.at - before[name].at), 4) for name, then in after.items()
    }


def _moments(client: DockerClient, containers: Mapping[str, str]) -> dict[str, Moment]:
    with ThreadPoolExecutor(max_workers=len(containers)) as pool:
        told = dict(zip(containers, pool.map(partial(_stats, client), containers.values()), strict=True))
    moments = {name: _moment(stats) for name, stats in told.items()}
    moments["client"] = Moment(time.monotonic(), time.process_time())
    stat = Path("/proc/stat")
    if stat.exists():
        moments["the whole machine"] = Moment(time.monotonic(), machine_seconds(stat.read_text()))
    return moments


def _moment(stats: Mapping[str, Any]) -> Moment:
    return Moment(instant(stats["read"]).timestamp(), stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9)


def machine_seconds(stat: str) -> float:
    """Processor seconds that all cores were busy since boot, from /proc/stat."""
    user, nice, system, _, _, *interrupts = map(int, stat.split("\n", 1)[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _stats(client: DockerClient, container_id: str) -> dict[str, Any]:
    """One look; without `one_shot` the engine takes a second look a second later, for percentages."""
    told: dict[str, Any] = client.api.stats(container_id, stream=False, one_shot=True)
    return told
