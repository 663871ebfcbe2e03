"""What the words of a verb lead to: settings, images, the cluster that is meant; and where the answer goes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from smallcluster import engine, interrupts
from smallcluster.containers import Container, read_containers
from smallcluster.progress import Progress
from smallcluster.settings import Database, Settings, database_named, load, project_name

if TYPE_CHECKING:
    from docker import DockerClient

    from smallcluster.cluster import Cluster
    from smallcluster.images import Image


def progress() -> Progress:
    """Progress for this verb; GitHub's runners say in this variable that they read the log."""
    return Progress(workflow_log=os.environ.get("GITHUB_ACTIONS") == "true")


def settings(db: str, nodes: int, shown: Progress, *, published: bool = False) -> Settings:
    """The settings of a database's cluster; says first what was overridden."""
    loaded = load(db, nodes=nodes, exported=os.environ, published=published)
    for notice in loaded.notices:
        shown.line(notice)
    return loaded


def cluster(db: str, nodes: int, shown: Progress, image: str = "") -> Cluster:
    """The cluster that is meant, with the images it runs or would run; says first which images those are."""
    from smallcluster.cluster import Cluster
    from smallcluster.flavours import Flavour
    from smallcluster.report.console import images_lines
    from smallcluster.server_image import named

    database = database_named(db)
    engine.refuse_remote()
    client = engine.connect()
    there = read_containers(client, project_name(database))
    asked_for = {"server": named(client, image, shown)} if image else {}
    with interrupts.deferred():
        server = _images(client, database, there, ["server"], asked_for)
    published = server["server"].flavour is Flavour.PUBLISHED
    loaded = settings(db, nodes or (3 if "server-c" in there else 2), shown, published=published)
    services = {database.value: "database", "redis": "redis"}
    own = [name for name, service in services.items() if service in loaded.own]
    with interrupts.deferred():
        found = _images(client, database, there, ["server", *own, "nginx"], server)
    for line in images_lines(found):
        shown.line(line)
    return Cluster(settings=loaded, images=found, client=client)


def _images(
    client: DockerClient,
    database: Database,
    there: Mapping[str, Container],
    wanted: Sequence[str],
    known: Mapping[str, Image],
) -> dict[str, Image]:
    """The images that are known, else those of the containers that are there, else what these would be made from."""
    from smallcluster import images
    from smallcluster.cluster import image_name

    running = {image_name(name, database): (one.image, one.image_id) for name, one in sorted(there.items())}
    chosen = [name for name in wanted if name not in known]
    found = {name: images.of_container(client, name, *running[name]) for name in chosen if name in running}
    found |= images.resolve([name for name in chosen if name not in found])
    return {name: (found | dict(known))[name] for name in wanted}


def put(text: str) -> None:
    """Print a verb's answer to stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
