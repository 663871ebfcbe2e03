"""Work on a cluster that leaves it as it was found: up where none runs, the work, the evidence, down again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from smallcluster import engine, evidence, interrupts, lifecycle
from smallcluster.cluster import Cluster, Standing
from smallcluster.errors import MachineCannotError, PersonError
from smallcluster.evidence import Evidence
from smallcluster.progress import Phase, Progress
from smallcluster.target import Target
from smallcluster.teardown import everything


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a visit ended: where the time went (seconds), where the evidence is, what is left running."""

    cluster: Cluster | Target
    phases: tuple[Phase, ...]
    evidence: Evidence
    brought_up: bool
    left_running: bool
    seconds: float
    problem: PersonError | None = None
    """Why the run, or its teardown, stopped early, where it did."""


@dataclass
class Visit:
    """One verb's stay at a cluster. `already`: it ran before, so it stays; `keep`: it stays if the work was done."""

    cluster: Cluster
    progress: Progress
    kept: Evidence
    already: bool
    keep: bool = False
    begun: bool = False
    """Whether the cluster was brought up before, by a run that was cut off."""
    left_running: bool = False

    def go(self, work: Callable[[], None]) -> PersonError | None:
        """Bring up, work, collect, take down, come what may; returns what stopped it early, if anything did."""
        problem = stopped_by(lambda: self._stay(work))
        if problem is not None and not self.left_running:
            self._tell_what_is_left(problem)
        return problem

    def _tell_what_is_left(self, problem: PersonError) -> None:
        """A second Ctrl-C ends the teardown, too, or comes before it has begun."""
        left = everything(self.cluster.client, self.cluster.settings.project)
        if left:
            problem.seen, problem.then = (
                f"left: {', '.join(left)}",
                f"invoke down --db={self.cluster.settings.db.value}",
            )

    def ended(self, problem: PersonError | None, began: float) -> dict[str, Any]:
        """The fields of `Ended`, for the verb's own report; `began` is when the verb started (monotonic)."""
        return {
            "cluster": self.cluster,
            "phases": tuple(self.progress.phases),
            "evidence": self.kept,
            "brought_up": not self.already,
            "left_running": self.left_running,
            "seconds": time.monotonic() - began,
            "problem": problem,
        }

    def _stay(self, work: Callable[[], None]) -> None:
        done = False
        try:
            if not self.already and not self.begun:
                lifecycle.start(self.cluster, self.progress)
            work()
            done = True
        finally:
            self.left_running = self.already or (self.keep and done)
            with interrupts.shielded():
                evidence.collect(self.kept, self.cluster)
            if not self.left_running:
                self.cluster.down(self.progress)


def stopped_by(work: Callable[[], None]) -> PersonError | None:
    """Do the work; returns what stopped it early, if anything did."""
    try:
        work()
    except interrupts.Interruption as stop:
        return stop.problem
    except PersonError as stop:
        return stop
    except Exception as failure:
        problem = engine.trouble(failure)
        if problem is None:
            raise
        return problem
    return None


def begin(verb: str, cluster: Cluster, progress: Progress, *, keep: bool = False) -> Visit:
    """Look whether a cluster is there, and make the verb's evidence folder with what is known before it begins."""
    already = _is_here(cluster)
    kept = evidence.begin(verb, cluster.settings, datetime.now().astimezone())
    kept.json("images", evidence.image_records(cluster.images))
    kept.text("command.txt", " ".join(sys.argv) + "\n")
    kept.environment(cluster.settings)
    return Visit(cluster, progress, kept, already=already, keep=keep)


def _is_here(cluster: Cluster) -> bool:
    """Whether a cluster is there to be visited; one that limps is, because the smoke says what is wrong with it."""
    if cluster.standing_or_half() is not Standing.ABSENT:
        lifecycle.refuse_leftovers(cluster)
    standing = cluster.standing()
    if standing is Standing.STOPPED:
        db = cluster.settings.db.value
        raise MachineCannotError(
            f"A {db} cluster is there, but nothing of it runs.",
            why="the engine or the machine was restarted, or a run was killed.",
            then=f"`invoke up --db={db}` starts it again with its data; `invoke down --db={db}` takes it away.",
        )
    if standing is not Standing.ABSENT:
        lifecycle.refuse_changes(cluster)
    return standing is not Standing.ABSENT
