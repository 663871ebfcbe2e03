"""The main job: bring the topology up where none runs, check it, keep the evidence, take it down again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from smallcluster import api, checks, evidence, interrupts, lifecycle
from smallcluster.checks.base import Live
from smallcluster.cluster import Cluster
from smallcluster.errors import ExitCode, PersonError
from smallcluster.evidence import Evidence
from smallcluster.progress import Phase, Progress
from smallcluster.verdicts import EXIT_CODES, Finding, Verdict, merged

CHECKS_AT_ONCE = 6
"""How many checks look at the same time; they spend their time waiting for answers."""


@dataclass(frozen=True, kw_only=True)
class SmokeReport:
    """Everything a smoke found out: findings, verdict, where the time went (seconds), where the evidence is."""

    cluster: Cluster
    findings: tuple[Finding, ...]
    phases: tuple[Phase, ...]
    evidence: Evidence
    brought_up: bool
    kept: bool
    seconds: float
    problem: PersonError | None = None
    """Why the run stopped before it could judge, where it did."""

    @property
    def verdict(self) -> Verdict:
        """The merged verdict; a run that stopped early is broken only where the stop itself says so."""
        if self.problem is not None:
            return Verdict.BROKEN if self.problem.code is ExitCode.BROKEN else Verdict.UNKNOWN
        return merged(self.findings)

    @property
    def exit_code(self) -> ExitCode:
        """The stop's own code where the run stopped early, else the verdict's."""
        return self.problem.code if self.problem is not None else EXIT_CODES[self.verdict]


def smoke(cluster: Cluster, progress: Progress, *, keep: bool, began: float) -> SmokeReport:
    """Run the smoke. On a running cluster: checks only, and it is left. On none: up, checks, down (unless `keep`).

    `began` is the monotonic time at which the verb started. The report comes back even where the cluster could
    not be brought up or the run was interrupted; teardown has happened by then.
    """
    here = cluster.presence()
    kept = evidence.begin("smoke", cluster.settings, datetime.now().astimezone())
    kept.json("images", evidence.image_records(cluster.images))
    kept.text("command.txt", " ".join(sys.argv) + "\n")
    kept.environment(cluster.settings)
    findings: tuple[Finding, ...] = ()
    problem: PersonError | None = None
    try:
        with _brought_up(cluster, progress, kept, already=here, keep=keep):
            findings = run_checks(cluster, progress, kept)
    except interrupts.Interruption as stop:
        problem = stop.problem
    except PersonError as stop:
        problem = stop
    return SmokeReport(
        cluster=cluster,
        findings=findings,
        phases=tuple(progress.phases),
        evidence=kept,
        brought_up=not here,
        kept=here or (keep and problem is None),
        seconds=time.monotonic() - began,
        problem=problem,
    )


@contextmanager
def _brought_up(cluster: Cluster, progress: Progress, kept: Evidence, *, already: bool, keep: bool) -> Iterator[None]:
    """Have the cluster up inside the block; collect its logs and take down what was brought up, come what may."""
    stopped = True
    try:
        if not already:
            lifecycle.start(cluster, progress)
        yield
        stopped = False
    finally:
        with interrupts.shielded():
            try:
                _collect(cluster, kept)
            finally:
                if not already and (stopped or not keep):
                    cluster.down(progress)


def run_checks(cluster: Cluster, progress: Progress, kept: Evidence) -> tuple[Finding, ...]:
    """Run every check, several at a time; findings come in the checks' own order."""
    with progress.step(f"{len(checks.ALL)} checks") as step:
        live = Live(
            cluster=cluster,
            routes=cluster.routes(),
            credentials=api.credentials_from(cluster.settings.value),
            record=kept.exchange,
            say=step.say,
        )
        live.worker_protocol = _worker_protocol(live)
        pool = ThreadPoolExecutor(max_workers=CHECKS_AT_ONCE)
        try:
            with interrupts.deferred():
                running = [pool.submit(check.run, live) for check in checks.ALL]
            findings = tuple(future.result() for future in running)
        finally:  # an interrupt must not wait for requests in flight: they end by their own timeouts
            pool.shutdown(wait=False, cancel_futures=True)
        holding = sum(finding.verdict is Verdict.HOLDS for finding in findings)
        step.done(f"{holding} hold, {len(findings) - holding} do not")
    return findings


def _worker_protocol(live: Live) -> str:
    """The worker protocol that the cluster advertises: the smoke's worker speaks the server's own version."""
    from smallcluster.checks.health import info_answers

    for answer in live.facts(info_answers).values():
        told = answer.body.get("worker_protocol")
        if answer.ok and isinstance(told, dict) and isinstance(told.get("version"), str):
            version: str = told["version"]
            return version
    return live.worker_protocol


def _collect(cluster: Cluster, kept: Evidence) -> None:
    """Keep states and logs of whatever is there; an engine that fails here must not hide the first problem."""
    from docker.errors import APIError

    try:
        found = cluster.containers()
        kept.containers(found, {name: cluster.log_of(container) for name, container in found.items()})
    except APIError as problem:
        kept.text("logs/INCOMPLETE.txt", f"The engine would not give states or logs: {problem}\n")
