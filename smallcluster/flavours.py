"""Which server is inside an image: the bundled reference server or the published one, told by its programs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from smallcluster import versions
from smallcluster.errors import AskedWronglyError
from smallcluster.recipes import IMAGE_LABEL, SERVER

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image as EngineImage


class Flavour(StrEnum):
    """The servers that the harness has an overlay (compose/server-….yaml) for."""

    REFERENCE = "reference"
    PUBLISHED = "published"


PROGRAMS = {"dw-refserver": Flavour.REFERENCE, "server-bootstrap": Flavour.PUBLISHED}
"""The first of these programs that an image holds tells which server it is."""

_QUESTION = f"for name in {' '.join(PROGRAMS)}; do command -v $name >/dev/null && echo $name; done; true"


def flavour_of(client: DockerClient, ref: str, image: EngineImage) -> Flavour:
    """Which server an image holds; asked once for each image id. Raises AskedWronglyError where it is none."""
    if image.labels.get(IMAGE_LABEL) == SERVER:
        return Flavour.REFERENCE
    said = versions.remembered("flavour", str(image.id))
    if said is None:
        said = _held(client, ref, str(image.id))
        versions.remember("flavour", str(image.id), said)
    return Flavour(said)


def _held(client: DockerClient, ref: str, image_id: str) -> Flavour:
    from docker.errors import DockerException

    try:
        said = versions.run(client, image_id, "sh", ("-c", _QUESTION))
    except DockerException as error:
        said = str(error)[:300]
    for program, flavour in PROGRAMS.items():
        if program in said.splitlines():
            return flavour
    raise AskedWronglyError(
        f"The image {ref} is not a Durable Workflow Server.",
        seen=f"it holds neither {' nor '.join(PROGRAMS)}" + (f": {said.strip()}" if said.strip() else "."),
        why="another product's image was named.",
        then="name the published server's image, or none for the bundled reference server.",
    )
