"""Supplies what a look found missing: engine, plugins, images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from smallcluster import engine, releases
from smallcluster.errors import MachineCannotError
from smallcluster.images import current, find, names
from smallcluster.recipes import BASE, IMAGES, RELEASES, SERVER
from smallcluster.setup import apt
from smallcluster.setup.build import build_base, build_image, lay_out_server
from smallcluster.setup.install import install, install_debootstrap, own_suites, start_engine
from smallcluster.setup.machine import Machine, program
from smallcluster.setup.plan import plan
from smallcluster.setup.pull import Puller
from smallcluster.setup.survey import Look
from smallcluster.setup.workshop import LOGS, Workshop

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image as EngineImage

KEPT_SERVERS = 6
"""How many node images stay: this one, and those of other checkouts or revisions."""
AT_ONCE = 2
"""Builds that run side by side; more gain nothing on two cores."""


def supply_engine(workshop: Workshop, seen: Look) -> set[str]:
    """Install and start what is missing; returns the names of the items supplied. Raises MachineCannotError."""
    todo = plan(seen.machine, seen.tools, seen.engine)
    if todo.packages:
        install(workshop, seen.machine, todo)
    if todo.start:
        start_engine(workshop)
    parts = {"engine": todo.start, "compose": not seen.tools.compose, "buildx": not seen.tools.buildx}
    return {name for name, supplied in parts.items() if supplied}


def supply_images(workshop: Workshop, machine: Machine, services: Sequence[str]) -> None:
    """Get images: pulled where a registry answers, else built here. Raises MachineCannotError."""
    with closing(engine.connect()) as client:
        puller = Puller(workshop.progress, client)
        rest = [service for service in services if not puller.get(names()[service].published)]
        if rest:
            architecture = engine.facts(client).architecture
            make_base = partial(_base, workshop, client, machine, puller, architecture)
            before = [find(client, names()[service].local) for service in rest]
            own = [service for service in rest if service not in RELEASES]
            if own:
                _build(workshop, own, make_base, architecture)
            _build_releases(workshop, [service for service in rest if service in RELEASES])
            remove_superseded(client, [image for image in before if image])
            remove_old_servers(client)


def remove_superseded(client: DockerClient, images: Sequence[EngineImage]) -> None:
    """Remove images that lost their tag to a newer build. The engine refuses, rightly, while one is in use."""
    from docker.errors import APIError

    for image in images:
        with suppress(APIError):
            image.reload()
            if not image.tags:
                client.images.remove(str(image.id))


def remove_old_servers(client: DockerClient) -> None:
    """Remove the oldest of the node images that other revisions left; the engine keeps what is in use."""
    from docker.errors import APIError

    for name in (SERVER, *RELEASES):
        repository = names()[name].local.rpartition(":")[0]
        newest_first = sorted(client.images.list(repository), key=lambda image: image.attrs["Created"], reverse=True)
        for image in newest_first[KEPT_SERVERS:]:
            with suppress(APIError):
                client.images.remove(str(image.id))


def _base(workshop: Workshop, client: DockerClient, machine: Machine, puller: Puller, architecture: str) -> str:
    """The image that the others are built on: found, pulled, or made here."""
    published, local = names()[BASE].published, names()[BASE].local
    if published and find(client, published):
        return published
    found = find(client, local)
    if found and current(BASE, found):
        return local
    if published and puller.get(published):
        return published
    mirror = apt.debian_mirror(apt.read_sources(), machine.distribution, own_suites(machine))
    _need_debootstrap(workshop, machine)
    build_base(workshop, architecture, mirror)
    return local


def _need_debootstrap(workshop: Workshop, machine: Machine) -> None:
    if machine.right == "none":
        raise MachineCannotError(
            "Images must be built here, and their base can be made by root only.",
            seen="not root, and sudo wants a password or is not there.",
            why="no image registry answers.",
            then="`sudo -v`, then invoke setup again; or run it as root",
        )
    if program("debootstrap") is None:
        install_debootstrap(workshop, machine)


def _build(workshop: Workshop, services: Sequence[str], base: Callable[[], str], architecture: str) -> None:
    """Build images side by side. The first failure, or an interruption, stops the others."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="node-", dir=LOGS) as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        context = Path(folder)
        try:
            laid_out = _submit_layout(pool, workshop, services, architecture, context)
            ref = base()
            laid_out.result()
            places = {service: context if service == SERVER else IMAGES for service in services}
            jobs = [pool.submit(build_image, workshop, name, ref, place) for name, place in places.items()]
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            workshop.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _build_releases(workshop: Workshop, wanted: Sequence[str]) -> None:
    """Build other releases of the server on top of the one that stands here, which is there by now."""
    LOGS.mkdir(parents=True, exist_ok=True)
    for release in wanted:
        with TemporaryDirectory(prefix="release-", dir=LOGS) as folder:
            releases.lay_out(release, Path(folder))
            build_image(workshop, release, names()[SERVER].local, Path(folder))


def _submit_layout(
    pool: ThreadPoolExecutor, workshop: Workshop, services: Sequence[str], architecture: str, context: Path
) -> Future[None]:
    """Gather the node image's parts while the base is being made; nothing where no node image is wanted."""
    if SERVER in services:
        return pool.submit(lay_out_server, workshop, architecture, context)
    return pool.submit(lambda: None)
