"""Builds the local images: a base from the machine's own Debian mirror, then one image per service."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from smallcluster import engine
from smallcluster.images import names
from smallcluster.recipes import BASE, IMAGE_LABEL, IMAGES, RECIPE_LABEL, RELEASES, kind_of, recipe
from smallcluster.setup import wheels
from smallcluster.setup.install import SCRIPTS
from smallcluster.setup.workshop import Limits, Workshop

SUITE = "trixie"
"""Debian 13, the base of every local image."""
BUILD_LIMITS = Limits(900.0)
_CERTIFICATES = ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def build_base(workshop: Workshop, architecture: str, mirror: str) -> None:
    """Make the minimal Debian image with debootstrap. Raises MachineCannotError."""
    tag = names()[BASE].local
    with workshop.progress.step(f"building {tag} from {urlsplit(mirror).hostname or mirror}") as step:
        command = [str(SCRIPTS / "build-base.sh"), tag, SUITE, architecture, mirror, recipe(BASE)]
        host = os.environ.get("DOCKER_HOST")
        workshop.run_as_root(step, command, log="base.log", limits=BUILD_LIMITS, variables={"DOCKER_HOST": host})


def lay_out_server(workshop: Workshop, architecture: str, context: Path) -> None:
    """Fill the node image's build context. Raises MachineCannotError."""
    with workshop.progress.step("gathering what the node image is built from") as step:
        wheels.lay_out(workshop, step, architecture, context)


def build_image(workshop: Workshop, service: str, base: str, context: Path = IMAGES) -> None:
    """Build one service's image on a base image. Raises MachineCannotError."""
    tag = names()[service].local
    with workshop.progress.step(f"building {tag}") as step:
        command = build_command(service, tag, base, context)
        variables = {"BUILDKIT_PROGRESS": "plain", **apt_proxies()}
        workshop.run(step, command, log=f"{service}.log", limits=BUILD_LIMITS, variables=variables)


def build_command(service: str, tag: str, base: str, context: Path) -> list[str]:
    """The command line of one build. The engine's own builder runs it, which knows the local base image."""
    command = ["docker", "buildx", "build", "--builder", engine.endpoint().context, "--load"]
    command += ["--network", "host", "--build-arg", f"BASE={base}"]
    command += ["--label", f"{IMAGE_LABEL}={kind_of(service)}", "--label", f"{RECIPE_LABEL}={recipe(service)}"]
    dockerfile = IMAGES / "release" / "Dockerfile" if service in RELEASES else context / service / "Dockerfile"
    if bundle := certificates():
        command += ["--secret", f"id=certificates,src={bundle}"]
    for proxy in apt_proxies():
        command += ["--build-arg", proxy]  # the value comes from the environment, so no process list shows it
    return [*command, "--file", str(dockerfile), "--tag", tag, str(context)]


def certificates() -> str | None:
    """This machine's bundle of authorities, lent to builds: its mirror or proxy may have one of its own."""
    places = (os.environ.get(_CERTIFICATES[0], ""), *_CERTIFICATES[1:])
    return next((place for place in places if place and Path(place).is_file()), None)


def apt_proxies() -> dict[str, str]:
    """The proxies that this machine's apt goes through, as the variables that builds know."""
    found = {}
    for scheme in ("http", "https"):
        value = engine.tool_version(["apt-config", "shell", "P", f"Acquire::{scheme}::Proxy"])
        if url := value.removeprefix("P=").strip("'"):
            found[f"{scheme}_proxy"] = url
    return found
