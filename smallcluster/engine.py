"""The Docker engine: where it is, whether it answers, and the Compose command that goes with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from smallcluster.errors import MachineCannotError

if TYPE_CHECKING:
    from docker import DockerClient

USUAL_SOCKET = "/var/run/docker.sock"
PATIENCE = 5.0
"""Seconds that an engine gets for its first answer."""
READ_TIMEOUT = 60
"""Seconds of silence after which a later request to the engine fails."""


class Reach(Enum):
    """What came of connecting to the engine's socket."""

    ANSWERS = "answers"
    ABSENT = "absent"
    DENIED = "denied"
    REFUSED = "refused"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the engine listens, and who said so."""

    url: str
    named_by: str
    tls: Any = None
    context: str = "default"
    """The Docker context, which is also the name of the engine's own builder."""

    @property
    def socket(self) -> str | None:
        """The path of a unix socket, or None for an engine behind a network address."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else None

    @property
    def local(self) -> bool:
        """Whether the engine is on this machine, as far as its address tells."""
        return self.socket is not None or urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the engine says about itself."""

    version: str
    api: str
    architecture: str
    storage: str
    endpoint: str
    local: bool


def endpoint() -> Endpoint:
    """Where the docker command would go: DOCKER_HOST, else DOCKER_CONTEXT, else the current context."""
    if url := os.environ.get("DOCKER_HOST"):
        return Endpoint(url, "DOCKER_HOST")
    from docker import ContextAPI

    name = os.environ.get("DOCKER_CONTEXT")
    context = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
    if context is None:
        raise MachineCannotError(
            f"DOCKER_CONTEXT names {name!r}, which is no Docker context.",
            then="docker context ls, or unset DOCKER_CONTEXT",
        )
    if context.Name == "default":
        return Endpoint(f"unix://{USUAL_SOCKET}", "the default context")
    return Endpoint(str(context.Host), f"the docker context {context.Name!r}", context.TLSConfig, context.Name)


def reach(path: str) -> Reach:
    """Connect to a unix socket and say what came of it; whether an engine speaks there is not asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(path)
        except FileNotFoundError:
            return Reach.ABSENT
        except PermissionError:
            return Reach.DENIED
        except TimeoutError:
            return Reach.SILENT
        except OSError:
            return Reach.REFUSED
    return Reach.ANSWERS


def connect() -> DockerClient:
    """A client of the engine, which has just answered. Close it when done, or use it as a context manager.

    Raises MachineCannotError when there is no engine, when its socket is closed to this user, and when it
    does not answer within PATIENCE seconds.
    """
    found = endpoint()
    if found.socket and (came := reach(found.socket)) is not Reach.ANSWERS:
        raise _unreachable(found, came)
    return _client(found)


def refuse_remote() -> None:
    """Raise MachineCannotError where the engine is on another machine: a cluster there would be out of reach."""
    found = endpoint()
    if not found.local:
        raise MachineCannotError(
            f"The Docker engine at {found.url} (named by {found.named_by}) is not on this machine.",
            why="a cluster mounts files of this checkout and is asked at 127.0.0.1, so it needs an engine here.",
            then="unset DOCKER_HOST DOCKER_CONTEXT, or `docker context use default`, then repeat the command.",
        )


def facts(client: DockerClient) -> EngineFacts:
    """Ask the engine for its version and for what matters to a cluster."""
    found, version, info = endpoint(), client.version(), client.info()
    return EngineFacts(
        version=version["Version"],
        api=version["ApiVersion"],
        architecture=version["Arch"],
        storage=info.get("Driver", ""),
        endpoint=found.url,
        local=found.local,
    )


def compose_command() -> list[str]:
    """The command that starts Compose, version 2 or newer. Raises MachineCannotError where there is none."""
    return list(_compose_command())


@cache
def _compose_command() -> tuple[str, ...]:
    seen = []
    for command in (("docker", "compose"), ("docker-compose",)):
        version = tool_version([*command, "version", "--short"])
        if major(version) >= 2:
            return command
        if version:
            seen.append(f"`{' '.join(command)}` is {version}")
    raise MachineCannotError(
        "Docker Compose version 2 is missing.",
        seen="; ".join(seen) or "neither `docker compose` nor `docker-compose` exists here.",
        then="invoke setup",
    )


def tool_version(command: Sequence[str]) -> str:
    """The first line that a command prints, or nothing where it doesn't exist or fails."""
    if not shutil.which(command[0]):
        return ""
    with suppress(subprocess.TimeoutExpired):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        if ended.returncode == 0:
            return ended.stdout.strip().partition("\n")[0]
    return ""


def major(version: str) -> int:
    """The first number of a version such as `v2.26.1-4`; 0 where there is none."""
    digits = version.removeprefix("v").partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def _client(found: Endpoint) -> DockerClient:
    import docker
    import requests

    try:
        if found.named_by == "DOCKER_HOST":
            client = docker.from_env(timeout=int(PATIENCE), use_ssh_client=True)
        else:
            client = docker.DockerClient(base_url=found.url, tls=found.tls or False, timeout=int(PATIENCE))
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise _unreachable(found, Reach.SILENT, str(error)) from error
    client.api.timeout = READ_TIMEOUT
    return client


def _unreachable(found: Endpoint, came: Reach, detail: str = "") -> MachineCannotError:
    where = f"{found.url} (named by {found.named_by})"
    if came is Reach.DENIED:
        return MachineCannotError(
            f"This user may not use the Docker engine at {where}.",
            seen="permission denied on its socket.",
            why="only root and the members of the group docker may.",
            then='sudo usermod -aG docker "$USER", then log in again (or run this as root)',
        )
    seen = {
        Reach.ABSENT: "no such socket.",
        Reach.REFUSED: "a socket that nothing listens on.",
        Reach.SILENT: detail or f"no answer within {PATIENCE:.0f} s.",
    }[came]
    why = {
        Reach.ABSENT: "no engine is installed, or it has never been started.",
        Reach.REFUSED: "the engine was stopped or killed.",
        Reach.SILENT: "the engine hangs, or something else listens there.",
    }[came]
    then = "invoke setup" if found.local else f"start the engine there, or change {found.named_by}"
    return MachineCannotError(f"No Docker engine answers at {where}.", seen=seen, why=why, then=then)


def trouble(failure: Exception) -> MachineCannotError | None:
    """What a failed talk with the engine means to a person; None where the failure is something else."""
    from docker.errors import DockerException
    from requests import RequestException

    if not isinstance(failure, DockerException | RequestException):
        return None
    return MachineCannotError(
        "The Docker engine failed, or stopped answering, in the middle of the work.",
        seen=f"{type(failure).__name__}: {failure}",
        why="it was stopped or restarted, or is overloaded.",
        then="`invoke doctor`; when it answers again, `invoke down` takes away what is left.",
    )
