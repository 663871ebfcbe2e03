"""Runs the plan: the old cluster with work on it, step by step to the new one, and what that proved."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smallcluster import lifecycle, smoke, visits
from smallcluster.api import Api
from smallcluster.containers import BALANCER
from smallcluster.errors import AskedWronglyError, ClusterBrokenError, ExitCode, PersonError
from smallcluster.evidence import Evidence
from smallcluster.rehearsal import plan as plans
from smallcluster.rehearsal import prober
from smallcluster.rehearsal.plan import STEPS, Plan, Planned
from smallcluster.rehearsal.prober import Outage, Prober
from smallcluster.rehearsal.steps import WORK, World
from smallcluster.rehearsal.workload import Workload
from smallcluster.static import own
from smallcluster.verdicts import Finding, Verdict, merged
from smallcluster.visits import Ended

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster
    from smallcluster.progress import Progress


@dataclass
class Done:
    """One step as it went. Times are seconds since the epoch; `problem` is why it failed, where it did."""

    step: Planned
    began: float
    ended: float = 0.0
    seen: tuple[str, ...] = ()
    problem: PersonError | None = None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True, kw_only=True)
class RehearsalReport(Ended):
    """A rehearsal: its plan, its steps, what clients felt, what was proven."""

    plan: Plan
    steps: tuple[Done, ...]
    outages: tuple[Outage, ...]
    lateness: float
    """The most that a probe was sent after its turn, in seconds."""
    findings: tuple[Finding, ...]
    """The smoke of the new cluster."""

    @property
    def verdict(self) -> Verdict:
        """Holds where every step was verified, broken where one was not, unknown where the run did not come so far."""
        if any(one.problem is not None and one.problem.code is ExitCode.BROKEN for one in self.steps):
            return Verdict.BROKEN
        whole = len(self.steps) == len(STEPS) and all(one.problem is None for one in self.steps)
        return Verdict.HOLDS if whole and self.problem is None else Verdict.UNKNOWN

    @property
    def exit_code(self) -> ExitCode:
        """The verdict's code; of an unknown one, whatever stopped the run."""
        if self.verdict is Verdict.UNKNOWN and self.problem is not None:
            return self.problem.code
        return {Verdict.HOLDS: ExitCode.HOLDS, Verdict.BROKEN: ExitCode.BROKEN}.get(self.verdict, ExitCode.UNKNOWN)


def make_plan(before: Cluster, after: Cluster, *, force: bool) -> Plan:
    """The plan of an upgrade. Raises AskedWronglyError where it can't be meant, because the image is not newer."""
    one, other = before.images["server"], after.images["server"]
    newer = plans.newer(one.version, other.version)
    if (one.id == other.id or newer is False) and not force:
        raise AskedWronglyError(
            "The image to upgrade to is not newer than the one to upgrade from.",
            seen=f"from {one.version} ({one.ref}) to {other.version} ({other.ref})",
            why="the two were swapped, or a tag was given to an older build.",
            then="correct --from and --to, or repeat the command with --force.",
        )
    return Plan(
        database=before.settings.db.value, nodes=before.settings.nodes, from_image=one.ref, from_id=one.id,
        from_version=one.version, to_image=other.ref, to_id=other.id, to_version=other.version,
        world=plans.world_of(before),
    )  # fmt: skip


