"""Decides what setup has to do before there is an engine. Pure: a machine's looks in, a plan or a refusal out."""

from __future__ import annotations

from dataclasses import dataclass

from smallcluster.engine import Reach
from smallcluster.errors import MachineCannotError
from smallcluster.setup.machine import EngineState, Machine, Tools

NEEDED = "a Docker engine (20.10 or newer), its Compose v2 plugin and its buildx plugin"


@dataclass(frozen=True, slots=True)
class Packages:
    """What a distribution calls the parts. `newer_suite` has the plugins where the distribution lacks them."""

    engine: tuple[str, ...]
    cli: str
    compose: str = "docker-compose"
    buildx: str = "docker-buildx"
    newer_suite: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The packages to install, the suite to add for some of them, and whether to start the engine."""

    packages: tuple[str, ...] = ()
    newer_suite: str | None = None
    start: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.packages and not self.start


def packages_of(machine: Machine) -> Packages | None:
    """The package names on this machine, or None where setup installs nothing."""
    release = float(machine.release) if machine.release.replace(".", "", 1).isdigit() else None
    if machine.distribution == "ubuntu" and (release is None or release >= 22.04):
        return Packages(("docker.io", "ca-certificates"), "docker.io", compose="docker-compose-v2")
    if machine.distribution != "debian" or (release is not None and release < 12):
        return None
    if release == 12:  # its docker-compose is version 1, and it has no buildx
        return Packages(("docker.io", "ca-certificates"), "docker.io", newer_suite="trixie")
    return Packages(("docker.io", "docker-cli", "ca-certificates"), "docker-cli")


def plan(machine: Machine, tools: Tools, state: EngineState) -> Plan:
    """What has to be installed and started. Raises MachineCannotError when that can't be done from here."""
    answers = state.reach is Reach.ANSWERS
    if not answers and (not state.local or state.reach in (Reach.DENIED, Reach.SILENT)):
        raise state.trouble or MachineCannotError("No Docker engine answers.")
    engine_missing = not answers and not tools.daemon
    needed = _needed(machine, tools, engine_missing=engine_missing)
    if (needed.packages or not answers) and machine.right == "none":
        raise _no_right(machine, needed)
    return Plan(needed.packages, needed.newer_suite, start=not answers)


def _needed(machine: Machine, tools: Tools, *, engine_missing: bool) -> Plan:
    if not engine_missing and tools.cli and tools.compose and tools.buildx:
        return Plan()
    known = packages_of(machine)
    if known is None:
        raise _elsewhere(machine)
    plugins = [known.compose] * (not tools.compose) + [known.buildx] * (not tools.buildx)
    engine = list(known.engine) if engine_missing else [known.cli] * (not tools.cli)
    if engine_missing and machine.needs_apparmor:
        engine.append("apparmor")
    return Plan(tuple(engine + plugins), known.newer_suite if plugins else None)


def _elsewhere(machine: Machine) -> MachineCannotError:
    return MachineCannotError(
        f"Setup installs packages on Debian 12 or newer and Ubuntu 22.04 or newer only; this is {machine.title}.",
        seen=f"not all of {NEEDED} are here.",
        then=f"install {NEEDED} with this system's own package manager, start the engine, then invoke setup",
    )


def _no_right(machine: Machine, needed: Plan) -> MachineCannotError:
    if not needed.packages:
        what, todo = "The Docker engine is stopped, and this user may not start it.", "systemctl start docker"
    else:
        what = f"Packages are missing, and this user may not install them: {', '.join(needed.packages)}."
        todo = f"apt-get install {' '.join(needed.packages)}"
    if needed.newer_suite:
        todo = "invoke setup"  # it knows how to take two packages from a newer suite and nothing else
    return MachineCannotError(
        what,
        seen=f"{machine.title}; not root, and sudo wants a password or is not there.",
        then=f"`sudo -v`, then invoke setup again; or as root: {todo}",
    )
