"""Plants each defect in a running cluster, one after the other, and sees which checks turn red."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from smallcluster import interrupts, smoke, visits, waiting
from smallcluster.checks.run import groups, side_by_side
from smallcluster.cluster import Cluster
from smallcluster.defects.base import Defect
from smallcluster.defects.plant import Planted, home, plant
from smallcluster.errors import AskedWronglyError, ClusterBrokenError, ExitCode
from smallcluster.evidence import Evidence
from smallcluster.flavours import Flavour
from smallcluster.lifecycle import DEFECT_MARK
from smallcluster.progress import Progress
from smallcluster.static import own
from smallcluster.verdicts import Finding, Verdict
from smallcluster.visits import Ended

if TYPE_CHECKING:
    from smallcluster.compose import Compose

SETTLED_SECONDS = 8.0
"""How long a cluster with a defect gets until every route is ready; what can't be is judged as it is."""
_PACKAGE = "import dw_refserver, os; print(os.path.dirname(dw_refserver.__file__))"


@dataclass
class Trial:
    """One defect, planted: which checks turned red, and when all of those that it names had."""

    defect: Defect
    red: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The checks that turned red before the look ended, and their rules."""
    seconds: float = 0.0
    """From the moment at which it was in place until all that it names were red, or every check had looked."""
    planting: float = 0.0
    """Seconds that putting it in place took."""

    @property
    def missed(self) -> tuple[str, ...]:
        """The checks that it names and that stayed green; of a harmless one, those that did not."""
        if self.defect.harmless:
            return tuple(self.red)
        return tuple(check for check in self.defect.caught_by if check not in self.red)

    @property
    def caught(self) -> bool:
        """Whether everything that should turn red did."""
        return not self.missed

    @property
    def blamed(self) -> bool:
        """Whether the checks that turned red name every rule that it breaks."""
        named = {rule for rules in self.red.values() for rule in rules}
        return set(self.defect.breaks) <= named


@dataclass(frozen=True, kw_only=True)
class DefectsReport(Ended):
    """Every trial of a run."""

    trials: tuple[Trial, ...]

    @property
    def exit_code(self) -> ExitCode:
        """10 where a defect was missed or the wrong rule blamed; else the stop's own code where it stopped early."""
        if any(not (trial.caught and trial.blamed) for trial in self.trials):
            return ExitCode.BROKEN
        return ExitCode.HOLDS if self.problem is None else self.problem.code


def defects(cluster: Cluster, progress: Progress, wanted: Sequence[Defect], *, began: float) -> DefectsReport:
    """Plant each defect in turn and run the checks, always strictly. The cluster is left as it was found.

    Raises AskedWronglyError where another server than the bundled one is meant: no other's modules can be patched.
    """
    if cluster.images["server"].flavour is not Flavour.REFERENCE:
        raise AskedWronglyError(
            "Defects are planted in the bundled reference server only.",
            seen=f"the server's image is {cluster.images['server'].ref}",
            then="repeat the command without another image: `invoke down`, then `invoke defects`.",
        )
    visit = visits.begin("defects", cluster, progress)
    trials: list[Trial] = []
    problem = visit.go(lambda: _Field(cluster, progress, visit.kept).try_all(wanted, trials))
    return DefectsReport(trials=tuple(trials), **visit.ended(problem, began))