@dataclass
class Rehearsal:
    """One run of a plan."""

    plan: Plan
    before: Cluster
    after: Cluster
    progress: Progress
    kept: Evidence
    steps: list[Done] = field(default_factory=list)
    outages: tuple[Outage, ...] = ()
    lateness: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def go(self) -> None:
        """Prove the old cluster, put work on it, run every step, and prove the new one."""
        self._preflight()
        work = Workload(self._balancer, lambda line: self._keep("operations", line))
        world = World(self.before, self.after, work, self.kept.folder)
        with ExitStack() as ending:
            ending.callback(work.stop)
            with self.progress.step("putting work on the cluster") as step:
                work.start_workers()
                work.prepare()
                step.done(f"{len(work.started)} runs are closed")
            probes = ending.enter_context(prober.probing(self._balancer(), lambda line: self._keep("probes", line)))
            work.fill()
            self._run(world, probes)

    def _preflight(self) -> None:
        """Refuse before anything stops. Raises ClusterBrokenError where the contract does not hold as it is."""
        with self.progress.step("looking at the files of both") as step:
            for cluster in (self.before, self.after):
                findings = own.findings(cluster.settings, cluster.compose)
                broken = [one.check for one in findings if one.verdict is Verdict.BROKEN]
                if broken:
                    raise ClusterBrokenError(
                        "The files break the contract.", seen=", ".join(broken), then="invoke check"
                    )
            step.done("they hold")
        found: list[Finding] = []
        smoke.run_checks(self.before, self.progress, self.kept, found)
        if merged(found) is not Verdict.HOLDS:
            wrong = [one.check for one in found if one.verdict is not Verdict.HOLDS]
            raise ClusterBrokenError(
                "The cluster to upgrade does not hold the contract before anything is done to it.",
                seen=", ".join(wrong),
                then=f"`invoke smoke --db={self.plan.database}` tells what is wrong with it.",
            )

    def _balancer(self) -> Api:
        url = self.before.routes().get(BALANCER, "")
        return prober.api_for(BALANCER, url, self.before.settings.value, self.kept.exchange)

    def _keep(self, name: str, line: Mapping[str, Any]) -> None:
        with self._lock, (self.kept.folder / f"{name}.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def _run(self, world: World, probes: Prober) -> None:
        try:
            for number, planned in enumerate(STEPS, 1):
                done = Done(planned, time.time())
                self.steps.append(done)
                with self.progress.step(f"step {number} of {len(STEPS)}: {planned.title.lower()}") as step:
                    try:
                        done.seen = tuple(self._smoke() if planned.id == "smoke" else WORK[planned.id](world, step.say))
                    except PersonError as problem:
                        done.problem = problem
                        raise
                    finally:
                        done.ended = time.time()
                    step.done(done.seen[0] if done.seen else "done")
                if planned.id == "stop-scheduler":  # nobody works any more: what is read now is what was
                    world.work.remember(self._balancer())
                if planned.id == "start-scheduler":
                    lifecycle.remember(self.after)
        finally:
            smoked = next((done.began for done in self.steps if done.step.id == "smoke"), time.time())
            self.outages = tuple(probes.outages(smoked))  # a smoke stops a node itself: that is none of the upgrade's
            self.lateness = probes.worst_lateness

    def _smoke(self) -> list[str]:
        smoke.run_checks(self.after, self.progress, self.kept, self.findings)
        wrong = [f"{one.check}: {one.verdict.value}" for one in self.findings if one.verdict is not Verdict.HOLDS]
        if wrong:
            raise ClusterBrokenError(
                "The new cluster does not hold the contract.", seen="\n".join(wrong),
                why="the new release, or what was done to the cluster.",
                then=f"`invoke smoke --db={self.plan.database}` tells more.",
            )  # fmt: skip
        return [f"{len(self.findings)} checks hold"]


def rehearse(before: Cluster, after: Cluster, plan: Plan, progress: Progress, *, began: float) -> RehearsalReport:
    """Run a plan. Where no cluster runs, one of the old image is brought up, and taken down afterwards.

    The report comes back also where a step failed or the run was interrupted.
    """
    visit = visits.begin("rehearse", before, progress)
    visit.kept.json("plan", plan.as_data())
    run = Rehearsal(plan, before, after, progress, visit.kept)

    def work() -> None:
        if visit.already and plans.world_of(before) != plan.world:
            raise AskedWronglyError(
                "The cluster is no longer the one that the plan was made for.",
                why="a container was started, stopped or replaced meanwhile.",
                then="repeat the command: a new plan is made.",
            )
        run.go()

    problem = visit.go(work)
    if problem is not None and not visit.left_running:
        problem.then = f"everything was taken down again; read {visit.kept.folder}/logs."
    return RehearsalReport(
        plan=plan, steps=tuple(run.steps), outages=run.outages, lateness=run.lateness, findings=tuple(run.findings),
        **visit.ended(problem, began) | {"cluster": after},
    )  # fmt: skip
