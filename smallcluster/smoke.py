"""The main job: bring the topology up where none runs, check it, keep the evidence, take it down again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

from smallcluster import api, checks, interrupts, static, visits
from smallcluster.checks import admission
from smallcluster.checks.base import Check, Live, Need
from smallcluster.checks.health import info_answers, speech_of
from smallcluster.checks.leases import LONGEST_LEASE
from smallcluster.cluster import Cluster
from smallcluster.containers import BALANCER
from smallcluster.contract import BY_ID
from smallcluster.errors import ExitCode
from smallcluster.evidence import Evidence
from smallcluster.flavours import Flavour
from smallcluster.progress import Progress
from smallcluster.settings import Settings
from smallcluster.static import own
from smallcluster.verdicts import EXIT_CODES, Finding, Verdict, merged
from smallcluster.visits import Ended


@dataclass(frozen=True, kw_only=True)
class SmokeReport(Ended):
    """Everything a smoke found out, and how it went."""

    findings: tuple[Finding, ...]

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


def smoke(cluster: Cluster, progress: Progress, *, keep: bool, strict: bool, began: float) -> SmokeReport:
    """Run the smoke. On a running cluster: checks only, and it is left. On none: up, checks, down (unless `keep`).

    The bundled server is always judged strictly: by the protocol's own rules, too. Another is only if `strict` says so.
    `began` is the monotonic time at which the verb started. The report comes back even where the cluster could
    not be brought up or the run was interrupted; teardown has happened by then.
    """
    visit = visits.begin("smoke", cluster, progress, keep=keep)
    findings: list[Finding] = []
    problem = visit.go(lambda: run_checks(cluster, progress, visit.kept, findings))
    if not strict and cluster.images["server"].flavour is not Flavour.REFERENCE:
        findings = [leniently(finding) for finding in findings]
    return SmokeReport(findings=tuple(findings), **visit.ended(problem, began))


def leniently(finding: Finding) -> Finding:
    """The finding as a run that is not strict sees it: a warning where none of its rules is the note's."""
    return replace(finding, warning=not any(BY_ID[rule].is_the_notes for rule in finding.rules))


def run_checks(cluster: Cluster, progress: Progress, kept: Evidence, findings: list[Finding]) -> None:
    """Run every check, all at a time but those that must be alone; findings come in the checks' own order.

    Secrets are hidden in them. Where the run is interrupted, `findings` has those that were there by then.
    """
    with progress.step(f"{len(static.ALL)} checks of files") as step:
        files = [one.hidden(kept.secrets) for one in own.findings(cluster.settings, cluster.compose)]
        step.done(_count(files))
    findings += files
    with progress.step(f"{len(checks.ALL)} checks") as step:
        live = look_at(cluster, kept, step.say)
        try:
            for one in side_by_side(live, [check for check in checks.ALL if not check.alone]):
                findings.append(one.hidden(kept.secrets))
            for check in (check for check in checks.ALL if check.alone):
                step.say(check.id)
                findings += (one.hidden(kept.secrets) for one in side_by_side(live, [check]))
        finally:
            order = [*(check.id for check in static.ALL), *(check.id for check in checks.ALL)]
            findings.sort(key=lambda finding: order.index(finding.check))
        _say_goodbye(live)
        waits = max(finding.waits for finding in findings)
        step.done(f"{_count(findings[len(files) :])}; the longest wait that a check states: {waits:g} s")


def _count(findings: Sequence[Finding]) -> str:
    holding = sum(finding.verdict is Verdict.HOLDS for finding in findings)
    return f"{holding} hold, {len(findings) - holding} do not"


def side_by_side(live: Live, wanted: Sequence[Check[Any]]) -> Iterator[Finding]:
    """Run checks all at a time, and give each finding as it comes; whoever stops asking does not wait for the rest."""
    pool = ThreadPoolExecutor(max_workers=len(wanted))  # they spend their time waiting for answers
    running: list[Future[Finding]] = []
    try:
        with interrupts.deferred():  # those that must wait for something begin first
            ordered = sorted(wanted, key=lambda check: check.waits, reverse=True)
            running.extend(pool.submit(check.run, live) for check in ordered)
        for one in as_completed(running):
            yield one.result()
    finally:  # an interrupt must not wait for requests in flight: they end by their own timeouts
        pool.shutdown(wait=False, cancel_futures=True)


def _say_goodbye(live: Live) -> None:
    """Take the probes' worker registrations away, where the server lets a worker go."""
    balancer = live.api(BALANCER)
    for worker in sorted(live.workers):
        if balancer.deregister_worker(worker).status in (None, 404, 405):
            return


def _missing(settings: Settings) -> Iterator[Need]:
    """What these settings keep from probes."""
    if "database" in settings.outside:
        yield Need.DATABASE
    if f'"{admission.QUEUE}"' not in settings.value("DW_TASK_QUEUE_ADMISSION_OVERRIDES"):
        yield Need.BUDGET
    lease = settings.value("DW_WORKFLOW_TASK_TIMEOUT")
    if not lease.isdecimal() or not 1 <= int(lease) <= LONGEST_LEASE:
        yield Need.LEASES


def look_at(cluster: Cluster, kept: Evidence, say: Callable[[str], None]) -> Live:
    """A running cluster as probes see it, spoken to as its settings and its own cluster info say."""
    live = Live(
        cluster=cluster,
        routes=cluster.routes(),
        credentials=api.credentials_from(cluster.settings.value),
        record=kept.exchange,
        say=say,
        offers=frozenset(Need) - set(_missing(cluster.settings)),
    )
    live.speech = speech_of(live.facts(info_answers))
    return live
