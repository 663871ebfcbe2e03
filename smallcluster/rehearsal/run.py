"""Runs a plan: the old cluster with work on it, step by step to the new one, and back; from wherever it was cut off."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from smallcluster import evidence, lifecycle, smoke, visits, waiting
from smallcluster.api import Api
from smallcluster.cluster import Standing
from smallcluster.containers import BALANCER
from smallcluster.errors import AskedWronglyError, ClusterBrokenError, PersonError
from smallcluster.evidence import Evidence
from smallcluster.rehearsal import journal as journals
from smallcluster.rehearsal import plan as plans
from smallcluster.rehearsal import preflight, prober, ran, settle
from smallcluster.rehearsal.journal import Done, Journal, Work
from smallcluster.rehearsal.plan import STEPS, WAY_BACK, Plan, Planned
from smallcluster.rehearsal.prober import Kind, Outage, Prober, Stretch
from smallcluster.rehearsal.result import RehearsalReport
from smallcluster.rehearsal.steps import WORK
from smallcluster.rehearsal.way_back import WayBack
from smallcluster.rehearsal.workload import OPERATIONS, Workload
from smallcluster.rehearsal.world import World
from smallcluster.verdicts import Finding, Verdict
from smallcluster.visits import Visit

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster
    from smallcluster.progress import Progress

Say = Callable[[str], None]
LOOK_SECONDS = 30.0
"""How long the engine may take to see that the balancer serves again: it looks every 5 s (compose/cluster.yaml)."""


@dataclass
class Rehearsal:
    """One run of a plan, or the rest of one that was cut off."""

    journal: Journal
    before: Cluster
    after: Cluster
    progress: Progress
    kept: Evidence
    over: bool = False
    """Whether nothing is left to be resumed or abandoned."""
    gone_back: bool = False
    outages: tuple[Outage, ...] = ()
    stretches: Mapping[Kind, Sequence[Stretch]] = field(default_factory=dict)
    lateness: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def plan(self) -> Plan:
        """The plan that is run."""
        return self.journal.plan

    def go(self) -> None:
        """Prove the old cluster, put work on it, run every step that is not done yet, and prove the new one."""
        with ExitStack() as ending:
            world = self._world(ending)
            self._settled(world)
            if not self.journal.work.ready:
                self._prepare(world)
            path = self.kept.folder / prober.PROBES
            probes = ending.enter_context(prober.probing(self._balancer(), path))
            ending.callback(self._see, probes)
            if not self.journal.work.ready:
                self._fill(world.work)
            self._through(world)
            world.work.clear()
            self.over = True

    def abandon(self) -> None:
        """Put the old release back: on its own data, where that was not touched; else by the way back.

        A step that is done is not done again, so it may be cut off, too.
        """
        self.gone_back = self.over = self.journal.brought_up  # then the cluster is the rehearsal's own, and goes
        if self.over:
            return
        with ExitStack() as ending:
            world = self._world(ending)
            self._settled(world)
            self._each(self.journal.left_to_abandon(), self._work_of_way_back(world))
            self.gone_back = True
            world.work.clear()
            self.over = True

    def _world(self, ending: ExitStack) -> World:
        work = Workload(self._balancer, self.kept.folder, self.journal.work)
        work.recall()
        ending.callback(work.stop)
        cluster = self.before
        watcher = ending.enter_context(ran.watching(cluster.client, cluster.settings.project, self.kept.folder))
        world = World(self.before, self.after, work, self.journal, watcher, self.kept, ending)
        ending.callback(world.settle_making)
        return world

    def _settled(self, world: World) -> None:
        if self.journal.gaps or self.journal.attempts:
            with self.progress.step("taking up what was cut off") as step:
                step.done(settle.settle(world, step.say))

    def _prepare(self, world: World) -> None:
        """Refuse before anything stops; then have workers, and runs that they finish."""
        preflight.refuse_broken_files(self.before, self.after, Path(self.plan.backups), self.progress)
        found: list[Finding] = []
        smoke.run_checks(self.before, self.progress, self.kept, found)
        preflight.refuse_red(found, self.plan)
        with self.progress.step("putting work on the cluster") as step:
            world.work.start_workers()
            world.work.prepare()
            step.done(f"{len(world.work.started)} runs are closed")

    def _fill(self, work: Workload) -> None:
        """Put everything in flight. Cut off before it is done, it is begun anew, under further names."""
        found = self.before.containers()
        self.kept.json("containers-before", {name: asdict(one) for name, one in found.items()})
        work.schedule_soon()
        self.journal.save()
        work.fill()
        work.work.ready = True
        self.journal.save()

    def _through(self, world: World) -> None:
        try:
            if not self.journal.going_back:
                self._each(STEPS, lambda step, say: self._forward(world, step, say))
        except PersonError:
            if self.plan.on_failure_rollback and self.journal.facts.copy is not None:
                self._back(world)
                world.work.clear()
                self.over = True
            raise
        if self.plan.rollback or self.journal.going_back:
            self._back(world)

    def _forward(self, world: World, step: str, say: Say) -> list[str]:
        seen = self._smoke(self.after, say) if step == "smoke" else WORK[step](world, say)
        if step == "stop-scheduler":  # nobody works any more: what is read now is what was
            world.work.remember(self._balancer())
        if step == "start-scheduler":
            lifecycle.remember(self.after)
        return seen

    def _back(self, world: World) -> None:
        """Go the way back, from wherever the upgrade has come to."""
        served = self.journal.done("compare")  # else nothing could be written there
        steps = [step for step in WAY_BACK if served or step.id != "write-on-new"]
        self._each(steps, self._work_of_way_back(world))
        self.gone_back = True

    def _work_of_way_back(self, world: World) -> Callable[[str, Say], list[str]]:
        works = WayBack.of(world).work()

        def work(step: str, say: Say) -> list[str]:
            seen = self._smoke(self.before, say) if step == "smoke-old" else works[step](say)
            if step == "start-old-scheduler":
                lifecycle.remember(self.before)
            return seen

        return work

    def _each(self, planned: Sequence[Planned], work: Callable[[str, Say], list[str]]) -> None:
        """Do one step after the other, those left out that are done; the first that can't be verified ends it."""
        for number, one in enumerate(planned, 1):
            if self.journal.done(one.id):
                continue
            done = Done(one, time.time())
            self.journal.attempts.append(done)
            self.journal.save()
            with self.progress.step(f"step {number} of {len(planned)}: {one.title.lower()}") as step:
                try:
                    done.seen = tuple(work(one.id, self._logged(one, step.say)))
                    done.ended = time.time()
                except PersonError as problem:
                    done.problem, done.ended = problem, time.time()
                    raise
                finally:
                    self.journal.save()
                    self._log(one, f"{'verified' if done.verified else 'not verified'}: {'; '.join(done.told)}")
                step.done(done.seen[0] if done.seen else "done")

    def _logged(self, step: Planned, say: Say) -> Say:
        """Say it, and keep it in the step's own log."""
        self._log(step, f"begun: {step.title}")
        last = ""

        def both(text: str) -> None:
            nonlocal last
            say(text)
            if text != last:
                self._log(step, text)
            last = text

        return both

    def _log(self, step: Planned, text: str) -> None:
        self.kept.line(f"steps/{step.id}.log", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z {text}")

    def _smoke(self, cluster: Cluster, say: Say) -> list[str]:
        await_looked_at(cluster, say)
        found: list[Finding] = []
        smoke.run_checks(cluster, self.progress, self.kept, found)
        self.findings += found
        wrong = [f"{one.check}: {one.verdict.value}" for one in found if one.verdict is not Verdict.HOLDS]
        if wrong:
            raise ClusterBrokenError(
                "The cluster does not hold the contract.", seen="\n".join(wrong),
                why="the release, or what was done to the cluster.",
                then="transcript.jsonl in the evidence folder has each request and its answer.",
            )  # fmt: skip
        return [f"{len(found)} checks hold"]

    def _balancer(self) -> Api:
        url = self.before.routes().get(BALANCER, "")
        return prober.api_for(BALANCER, url, self.before.settings.value, self.kept.exchange)

    def _see(self, probes: Prober) -> None:
        """What clients felt on the way forward. A smoke stops a node itself: that is none of the upgrade's."""
        forward = {step.id for step in STEPS}
        ends = [one.ended or one.began for one in self.journal.attempts if one.step.id in forward]
        smoked = self.journal.first("smoke")
        until = smoked.began if smoked else max(ends, default=time.time())
        self.outages, self.lateness = tuple(probes.outages(until)), probes.worst_lateness
        self.stretches = probes.stretches()


def await_looked_at(cluster: Cluster, say: Say) -> None:
    """Wait until the engine, too, has seen that the balancer serves again.

    A balancer that answers 503 for longer than its health check bears (30 s: a large backup, a slow migration) is
    `unhealthy` to the engine until its next look; a smoke that began before it would report that as broken.
    Raises ClusterBrokenError after LOOK_SECONDS.
    """

    def unhealthy() -> str | None:
        balancer = cluster.container(BALANCER)
        return "the engine's next look at the balancer" if balancer and balancer.health == "unhealthy" else None

    waiting.until_none("the engine finds the balancer healthy", unhealthy, deadline=LOOK_SECONDS, say=say)


def rehearse(before: Cluster, after: Cluster, plan: Plan, progress: Progress, *, began: float) -> RehearsalReport:
    """Run a plan. Where no cluster runs, one of the old image is brought up, and taken down afterwards.

    The report comes back also where a step failed or the run was interrupted. Raises AskedWronglyError where an
    earlier rehearsal was cut off.
    """
    visit = visits.begin("rehearse", before, progress)
    visit.kept.json("plan", plan.as_data())
    path = journals.path_of(before.settings)
    journal = Journal(path, plan, visit.kept.folder, not visit.already, Work(secrets.token_hex(3)))
    run = Rehearsal(journal, before, after, progress, visit.kept)

    def work() -> None:
        if visit.already and plans.world_of(before) != plan.world:
            raise AskedWronglyError(
                "The cluster is no longer the one that the plan was made for.",
                why="a container was started, stopped or replaced meanwhile.",
                then="repeat the command: a new plan is made.",
            )
        journal.save()
        run.go()

    return _stay(run, visit, work, began)


def resume(journal: Journal, before: Cluster, after: Cluster, progress: Progress, *, began: float) -> RehearsalReport:
    """Go on with a rehearsal that was cut off; where it is abandoned, put the old release back.

    Raises AskedWronglyError where its cluster is gone, or an image is no longer the plan's.
    """
    preflight.refuse_other_images(journal.plan, before, after)
    if before.standing_or_half() is Standing.ABSENT:
        journal.remove()
        raise AskedWronglyError(
            "The cluster of the rehearsal that was cut off is gone; there is nothing to go on with.",
            seen=f"no container and no volume of {before.settings.project}",
            why="it was taken down.",
            then="begin a rehearsal anew with `invoke rehearse`.",
        )
    kept = evidence.again(journal.folder, before.settings)
    journal.gaps.append((journal.at, time.time()))
    if not journal.work.ready:
        journal.work.generation += 1
    journal.save()
    run = Rehearsal(journal, before, after, progress, kept)
    visit = Visit(before, progress, kept, already=not journal.brought_up, begun=True)
    return _stay(run, visit, run.abandon if journal.abandoned else run.go, began)


def _stay(run: Rehearsal, visit: Visit, work: Callable[[], None], began: float) -> RehearsalReport:
    problem = visit.go(work)
    journal = run.journal
    touched = journal.attempts or (visit.kept.folder / OPERATIONS).exists()
    if run.over or not visit.left_running or not touched:
        journal.remove()
    elif journal.path.exists():
        journal.save()
    if problem is not None and run.before.standing_or_half() is Standing.ABSENT:
        problem.then = f"everything was taken down again; read {visit.kept.folder}/logs."
    return RehearsalReport(
        plan=run.plan, attempts=tuple(journal.attempts), facts=journal.facts, outages=run.outages,
        stretches=run.stretches, lateness=run.lateness, findings=tuple(run.findings), gone_back=run.gone_back,
        abandoned=journal.abandoned, gaps=tuple(journal.gaps), resumable=journal.path.exists(),
        sdk=any("-sdk-" in name for name in journal.work.before),
        **visit.ended(problem, began) | {"cluster": run.before if run.gone_back else run.after},
    )  # fmt: skip
