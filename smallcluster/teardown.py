"""Takes a project away by its label, with or without its rendered files, and names what it could not remove."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from smallcluster import interrupts
from smallcluster.containers import BALANCER, PROJECT_LABEL, SERVICE_LABEL
from smallcluster.errors import InterruptedRunError, MachineCannotError
from smallcluster.progress import Progress, Step

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container as Handle

_FRONT_FIRST = ((BALANCER, "scheduler"), ("server-a", "server-b", "server-c", "bootstrap"))
"""Who goes before whom, so that no node logs a lost database and no balancer a lost node."""

GRACE = {"database": 10}
"""Seconds after the stop signal, by service: a database may have much to flush."""
SHORT_GRACE = 3
"""Seconds for everybody else. A program that has only just started may not hear the signal yet."""


def take_down(client: DockerClient, project: str, progress: Progress) -> bool:
    """As `remove_project`, but a signal waits until it is done; a second one ends it, and what is left is named.

    Raises Interruption after the teardown where a signal came.
    """
    try:
        with interrupts.shielded():
            return remove_project(client, project, progress)
    except interrupts.Interruption as stop:
        left = everything(client, project)
        if not left:
            raise
        problem = InterruptedRunError(
            f"{stop.problem.what} The teardown was cut short.",
            seen=f"left: {', '.join(left)}",
            then=f"invoke down --db={project.rpartition('-')[2]}",
        )
        raise interrupts.Interruption(problem) from None


def remove_project(client: DockerClient, project: str, progress: Progress) -> bool:
    """Stop and remove a project's containers, networks and volumes; tells whether there was anything.

    Raises MachineCannotError that names what is left where the engine would not remove it.
    """
    if not everything(client, project):
        return False
    with progress.step(f"down ({project})") as step:
        began = time.monotonic()
        containers = _containers(client, project)
        problems = _remove_containers(containers, step)
        problems += _remove_each((*_networks(client, project), *volumes_of(client, project)))
        left = everything(client, project)
        if left:
            raise MachineCannotError(
                f"Not everything of {project} could be removed.",
                seen="\n    ".join([f"left: {', '.join(left)}", *problems]),
                why="another process holds it, or the engine is overloaded.",
                then=f"repeat `invoke down --db={project.rpartition('-')[2]}`; `docker ps -a` shows the rest.",
            )
        step.done(f"{len(containers)} containers, networks and volume gone in {time.monotonic() - began:.1f} s")
    return True


def everything(client: DockerClient, project: str) -> list[str]:
    """Everything that the engine has of a project, by kind and name."""
    found = (*_containers(client, project), *_networks(client, project), *volumes_of(client, project))
    return [f"{type(thing).__name__.lower()} {thing.name}" for thing in found]


def _remove_containers(left: list[Handle], step: Step) -> list[str]:
    """Stop group after group; a group that has stopped is removed while the next one stops."""
    problems: list[str | None] = []
    with ThreadPoolExecutor(max_workers=max(len(left), 1)) as pool:
        removals = []
        for group in _groups(left):
            step.say("stopping " + ", ".join(sorted(_service(container) for container in group)))
            with interrupts.deferred():  # threads are born here
                stops = [pool.submit(_stop, container) for container in group]
            problems += [stop.result() for stop in stops]
            with interrupts.deferred():
                removals += [pool.submit(_remove, container) for container in group]
        problems += [removal.result() for removal in removals]
    return [problem for problem in problems if problem]


def _groups(left: list[Handle]) -> Iterator[list[Handle]]:
    """The containers in the order in which they go; the ones that have no place in it last."""
    placed = {service for services in _FRONT_FIRST for service in services}
    for services in (*_FRONT_FIRST, None):
        group = [one for one in left if (_service(one) in services if services else _service(one) not in placed)]
        if group:
            yield group


def _service(container: Handle) -> str:
    return str(container.labels.get(SERVICE_LABEL))


def _stop(container: Handle) -> str | None:
    """Stop a container (one that is gone is fine); returns what the engine said against it."""
    return _tried(container, lambda: container.stop(timeout=GRACE.get(_service(container), SHORT_GRACE)))


def _remove(container: Handle) -> str | None:
    """Remove a container (one that is gone is fine); returns what the engine said against it."""
    return _tried(container, lambda: container.remove(v=True, force=True))


def _tried(container: Handle, act: Callable[[], None]) -> str | None:
    from docker.errors import APIError, NotFound

    try:
        act()
    except NotFound:
        return None
    except APIError as problem:
        return f"{container.name}: {problem.explanation}"
    return None


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


def _containers(client: DockerClient, project: str) -> list[Handle]:
    return list(client.containers.list(all=True, filters=_mine(project), ignore_removed=True))


def _networks(client: DockerClient, project: str) -> list[Any]:
    return list(client.networks.list(filters=_mine(project)))


def volumes_of(client: DockerClient, project: str) -> list[Any]:
    """The project's volumes: what keeps a cluster's data when its containers are gone."""
    return list(client.volumes.list(filters=_mine(project)))


def _mine(project: str) -> dict[str, str | list[str] | bool]:
    return {"label": f"{PROJECT_LABEL}={project}"}
