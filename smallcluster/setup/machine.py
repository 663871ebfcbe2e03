"""Which machine this is: its distribution, what this user may do on it, which tools and engine it has."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from smallcluster import engine
from smallcluster.engine import Reach
from smallcluster.errors import MachineCannotError

Right = Literal["root", "sudo", "none"]
PROGRAM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
"""Where programs are looked for; an ordinary user's PATH leaves out the system's own."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The operating system and the rights on it."""

    distribution: str
    release: str
    title: str
    right: Right
    needs_apparmor: bool = False
    """The kernel confines containers with AppArmor, and the program that loads profiles is missing."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs that were found; versions are empty where there is none."""

    cli: bool
    daemon: bool
    compose: str
    buildx: str


@dataclass(frozen=True, slots=True)
class EngineState:
    """Whether an engine answers; if not, what was met, and the error that says so."""

    reach: Reach
    local: bool
    version: str = ""
    trouble: MachineCannotError | None = None


def look_at_machine() -> Machine:
    """Read the distribution's own file, and ask sudo whether it would let us."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return Machine(
        distribution=release.get("ID", platform.system().lower()),
        release=release.get("VERSION_ID", ""),
        title=release.get("PRETTY_NAME", platform.system()),
        right=_right(),
        needs_apparmor=_apparmor() and program("apparmor_parser") is None,
    )


def look_at_tools() -> Tools:
    """Find the Docker programs, and ask the plugins for their versions."""
    compose = engine.tool_version(["docker", "compose", "version", "--short"])
    standalone = engine.tool_version(["docker-compose", "version", "--short"])
    return Tools(
        cli=program("docker") is not None,
        daemon=program("dockerd") is not None,
        compose=next((found for found in (compose, standalone) if engine.major(found) >= 2), ""),
        buildx=engine.tool_version(["docker", "buildx", "version"]),
    )


def look_at_engine() -> EngineState:
    """Connect to the engine that would be used, for a few seconds at most."""
    found = engine.endpoint()
    reach = engine.reach(found.socket) if found.socket else Reach.SILENT
    try:
        client = engine.connect()
    except MachineCannotError as trouble:
        met = Reach.SILENT if reach is Reach.ANSWERS else reach
        return EngineState(met, found.local, trouble=trouble)
    version = str(client.version()["Version"])
    client.close()
    return EngineState(Reach.ANSWERS, found.local, version)


def program(name: str) -> Path | None:
    """Where a program is, looked for in the system's folders too."""
    found = shutil.which(name, path=PROGRAM_PATH)
    return Path(found) if found else None


def _right() -> Right:
    if os.geteuid() == 0:
        return "root"
    if shutil.which("sudo") is None:
        return "none"
    asked = subprocess.run(["sudo", "-n", "true"], capture_output=True, timeout=10, check=False)
    return "sudo" if asked.returncode == 0 else "none"


def _apparmor() -> bool:
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    return enabled.is_file() and enabled.read_text().startswith("Y")
