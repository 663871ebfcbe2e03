"""Makes this machine able to run a cluster: `setup` supplies what is missing, `doctor` only looks."""

from __future__ import annotations

import time

from smallcluster.progress import Progress
from smallcluster.setup.report import Item, SetupReport
from smallcluster.setup.supply import supply_engine, supply_images
from smallcluster.setup.survey import items, look
from smallcluster.setup.workshop import Workshop

__all__ = ["Item", "SetupReport", "doctor", "setup"]


def setup(progress: Progress) -> SetupReport:
    """Find what is missing and supply it: engine, Compose, buildx, images. Changes nothing where all is there.

    Raises MachineCannotError when something can't be supplied from here: the error says what to do.
    """
    began = time.monotonic()
    with progress.step("looking at this machine") as step:
        seen = look()
        step.done(seen.machine.title)
    workshop = Workshop(progress, seen.machine.right)
    done = supply_engine(workshop, seen)
    if done:
        seen = look()
    for trouble in seen.troubles.values():
        raise trouble
    wanted = [service for service, image in seen.images.items() if image is None]
    if wanted:
        supply_images(workshop, seen.machine, wanted)
        with progress.step("asking each image for its version"):
            seen = look()
        done |= {f"image {service}" for service in wanted}
    return SetupReport(items(seen, done), time.monotonic() - began)


def doctor() -> SetupReport:
    """The same look, touching nothing: what is present, what is missing, what to type."""
    began = time.monotonic()
    return SetupReport(items(look()), time.monotonic() - began)
