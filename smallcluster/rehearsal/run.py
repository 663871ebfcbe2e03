"""Runs the plan: the old cluster with work on it, step by step to the new one, and what that proved."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smallcluster import lifecycle, smoke, visits
from smallcluster.api import Api
from smallcluster.containers import BALANCER
from smallcluster.errors import AskedWronglyError, ClusterBrokenError, ExitCode, PersonError
from smallcluster.evidence import Evidence
from smallcluster.rehearsal import backup, prober
from smallcluster.rehearsal import plan as plans
from smallcluster.rehearsal.plan import STEPS, WAY_BACK, Plan, Planned
from smallcluster.rehearsal.prober import Kind, Outage, Prober, Stretch
from smallcluster.rehearsal.steps import WORK, World
from smallcluster.rehearsal.way_back import WayBack
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
    stretches: Mapping[Kind, Sequence[Stretch]]
    """How each kind of clients was served through time, to the end of the way forward."""
    lateness: float
    """The most that a probe was sent after its turn, in seconds."""
    findings: tuple[Finding, ...]
    """The smokes of the new cluster, and of the old one after the way back."""
    gone_back: bool
    """Whether the way back was gone to its end."""

    @property
    def verdict(self) -> Verdict:
        """Holds where every step was verified, broken where one was not, unknown where the run did not come so far."""
        if any(one.problem is not None and one.problem.code is ExitCode.BROKEN for one in self.steps):
            return Verdict.BROKEN
        whole = len(self.steps) == len(self.plan.steps) and all(one.problem is None for one in self.steps)
        return Verdict.HOLDS if whole and self.problem is None else Verdict.UNKNOWN

    @property
    def exit_code(self) -> ExitCode:
        """The verdict's code; of an unknown one, whatever stopped the run."""
        if self.verdict is Verdict.UNKNOWN and self.problem is not None:
            return self.problem.code
        return {Verdict.HOLDS: ExitCode.HOLDS, Verdict.BROKEN: ExitCode.BROKEN}.get(self.verdict, ExitCode.UNKNOWN)


def make_plan(before: Cluster, after: Cluster, *, rollback: bool, on_failure: str, force: bool) -> Plan:
    """The plan of an upgrade; what follows a failure is `stop` or `rollback`.

    Raises AskedWronglyError where it can't be meant, because the image is not newer or that is another word.
    """
    if on_failure not in ("stop", "rollback"):
        raise AskedWronglyError(
            f"--on-failure={on_failure} is neither stop nor rollback.", then="repeat the command with one of them."
        )
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
        world=plans.world_of(before), rollback=rollback, on_failure_rollback=on_failure == "rollback",
    )  # fmt: skip


@dataclass
class Rehearsal:
    """One run of a plan."""

    plan: Plan
    before: Cluster
    after: Cluster
    progress: Progress
    kept: Evidence
    gone_back: bool = False
    steps: list[Done] = field(default_factory=list)
    outages: tuple[Outage, ...] = ()
    stretches: Mapping[Kind, Sequence[Stretch]] = field(default_factory=dict)
    lateness: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def go(self) -> None:
        """Prove the old cluster, put work on it, run every step, and prove the new one."""
        self._preflight()
        work = Workload(self._balancer, lambda line: self._keep("operations", line))
        world = World(self.before, self.after, work)
        with ExitStack() as ending:
            ending.callback(work.stop)
            with self.progress.step("putting work on the cluster") as step:
                work.start_workers()
                work.prepare()
                step.done(f"{len(work.started)} runs are closed")
            probes = ending.enter_context(prober.probing(self._balancer(), lambda line: self._keep("probes", line)))
            work.fill()
            try:
                self._forward(world, probes)
            except PersonError:
                if self.plan.on_failure_rollback and world.copy is not None:
                    self._back(world)
                raise
            if self.plan.rollback:
                self._back(world)

    def _preflight(self) -> None:
        """Refuse before anything stops. Raises ClusterBrokenError where the contract does not hold as it is."""
        with self.progress.step("looking at the files of both, and at the disk") as step:
            for cluster in (self.before, self.after):
                findings = own.findings(cluster.settings, cluster.compose)
                broken = [one.check for one in findings if one.verdict is Verdict.BROKEN]
                if broken:
                    raise ClusterBrokenError(
                        "The files break the contract.", seen=", ".join(broken), then="invoke check"
                    )
            room = backup.refuse_too_little_room(self.before, self.before.settings.folder / "backups")
            step.done(f"they hold; {room}")
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

    def _forward(self, world: World, probes: Prober) -> None:
        def work(step: str, say: Callable[[str], None]) -> list[str]:
            seen = self._smoke(self.after) if step == "smoke" else WORK[step](world, say)
            if step == "stop-scheduler":  # nobody works any more: what is read now is what was
                world.work.remember(self._balancer())
            if step == "start-scheduler":
                lifecycle.remember(self.after)
            return seen

        try:
            self._each(STEPS, work)
        finally:
            smoked = next((done.began for done in self.steps if done.step.id == "smoke"), time.time())
            self.outages = tuple(probes.outages(smoked))  # a smoke stops a node itself: that is none of the upgrade's
            self.stretches, self.lateness = probes.stretches(), probes.worst_lateness

    def _back(self, world: World) -> None:
        """Go the way back, from wherever the upgrade has come to."""
        back = WayBack.of(world)
        works = back.work()

        def work(step: str, say: Callable[[str], None]) -> list[str]:
            seen = self._smoke(self.before) if step == "smoke-old" else works[step](say)
            if step == "start-old-scheduler":
                lifecycle.remember(self.before)
            return seen

        served = any(done.step.id == "compare" for done in self.steps)  # else nothing could be written there
        self._each([step for step in WAY_BACK if served or step.id != "write-on-new"], work)
        self.gone_back = True

    def _each(self, planned: Sequence[Planned], work: Callable[[str, Callable[[str], None]], list[str]]) -> None:
        """Do one step after the other; the first that can't be verified ends it."""
        for number, one in enumerate(planned, 1):
            done = Done(one, time.time())
            self.steps.append(done)
            with self.progress.step(f"step {number} of {len(planned)}: {one.title.lower()}") as step:
                try:
                    done.seen = tuple(work(one.id, step.say))
                except PersonError as problem:
                    done.problem = problem
                    raise
                finally:
                    done.ended = time.time()
                step.done(done.seen[0] if done.seen else "done")

    def _smoke(self, cluster: Cluster) -> list[str]:
        found: list[Finding] = []
        smoke.run_checks(cluster, self.progress, self.kept, found)
        self.findings += found
        wrong = [f"{one.check}: {one.verdict.value}" for one in found if one.verdict is not Verdict.HOLDS]
        if wrong:
            raise ClusterBrokenError(
                "The cluster does not hold the contract.", seen="\n".join(wrong),
                why="the release, or what was done to the cluster.",
                then=f"`invoke smoke --db={self.plan.database}` tells more.",
            )  # fmt: skip
        return [f"{len(found)} checks hold"]


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
        plan=plan, steps=tuple(run.steps), outages=run.outages, stretches=run.stretches,
        lateness=run.lateness, findings=tuple(run.findings),
        gone_back=run.gone_back,
        **visit.ended(problem, began) | {"cluster": before if run.gone_back else after},
    )  # fmt: skip
