"""Lays out what the node image is built from: the locked dependencies, pip itself, the server's own wheel."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from smallcluster.errors import MachineCannotError
from smallcluster.paths import STATE
from smallcluster.progress import Step
from smallcluster.recipes import IMAGES, REFSERVER, SERVER
from smallcluster.setup.workshop import Limits, Workshop

PYTHON = "3.13"
"""The node image's Python (Debian 13); this process may run another."""
LOCK = REFSERVER / "requirements.lock"
STORE = STATE / "setup" / "wheels"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
LIMITS = Limits(600.0)
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_GLIBC = (17, 24, 26, 27, 28, 31, 34, 35, 39)
"""Minor versions of glibc 2 that wheels are tagged with, up to Debian 13's."""


def lay_out(workshop: Workshop, step: Step, architecture: str, context: Path) -> None:
    """Fill the node image's build context. Downloads what earlier runs didn't. Raises MachineCannotError."""
    shutil.copytree(IMAGES / SERVER, context / SERVER)
    shutil.copy(IMAGES / "apt-install", context)
    shutil.copytree(_dependencies(workshop, step, architecture), context / "wheels")
    step.say("building the server's own wheel")
    wheel = [*PIP, "wheel", "--no-deps", "--wheel-dir", str(context / "app"), str(_copy_of_sources(context))]
    workshop.run(step, wheel, log="wheels.log", limits=LIMITS)
    shutil.rmtree(context / "src")


def _dependencies(workshop: Workshop, step: Step, architecture: str) -> Path:
    """A folder with the locked wheels for the node's Python, kept by the lock's hash."""
    key = hashlib.sha256(f"{architecture} {PYTHON} ".encode() + LOCK.read_bytes()).hexdigest()[:12]
    store = STORE / key
    if store.is_dir():
        return store
    shutil.rmtree(STORE, ignore_errors=True)
    part = _made(STORE / f"{key}.part")
    shutil.copy(LOCK, part / "requirements.lock")
    step.say(f"downloading the locked wheels for Python {PYTHON} on {architecture}")
    download = [*PIP, "download", "--no-deps", "--only-binary=:all:", *platform_tags(architecture)]
    for wanted in (["-r", str(LOCK)], ["pip"]):
        workshop.run(step, [*download, "--dest", str(part), *wanted], log="wheels.log", limits=LIMITS)
    return part.rename(store)


def platform_tags(architecture: str) -> list[str]:
    """pip's options that ask for wheels of the node image instead of this process. Raises MachineCannotError."""
    machine = _MACHINES.get(architecture)
    if machine is None:
        raise MachineCannotError(
            f"The node image can't be built for the engine's processor, {architecture}.",
            why=f"the dependencies have wheels for {' and '.join(_MACHINES)}.",
            then="use an engine on such a machine (DOCKER_HOST)",
        )
    tags = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC] + [f"manylinux2014_{machine}"]
    platforms = [word for tag in tags for word in ("--platform", tag)]
    return ["--python-version", PYTHON, "--implementation", "cp", *platforms]


def _copy_of_sources(context: Path) -> Path:
    """A copy to build in, so that the build leaves nothing in the checkout."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".nox", ".venv", "tests")
    return Path(shutil.copytree(REFSERVER, context / "src", ignore=ignored))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
