"""Takes a project away by its label, with or without its rendered files, and names what it could not remove."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from smallcluster.containers import PROJECT_LABEL, SERVICE_LABEL
from smallcluster.errors import MachineCannotError
from smallcluster.progress import Progress, Step

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container as Handle

_FRONT_FIRST = (("balancer", "scheduler"), ("server-a", "server-b", "server-c", "bootstrap"))
"""Who goes before whom, so that no node logs a lost database and no balancer a lost node."""

GRACE = 10
"""Seconds a container gets after its stop signal; all of them need far less."""


def remove_project(client: DockerClient, project: str, progress: Progress) -> bool:
    """Stop and remove a project's containers, networks and volumes; tells whether there was anything.

    Raises MachineCannotError that names what is left where the engine would not remove it.
    """
    if not _everything(client, project):
        return False
    with progress.step(f"down ({project})") as step:
        began = time.monotonic()
        count = _remove_containers(client, project, step)
        problems = _remove_each((*_networks(client, project), *_volumes(client, project)))
        left = _everything(client, project)
        if left:
            raise MachineCannotError(
                f"Not everything of {project} could be removed.",
                seen="\n".join([*(f"left: {thing}" for thing in left), *problems]),
                why="another process holds it, or the engine is overloaded.",
                then="repeat `invoke down`; `docker ps -a` and `docker network ls` show the rest.",
            )
        step.done(f"{count} containers, their networks and volumes gone in {time.monotonic() - began:.1f} s")
    return True


def _remove_containers(client: DockerClient, project: str, step: Step) -> int:
    left = _containers(client, project)
    count = len(left)
    for services in _FRONT_FIRST:
        group = [container for container in left if container.labels.get(SERVICE_LABEL) in services]
        _stop(group, step)
        left = [container for container in left if container not in group]
    _stop(left, step)
    return count


def _stop(group: Sequence[Handle], step: Step) -> None:
    if not group:
        return
    step.say("stopping " + ", ".join(sorted(str(container.name) for container in group)))
    with ThreadPoolExecutor(max_workers=len(group)) as pool:
        list(pool.map(_stop_and_remove, group))


def _stop_and_remove(container: Handle) -> None:
    """Stop one container and remove it; one that is gone already is what was wanted."""
    from docker.errors import APIError, NotFound

    try:
        container.stop(timeout=GRACE)
        container.remove(v=True, force=True)
    except NotFound:
        return
    except APIError as problem:
        if problem.status_code != 409:  # its removal is already in progress
            raise


def _remove_each(things: Iterable[Any]) -> list[str]:
    from docker.errors import APIError, NotFound

    problems = []
    for thing in things:
        try:
            thing.remove()
        except NotFound:
            continue
        except APIError as problem:
            problems.append(f"{thing.name}: {problem.explanation}")
    return problems


def _everything(client: DockerClient, project: str) -> list[str]:
    found = (*_containers(client, project), *_networks(client, project), *_volumes(client, project))
    return [f"{type(thing).__name__.lower()} {thing.name}" for thing in found]


def _containers(client: DockerClient, project: str) -> list[Handle]:
    return list(client.containers.list(all=True, filters=_mine(project), ignore_removed=True))


def _networks(client: DockerClient, project: str) -> list[Any]:
    return list(client.networks.list(filters=_mine(project)))


def _volumes(client: DockerClient, project: str) -> list[Any]:
    return list(client.volumes.list(filters=_mine(project)))


def _mine(project: str) -> dict[str, str | list[str] | bool]:
    return {"label": f"{PROJECT_LABEL}={project}"}
