"""The server's image that a person named: in the engine or pulled, for this processor, and a server at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smallcluster import engine, images, interrupts
from smallcluster.errors import AskedWronglyError, MachineCannotError
from smallcluster.images import Image
from smallcluster.progress import Progress
from smallcluster.recipes import SERVER

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image as EngineImage


def named(client: DockerClient, ref: str, progress: Progress) -> Image:
    """The image that `--image` names, looked into before anything is started from it.

    Raises MachineCannotError where it can't be had, AskedWronglyError where it is no server's or another processor's.
    """
    found = images.find(client, ref) or _pulled(client, ref, progress)
    _refuse_other_processor(client, ref, found)
    with interrupts.deferred():  # a container that answers a question is gone before anything else happens
        return images.described(client, SERVER, ref, found)


def _pulled(client: DockerClient, ref: str, progress: Progress) -> EngineImage:
    from smallcluster.setup.pull import probe, pull

    with progress.step(f"pulling {ref}") as step:
        registry = probe(client, ref)
        failed = pull(client, ref, step) if registry.answers else registry.said
        step.done(f"failed: {failed}" if failed else "pulled")
    found = images.find(client, ref)
    if found is not None:
        return found
    why = "the name or the tag is mistyped, or the registry wants a login."
    raise MachineCannotError(
        f"--image={ref}: the engine has no such image, and it could not be pulled.",
        seen=failed or "the pull ended well, but the engine has no image of this name.",
        why=why if registry.answers else "no image registry answers here, or the name is mistyped.",
        then="correct --image, or bring the image here with `docker pull` or `docker load`.",
    )


def _refuse_other_processor(client: DockerClient, ref: str, image: EngineImage) -> None:
    here, made_for = engine.facts(client).architecture, str(image.attrs.get("Architecture"))
    if made_for != here:
        raise AskedWronglyError(
            f"--image={ref} is made for another processor.",
            seen=f"the image is for {made_for}, the engine runs on {here}.",
            then=f"docker pull --platform=linux/{here} {ref}, or name another image.",
        )
