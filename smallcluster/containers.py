"""What the engine says about a project's containers, as frozen facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docker import DockerClient

BALANCER = "balancer"
"""The balancer's service name, and the name of the route through it."""

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
ONE_OFF_LABEL = "com.docker.compose.oneoff"


@dataclass(frozen=True, kw_only=True)
class Container:
    """One container as the engine describes it. Times are the engine's ISO-8601 strings."""

    service: str
    name: str
    id: str
    status: str
    exit_code: int = 0
    health: str | None = None
    health_said: str = ""
    """What its health check printed last, where that makes it unhealthy."""
    restarts: int = 0
    oom_killed: bool = False
    started_at: str = ""
    finished_at: str = ""
    image: str = ""
    image_id: str = ""
    command: tuple[str, ...] = ()
    network_mode: str = ""
    networks: tuple[str, ...] = ()
    address: str = ""
    """Its own address on the first of its networks: reachable on the engine's own machine only."""
    published: tuple[str, ...] = field(default=())
    """Host addresses that lead to the container, as `127.0.0.1:49153->8080/tcp`."""
    bindings: tuple[str, ...] = field(default=())
    """Ports that the container asks to have published, as `8080/tcp`, in use or not."""

    @property
    def running(self) -> bool:
        """Whether its process runs now."""
        return self.status == "running"

    @property
    def failed(self) -> bool:
        """Whether it ended although it should not have, or ended with an error."""
        return self.status == "dead" or (self.status == "exited" and self.exit_code != 0) or self.oom_killed

    @property
    def described(self) -> str:
        """Its state in a few words, for messages."""
        words = [self.status]
        if self.status == "exited":
            words.append(f"with status {self.exit_code}")
        if self.health and self.running:
            words.append(f"({self.health})")
        if self.oom_killed:
            words.append("(killed for memory)")
        if self.restarts:
            words.append(f"after {self.restarts} restarts")
        return " ".join(words)

    @property
    def url(self) -> str | None:
        """Base URL of its HTTP port as published now, or None."""
        for address in self.published:
            host, _, target = address.partition("->")
            if target == "8080/tcp" and self.running:
                return f"http://{host}"
        return None


def read_containers(client: DockerClient, project: str, service: str = "") -> dict[str, Container]:
    """Read a project's containers by service name, or those of one service; one-off jobs (`compose run`) are left out.

    A service that runs more than once has its further containers under `name#2`, `name#3`.
    """
    labels = [f"{PROJECT_LABEL}={project}", f"{ONE_OFF_LABEL}=False"]
    labels += [f"{SERVICE_LABEL}={service}"] if service else []
    found = client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
    by_service: dict[str, Container] = {}
    for container in sorted((container_from(handle.attrs) for handle in found), key=lambda one: one.name):
        by_service[_free_key(container.service, by_service)] = container
    return by_service


def _free_key(service: str, taken: Mapping[str, Container]) -> str:
    keys = chain([service], (f"{service}#{number}" for number in count(2)))
    return next(key for key in keys if key not in taken)


def container_from(attributes: Mapping[str, Any]) -> Container:
    """Turn the engine's inspect answer into a Container."""
    state, config, host = attributes["State"], attributes["Config"], attributes["HostConfig"]
    network, health = attributes["NetworkSettings"], state.get("Health") or {}
    networks = sorted((network.get("Networks") or {}).items())
    return Container(
        service=config["Labels"][SERVICE_LABEL],
        name=attributes["Name"].lstrip("/"),
        id=attributes["Id"],
        status=state["Status"],
        exit_code=state["ExitCode"],
        health=health.get("Status"),
        health_said=_last_words(health) if health.get("Status") == "unhealthy" else "",
        restarts=attributes.get("RestartCount", 0),
        oom_killed=bool(state.get("OOMKilled")),
        started_at=state["StartedAt"],
        finished_at=state["FinishedAt"],
        image=config["Image"],
        image_id=attributes["Image"],
        command=(attributes["Path"], *attributes["Args"]),
        network_mode=host["NetworkMode"],
        networks=tuple(name for name, _ in networks),
        address=next((one["IPAddress"] for _, one in networks), ""),
        published=tuple(_published(network.get("Ports") or {})),
        bindings=tuple(sorted(host.get("PortBindings") or {})),
    )


def _last_words(health: Mapping[str, Any]) -> str:
    looks = health.get("Log") or [{}]
    return str(looks[-1].get("Output", "")).strip()


def instant(engine_time: str) -> datetime:
    """The engine's time as a datetime; its text has a varying number of digits and can't be compared."""
    return datetime.fromisoformat(engine_time)


def _published(ports: Mapping[str, Any]) -> list[str]:
    return [
        f"{binding['HostIp']}:{binding['HostPort']}->{target}"
        for target, bindings in sorted(ports.items())
        for binding in bindings or ()
    ]
