"""The main job: bring the topology up where none runs, check it, keep the evidence, take it down again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from smallcluster import api, static, visits
from smallcluster.checks import admission
from smallcluster.checks.base import Live, Need
from smallcluster.checks.health import info_answers, speech_of
from smallcluster.checks.leases import LONGEST_LEASE
from smallcluster.checks.rhythm import patience
from smallcluster.checks.run import count, run_live
from smallcluster.cluster import Cluster
from smallcluster.contract import BY_ID
from smallcluster.errors import ExitCode
from smallcluster.evidence import Evidence
from smallcluster.flavours import Flavour
from smallcluster.progress import Progress
from smallcluster.settings import Settings
from smallcluster.static import own
from smallcluster.target import Target
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

    @property
    def unjudged(self) -> tuple[str, ...]:
        """The rules that some check would prove, and none could here, in the contract's order."""
        asked = {rule for finding in self.findings for rule in finding.rules}
        judged = {rule for one in self.findings if one.verdict is not Verdict.UNKNOWN for rule in one.rules}
        return tuple(rule for rule in BY_ID if rule in asked - judged)

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
        if isinstance(self.cluster, Target):
            return "read the logs of its nodes, and its own files: none of them can be seen from here"
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
        step.done(count(files))
    findings += files
    run_live(lambda say: look_at(cluster, kept, say), progress, kept, findings)


def missing(settings: Settings) -> Iterator[Need]:
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
        offers=frozenset(Need) - set(missing(cluster.settings)),
        patience=patience(cluster.settings),
    )
    live.speech = speech_of(live.facts(info_answers))
    return live
