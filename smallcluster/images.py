"""Which image each service gets, from where, and what is really inside."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from smallcluster import engine
from smallcluster.errors import AskedWronglyError, MachineCannotError
from smallcluster.flavours import Flavour, flavour_of
from smallcluster.paths import CHECKOUT
from smallcluster.recipes import RECIPE_LABEL, RELEASES, SERVER, kind_of, recipe
from smallcluster.versions import version_of

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image as EngineImage

SERVICES = ("mysql", "pgsql", "redis", "nginx", SERVER, *RELEASES)
NAMES_FILE = CHECKOUT / "env" / "images.env"
Origin = Literal["pulled", "built here", "no registry's"]


@dataclass(frozen=True, slots=True)
class Names:
    """The names under which an image may be found: a published one (or none), and the local tag."""

    published: str | None
    local: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is in the engine, and what the program inside says about itself.

    `digest` is the registry's, or the image's id where no registry has seen it.
    """

    service: str
    ref: str
    origin: Origin
    id: str
    digest: str
    version: str
    flavour: Flavour | None = None
    """Which server it holds; None for the other services' images."""


@cache
def names() -> dict[str, Names]:
    """The names of env/images.env, by service; the base of the local images is called "debian"."""
    from dotenv import dotenv_values

    values = dotenv_values(NAMES_FILE, interpolate=False)
    services = [key.removesuffix("_LOCAL") for key in values if key.endswith("_LOCAL")]
    return {
        service.lower(): Names(
            values.get(f"{service}_PUBLISHED"), _local(service.lower(), values[f"{service}_LOCAL"] or "")
        )
        for service in services
    }


def resolve(services: Sequence[str]) -> dict[str, Image]:
    """The image of each service: the published one where the engine has it, else the one built here.

    Raises MachineCannotError when one is missing or is another product.
    """
    with closing(engine.connect()) as client, ThreadPoolExecutor(len(SERVICES)) as pool:
        found = pool.map(lambda service: _resolve(client, service), services)
        return dict(zip(services, found, strict=True))


def resolve_service(service: str) -> Image:
    """As `resolve`, for one service."""
    return resolve([service])[service]


def of_container(client: DockerClient, service: str, ref: str, identity: str) -> Image:
    """The image that a running container was made from, whatever its name stands for now."""
    return described(client, service, ref, client.images.get(identity))


def find(client: DockerClient, ref: str) -> EngineImage | None:
    """The image that a name stands for in the engine, or None."""
    from docker.errors import ImageNotFound

    try:
        return client.images.get(ref)
    except ImageNotFound:
        return None


def candidates(service: str) -> list[str]:
    """The names that may stand for a service's image, best first."""
    known = names().get(service)
    if known is None or service not in SERVICES:
        raise AskedWronglyError(f"No service is called {service!r}.", seen=f"known: {', '.join(SERVICES)}.")
    return [ref for ref in (known.published, known.local) if ref]


def usable(client: DockerClient, service: str) -> Image | None:
    """The image that setup would leave alone: a published one, or a local one made from today's recipe.

    Raises MachineCannotError when another product is inside.
    """
    for ref in candidates(service):
        image = find(client, ref)
        if image and (ref == names()[service].published or current(service, image)):
            return described(client, service, ref, image)
    return None


def current(service: str, image: EngineImage) -> bool:
    """Whether an image built here was made from the recipe and the sources as they are now."""
    return image.labels.get(RECIPE_LABEL) == recipe(service)


def _resolve(client: DockerClient, service: str) -> Image:
    for ref in candidates(service):
        if image := find(client, ref):
            return described(client, service, ref, image)
    raise MachineCannotError(
        f"The image for {service} is missing.",
        seen=f"the engine has none of {', '.join(candidates(service))}.",
        why="setup has not run on this engine yet, or the sources of an image that is built here were changed.",
        then="invoke setup",
    )


def _local(service: str, tag: str) -> str:
    return tag.replace("{recipe}", recipe(service))


def described(client: DockerClient, service: str, ref: str, image: EngineImage) -> Image:
    """What there is to know of an image that is in the engine. Raises where another product is inside."""
    flavour = flavour_of(client, ref, image) if kind_of(service) == SERVER else None
    digests: list[str] = image.attrs.get("RepoDigests") or []
    return Image(
        service=service,
        ref=ref,
        origin="built here" if image.labels.get(RECIPE_LABEL) else "pulled" if digests else "no registry's",
        id=str(image.id),
        digest=digests[0].partition("@")[2] if digests else str(image.id),
        version=version_of(client, service, ref, image),
        flavour=flavour,
    )
