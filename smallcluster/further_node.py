"""A further node beside those that serve: like the last one, but with an id of its own; it gets no traffic."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smallcluster import interrupts
from smallcluster.containers import ONE_OFF_LABEL, PROJECT_LABEL, SERVICE_LABEL, Container, container_from

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container as Handle

_PRIVATE = "_private"
"""How the name of the network ends that database and Redis are on (compose/cluster.yaml)."""


@dataclass(frozen=True)
class FurtherNode:
    """A node's container, and the way to it. Each look asks the engine again."""

    client: DockerClient
    handle: Handle

    @property
    def container(self) -> Container:
        """How the engine describes it now."""
        self.handle.reload()
        return container_from(self.handle.attrs)

    @property
    def url(self) -> str | None:
        """The base URL of its published port, or None."""
        return self.container.url

    def cut_off(self) -> None:
        """Take it off the network that database and Redis are on."""
        self._private.disconnect(self.handle)

    def reconnect(self) -> None:
        """Put it back on that network."""
        self._private.connect(self.handle)

    @property
    def _private(self) -> Any:  # noqa: ANN401 - the stubs know the network's class under another name
        project = self.handle.labels[PROJECT_LABEL]
        return self.client.networks.get(project + _PRIVATE)

    def said(self) -> str:
        """The end of what it printed."""
        raw: bytes = self.handle.logs(stdout=True, stderr=True, tail=20)
        return raw.decode(errors="replace")


@contextmanager
def started(
    client: DockerClient, model: Container, environment: Mapping[str, str], purpose: str
) -> Iterator[FurtherNode]:
    """A started container like `model`, with this environment on top of the model's; removed afterwards."""
    with interrupts.deferred():
        made = _made_like(client, model, environment, f"{purpose}-{secrets.token_hex(3)}")
    try:
        made.start()
        yield FurtherNode(client, made)
    finally:
        with interrupts.shielded():
            made.remove(force=True)


def _made_like(client: DockerClient, model: Container, environment: Mapping[str, str], name: str) -> Handle:
    attributes: dict[str, Any] = client.containers.get(model.id).attrs
    config = attributes["Config"]
    networks = sorted(model.networks, key=lambda network: network.endswith(_PRIVATE))  # it publishes on the first
    made = client.containers.create(
        model.image_id,
        config["Cmd"],
        entrypoint=config["Entrypoint"],
        user=config["User"],
        environment=_pairs(config["Env"]) | {"DW_SERVER_ID": name} | dict(environment),
        volumes=attributes["HostConfig"].get("Binds") or [],
        network=networks[0],
        ports={"8080/tcp": ("127.0.0.1", 0)},
        # of the project, so that a teardown takes it too; a one-off job, so that nobody takes it for a node
        labels={PROJECT_LABEL: config["Labels"][PROJECT_LABEL], SERVICE_LABEL: name, ONE_OFF_LABEL: "True"},
    )
    for network in networks[1:]:
        client.networks.get(network).connect(made)
    return made


def _pairs(lines: list[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines)


def answers_ready(url: str | None) -> int | None:
    """The status of its /api/ready, or None where nothing answers."""
    import requests

    try:
        return requests.get(f"{url}/api/ready", timeout=2).status_code if url else None
    except requests.RequestException:
        return None


def ready_after(node: FurtherNode, patience: float, pause: float) -> bool:
    """Wait until /api/ready is 200; False if that did not come within `patience` seconds."""
    deadline, url = time.monotonic() + patience, node.url
    while answers_ready(url) != 200:
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
