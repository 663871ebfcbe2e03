"""The result of static checks, for a person and for a machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smallcluster.report.console import console, print_finding, verdict_mark
from smallcluster.report.findings import finding_as_data
from smallcluster.verdicts import EXIT_CODES, Finding, Verdict, merged

CHECK_SCHEMA = "smallcluster.check/1"


def check_as_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """The whole result. Keys are stable; add, never rename."""
    verdict = merged(findings)
    found = [finding_as_data(finding, finding.judgement.then) for finding in findings]
    return {"schema": CHECK_SCHEMA, "verdict": verdict.value, "exit_code": int(EXIT_CODES[verdict]), "checks": found}


def print_check(findings: Sequence[Finding]) -> None:
    """Each finding, and the verdict as the last line."""
    out, verdict = console(), merged(findings)
    for finding in findings:
        said = finding.judgement
        advice = (("expected", said.expected), ("likely", said.cause), ("next", said.then))
        print_finding(out, finding, [(word, text) for word, text in advice if text])
    counts = ", ".join(f"{sum(one.verdict is kind for one in findings)} {kind.value}" for kind in Verdict)
    mark, colour = verdict_mark(verdict)
    line = f"{mark} Verdict: {verdict.value.upper()} (files; {counts}; exit {int(EXIT_CODES[verdict])})"
    out.print(line, style=f"bold {colour}", markup=False, soft_wrap=True)
