"""Installs the engine's packages and starts the engine, with the scripts of scripts/."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from smallcluster.paths import CHECKOUT
from smallcluster.setup import apt
from smallcluster.setup.machine import Machine
from smallcluster.setup.plan import Plan, packages_of
from smallcluster.setup.workshop import Limits, Workshop

SCRIPTS = CHECKOUT / "scripts"
APT_LOG = "apt.log"
APT_LIMITS = Limits(deadline=900.0, patience=120.0)
"""A hundred megabytes on a slow line fit. An installation that is cut short leaves packages half configured."""
DAEMON_SETTINGS = ("DOCKER_HOST", "SMALLCLUSTER_DOCKERD_ARGS", "SMALLCLUSTER_DOCKERD_LOG", "SMALLCLUSTER_DOCKERD_WAIT")
"""What scripts/start-engine.sh reads from the environment."""


def install(workshop: Workshop, machine: Machine, plan: Plan) -> None:
    """Install a plan's packages; from a newer suite only those that the plan says. Raises MachineCannotError."""
    with workshop.progress.step(f"installing {', '.join(plan.packages)}") as step:
        if plan.newer_suite is None:
            apt_install = [str(SCRIPTS / "apt-install.sh"), *plan.packages]
            workshop.run_as_root(step, apt_install, log=APT_LOG, limits=APT_LIMITS)
            return
        with tempfile.TemporaryDirectory(prefix="smallcluster-apt-") as folder:
            write_newer_suite(Path(folder), machine, plan.newer_suite)
            step.say(f"{machine.title} lacks the plugins: taking them, and nothing else, from {plan.newer_suite}")
            apt_install = [str(SCRIPTS / "apt-install.sh"), "--add", folder, *plan.packages]
            workshop.run_as_root(step, apt_install, log=APT_LOG, limits=APT_LIMITS)


def write_newer_suite(folder: Path, machine: Machine, suite: str) -> None:
    """Write the apt source and the preferences for a newer suite, derived from this machine's own sources."""
    known = packages_of(machine)
    plugins = (known.compose, known.buildx) if known else ()
    why = f"{' and '.join(plugins)}, which {machine.title} lacks; see {apt.OWN_NAME}-{suite}.pref"
    source = apt.newer_suite_source(apt.main_source(apt.read_sources(), own_suites(machine)), suite, why)
    (folder / f"{apt.OWN_NAME}-{suite}.sources").write_text(source)
    (folder / f"{apt.OWN_NAME}-{suite}.pref").write_text(apt.preferences(suite, plugins))


def own_suites(machine: Machine) -> tuple[str, ...]:
    """The names under which a machine's sources may know its own main archive."""
    names = {"12": ("bookworm", "oldstable"), "13": ("trixie", "stable")}
    return (*names.get(machine.release, ()), "stable", "testing", "unstable", "sid")


def start_engine(workshop: Workshop) -> None:
    """Start the engine, through the init system where one runs. Raises MachineCannotError when it won't answer."""
    settings = {name: os.environ.get(name) for name in DAEMON_SETTINGS}
    with workshop.progress.step("starting the engine") as step:
        script = [str(SCRIPTS / "start-engine.sh")]
        workshop.run_as_root(step, script, log="engine.log", limits=Limits(90.0), variables=settings)
        step.done(step.detail.removeprefix("engine: "))


def install_debootstrap(workshop: Workshop, machine: Machine) -> None:
    """Install what makes base images. Raises MachineCannotError."""
    keyring = () if machine.distribution == "debian" else ("debian-archive-keyring",)
    install(workshop, machine, Plan(("debootstrap", *keyring)))
