"""A smoke as annotations of a GitHub Actions run: one line for each check that does not hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from smallcluster.contract import BY_ID
from smallcluster.redaction import redact
from smallcluster.smoke import SmokeReport
from smallcluster.verdicts import Finding, Verdict

_SPECIAL_IN_TEXT = "%\r\n"
_SPECIAL_IN_TITLE = _SPECIAL_IN_TEXT + ":,"
_LEVELS = {Verdict.BROKEN: "error", Verdict.UNKNOWN: "warning"}


def lines(report: SmokeReport) -> Iterator[str]:
    """The workflow commands of a smoke, secrets hidden: errors for what is broken, warnings for what is unknown."""
    secrets = report.evidence.secrets
    for finding in report.findings:
        if level := _LEVELS.get(finding.verdict):
            said = "\n".join(_said(finding, report.advice(finding)))
            yield command("warning" if finding.warning else level, finding.check, redact(said, secrets))
    if report.problem is not None:
        yield command("error", "the run itself", redact(str(report.problem), secrets))


def command(level: str, title: str, text: str) -> str:
    """One workflow command, always one line: what would end it, or a part of it, is escaped."""
    return f"::{level} title={_escaped(title, _SPECIAL_IN_TITLE)}::{_escaped(text, _SPECIAL_IN_TEXT)}"


def _escaped(text: str, special: str) -> str:
    return "".join(f"%{ord(character):02X}" if character in special else character for character in text)


def _said(finding: Finding, advice: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"{finding.title}: {finding.verdict.value}"
    yield from (f"rule {rule}: {BY_ID[rule].sentence}" for rule in finding.rules)
    yield from finding.judgement.evidence
    yield from (f"{word}: {text}" for word, text in advice)
