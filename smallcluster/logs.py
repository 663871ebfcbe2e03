"""Prints what the containers printed, one prefix per service, secrets hidden."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from smallcluster import engine, interrupts
from smallcluster.containers import Container, read_containers
from smallcluster.errors import AskedWronglyError, MachineCannotError
from smallcluster.interrupts import Interruption
from smallcluster.redaction import redact
from smallcluster.settings import Settings

if TYPE_CHECKING:
    from docker import DockerClient


def print_logs(client: DockerClient, settings: Settings, services: Sequence[str], *, follow: bool, out: TextIO) -> None:
    """Print the logs of the named services (none: all). With `follow`, go on until interrupted.

    Raises AskedWronglyError for a service that the cluster doesn't have, MachineCannotError where nothing is there.
    """
    chosen = _chosen(read_containers(client, settings.project), services, settings)
    width = max(len(name) for name in chosen)
    lines = _followed(client, chosen) if follow else _all(client, chosen)
    try:
        for service, line in lines:
            out.write(f"{service:<{width}} | {redact(line, settings.secret_values)}\n")
            out.flush()
    except Interruption:
        if not follow:
            raise


def _chosen(there: Mapping[str, Container], services: Sequence[str], settings: Settings) -> dict[str, Container]:
    if not there:
        raise MachineCannotError(
            f"Nothing of {settings.project} is there, so nothing was logged.",
            then=f"`invoke up --db={settings.db.value}`; earlier runs left theirs in {settings.state}/evidence.",
        )
    for name in services:
        if name not in there:
            raise AskedWronglyError(
                f"--service={name} is no service of this cluster.",
                then=f"choose from {', '.join(sorted(there))}.",
            )
    return {name: there[name] for name in (services or sorted(there))}


def _all(client: DockerClient, chosen: Mapping[str, Container]) -> Iterator[tuple[str, str]]:
    for service, container in chosen.items():
        for line in _lines(client.containers.get(container.id).logs(stdout=True, stderr=True)):
            yield service, line


def _lines(raw: bytes) -> list[str]:
    return raw.decode(errors="replace").splitlines()


def _followed(client: DockerClient, chosen: Mapping[str, Container]) -> Iterator[tuple[str, str]]:
    """Yield lines of all services as they come, until every stream has ended."""
    arrived: queue.Queue[tuple[str, str | None]] = queue.Queue()
    for service, container in chosen.items():
        stream = client.containers.get(container.id).logs(stdout=True, stderr=True, stream=True, follow=True)
        with interrupts.deferred():
            threading.Thread(target=_pump, args=(service, stream, arrived), daemon=True).start()
    open_streams = len(chosen)
    while open_streams:
        service, line = arrived.get()
        if line is None:
            open_streams -= 1
        else:
            yield service, line


def _pump(service: str, stream: Iterable[bytes], arrived: queue.Queue[tuple[str, str | None]]) -> None:
    """Cut a stream of chunks into lines; None marks its end, which is told where it is not the container's own."""
    rest = b""
    try:
        for chunk in stream:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                arrived.put((service, line.decode(errors="replace")))
    except Exception as failure:
        if engine.trouble(failure) is None:
            raise
        arrived.put((service, f"(the engine ended this log: {failure})"))
    finally:
        if rest:
            arrived.put((service, rest.decode(errors="replace")))
        arrived.put((service, None))