class _Field:
    """The cluster that defects are planted in, and what is planted there now."""

    def __init__(self, cluster: Cluster, progress: Progress, kept: Evidence) -> None:
        self.cluster, self.progress, self.kept = cluster, progress, kept
        self.compose, self.settings = cluster.compose, cluster.settings
        self.changed: list[str] = []
        """The services that are not as they were found."""
        self.added: list[str] = []
        """Those that were not there."""

    def try_all(self, wanted: Sequence[Defect], trials: list[Trial]) -> None:
        """Try each, and put everything back, come what may."""
        mark = self.settings.folder / DEFECT_MARK
        shutil.rmtree(home(self.settings), ignore_errors=True)
        package = self._package()
        mark.touch()
        try:
            for number, defect in enumerate(wanted, 1):
                with self.progress.step(f"{number} of {len(wanted)}: {defect.id}") as step:
                    trial = Trial(defect)
                    self._try(trial, package, step.say)
                    trials.append(trial)
                    step.done(told(trial))
        finally:
            with interrupts.shielded():
                self._put_back()
            mark.unlink()

    def _put_back(self) -> None:
        with self.progress.step("putting everything back") as step:
            self._replace(self.compose, [], step.say)
            shutil.rmtree(home(self.settings), ignore_errors=True)
        self.cluster.await_ready(self.progress)

    def _package(self) -> str:
        """Where the server's containers have its package."""
        handle = self.cluster.client.containers.get(self.cluster.containers()[self.settings.node_names[0]].id)
        status, output = handle.exec_run(["python3", "-c", _PACKAGE])
        if status:
            raise ClusterBrokenError("The server's package was not found in its container.", seen=str(output))
        return cast("bytes", output).decode().strip()

    def _try(self, trial: Trial, package: str, say: Callable[[str], None]) -> None:
        began = time.monotonic()
        planted = plant(trial.defect, self.settings, package)
        compose = replace(self.compose, files=(*self.compose.files, *([planted.file] if planted.file else [])))
        if not trial.defect.files_only:
            self._put(planted, compose, say)
        say("looking")
        trial.planting, began = time.monotonic() - began, time.monotonic()
        for finding in self._findings(trial.defect, compose, say):
            if finding.verdict is Verdict.BROKEN or (trial.defect.harmless and finding.verdict is not Verdict.HOLDS):
                trial.red[finding.check] = finding.rules
            if not trial.defect.harmless and not trial.missed:
                break
        trial.seconds = time.monotonic() - began

    def _put(self, planted: Planted, compose: Compose, say: Callable[[str], None]) -> None:
        """Bring the cluster from the defect before to this one; only what either touches is made anew."""
        self._replace(compose, [*planted.overlay["services"]], say)
        with suppress(ClusterBrokenError):  # a defect may be just that; the checks see it
            waiting.until_none("every route is ready", self._unready, deadline=SETTLED_SECONDS, say=say)

    def _replace(self, compose: Compose, services: Sequence[str], say: Callable[[str], None]) -> None:
        """Have these services as the overlay says, and those of the overlay before as they were."""
        for name in self.added:
            self._remove(name)
        wanted = list(dict.fromkeys([*self.changed, *services]))
        before, self.changed = self.changed, [name for name in services if name in self.cluster.expected]
        self.added = [name for name in services if name not in self.cluster.expected]
        if not wanted:
            return
        say(f"making anew: {', '.join(wanted)}")
        if "bootstrap" in wanted:
            self.cluster.start_alone(["bootstrap"], compose=compose)
            self.cluster.await_bootstrap(say)
            wanted.remove("bootstrap")
        if wanted:
            self.cluster.start_alone(wanted, compose=compose)
        if "bootstrap" in before:  # it ran beside the nodes: they are started after it, as ever
            self.cluster.start_alone(self.settings.node_names, "--force-recreate", compose=compose)
        self.cluster.reload_balancer()

    def _unready(self) -> str | None:
        return self.cluster.unready(self.cluster.routes())

    def _remove(self, service: str) -> None:
        found = self.cluster.containers().get(service)
        if found:
            self.cluster.client.containers.get(found.id).remove(force=True, v=True)

    def _findings(self, defect: Defect, compose: Compose, say: Callable[[str], None]) -> Iterator[Finding]:
        """What the smoke would find, in the order in which it comes: files first, what must be alone last."""
        yield from own.findings(self.settings, compose)
        if defect.files_only:
            return
        live = smoke.look_at(self.cluster, self.kept, say)
        try:
            for group in groups():
                yield from side_by_side(live, group)
        finally:
            live.given_up.set()


def told(trial: Trial) -> str:
    """How a trial went, in a line."""
    if trial.defect.harmless:
        return f"changed nothing ({trial.seconds:.1f} s)" if trial.caught else f"RED: {', '.join(trial.red)}"
    if trial.caught:
        blame = "" if trial.blamed else ", but of another rule"
        return f"caught by {', '.join(trial.defect.caught_by)} in {trial.seconds:.1f} s{blame}"
    return f"MISSED by {', '.join(trial.missed)}; red: {', '.join(trial.red) or 'nothing'}"
