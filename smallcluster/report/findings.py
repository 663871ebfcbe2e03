"""A finding as plain data, for every report that has findings. Keys are stable; add, never rename."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from smallcluster.contract import BY_ID
from smallcluster.verdicts import Finding, Verdict


def finding_as_data(finding: Finding, then: str) -> dict[str, Any]:
    """One finding with the sentences of its rules and where they stand; `then` is what to do next."""
    judgement = asdict(finding.judgement)
    judgement.pop("verdict")
    return {
        "check": finding.check,
        "title": finding.title,
        "rules": [asdict(BY_ID[rule]) for rule in finding.rules],
        "verdict": finding.verdict.value,
        "warning": finding.warning and finding.verdict is not Verdict.HOLDS,
        "seconds": round(finding.seconds, 3),
        "waits_seconds": finding.waits,
        **judgement,
        "then": then,
    }
