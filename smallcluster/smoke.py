"""The main job: bring the topology up where none runs, check it, keep the evidence, take it down again."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from smallcluster import api, checks, engine, evidence, interrupts, lifecycle
from smallcluster.checks.base import Live, Need
from smallcluster.checks.health import info_answers, speech_of
from smallcluster.cluster import Cluster, Standing
from smallcluster.errors import ExitCode, MachineCannotError, PersonError
from smallcluster.evidence import Evidence
from smallcluster.progress import Phase, Progress
from smallcluster.verdicts import EXIT_CODES, Finding, Verdict, merged


@dataclass(frozen=True, kw_only=True)
class SmokeReport:
    """Everything a smoke found out: findings, verdict, where the time went (seconds), where the evidence is."""

    cluster: Cluster
    findings: tuple[Finding, ...]
    phases: tuple[Phase, ...]
    evidence: Evidence
    brought_up: bool
    left_running: bool
    seconds: float
    problem: PersonError | None = None
    """Why the run, or its teardown, stopped early, where it did."""

    @property
    def verdict(self) -> Verdict:
        """What the findings say; a broken rule stays broken, whatever happened afterwards."""
        found = merged(self.findings)
        if self.problem is None or found is Verdict.BROKEN:
            return found
        return Verdict.BROKEN if self.problem.code is ExitCode.BROKEN else Verdict.UNKNOWN

    @property
    def exit_code(self) -> ExitCode:
        """The verdict's code; where nothing is broken and the run stopped early, the stop's own."""
        if self.problem is None or self.verdict is Verdict.BROKEN:
            return EXIT_CODES[self.verdict]
        return self.problem.code

    def advice(self, finding: Finding) -> tuple[tuple[str, str], ...]:
        """What a finding says beside its evidence, each with its word; nothing that is empty."""
        judgement = finding.judgement
        said = (("expected", judgement.expected), ("likely", judgement.cause), ("next", self.next_step(finding)))
        return tuple((word, text) for word, text in said if text)

    def next_step(self, finding: Finding) -> str:
        """What to type next for a finding: of a cluster that is gone, the logs are in the evidence."""
        then = finding.judgement.then
        if not then.startswith("invoke "):
            return then
        if self.left_running:
            return f"{then} --db={self.cluster.settings.db.value}"
        service = then.partition("--service=")[2]
        return f"read {self.evidence.folder}/logs/{service + '.log' if service else ''}"


def smoke(cluster: Cluster, progress: Progress, *, keep: bool, began: float) -> SmokeReport:
    """Run the smoke. On a running cluster: checks only, and it is left. On none: up, checks, down (unless `keep`).

    `began` is the monotonic time at which the verb started. The report comes back even where the cluster could
    not be brought up or the run was interrupted; teardown has happened by then.
    """
    here = _is_here(cluster)
    kept = evidence.begin("smoke", cluster.settings, datetime.now().astimezone())
    kept.json("images", evidence.image_records(cluster.images))
    kept.text("command.txt", " ".join(sys.argv) + "\n")
    kept.environment(cluster.settings)
    run = _Run(cluster, progress, kept, already=here, keep=keep)
    problem = run.go()
    return SmokeReport(
        cluster=cluster,
        findings=run.findings,
        phases=tuple(progress.phases),
        evidence=kept,
        brought_up=not here,
        left_running=run.left_running,
        seconds=time.monotonic() - began,
        problem=problem,
    )


def _is_here(cluster: Cluster) -> bool:
    """Whether a cluster is there to be checked; one that limps is, because the smoke says what is wrong with it."""
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


@dataclass
class _Run:
    """One smoke on its way: what it has found so far, and whether the cluster stays."""

    cluster: Cluster
    progress: Progress
    kept: Evidence
    already: bool
    keep: bool
    findings: tuple[Finding, ...] = ()
    left_running: bool = False

    def go(self) -> PersonError | None:
        """Bring up, check, collect, take down, come what may; returns what stopped it early, if anything did."""
        try:
            self._check()
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

    def _check(self) -> None:
        try:
            if not self.already:
                lifecycle.start(self.cluster, self.progress)
            self.findings = run_checks(self.cluster, self.progress, self.kept)
        finally:
            with interrupts.shielded():
                evidence.collect(self.kept, self.cluster)
            self.left_running = self.already or (self.keep and bool(self.findings))
            if not self.left_running:
                self.cluster.down(self.progress)


def run_checks(cluster: Cluster, progress: Progress, kept: Evidence) -> tuple[Finding, ...]:
    """Run every check, several at a time; findings come in the checks' own order."""
    with progress.step(f"{len(checks.ALL)} checks") as step:
        live = Live(
            cluster=cluster,
            routes=cluster.routes(),
            credentials=api.credentials_from(cluster.settings.value),
            record=kept.exchange,
            say=step.say,
            offers=frozenset(Need) - ({Need.DATABASE} if "database" in cluster.settings.outside else set()),
        )
        live.speech = speech_of(live.facts(info_answers))
        pool = ThreadPoolExecutor(max_workers=len(checks.ALL))  # they spend their time waiting for answers
        try:
            with interrupts.deferred():  # those that must wait for something begin first
                by_waits = sorted(checks.ALL, key=lambda check: check.waits, reverse=True)
                running = {check.id: pool.submit(check.run, live) for check in by_waits}
            findings = tuple(running[check.id].result() for check in checks.ALL)
        finally:  # an interrupt must not wait for requests in flight: they end by their own timeouts
            pool.shutdown(wait=False, cancel_futures=True)
        holding = sum(finding.verdict is Verdict.HOLDS for finding in findings)
        waits = max(finding.waits for finding in findings)
        step.done(
            f"{holding} hold, {len(findings) - holding} do not; the longest wait that a check states: {waits:g} s"
        )
    return findings
