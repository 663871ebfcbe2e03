"""Reports as plain data, for `--json` and for the evidence folder. Keys are stable; add, never rename."""

from __future__ import annotations

from typing import Any

from smallcluster.errors import PersonError
from smallcluster.evidence import image_records
from smallcluster.progress import Phase
from smallcluster.report.findings import finding_as_data
from smallcluster.smoke import SmokeReport
from smallcluster.visits import Ended

SMOKE_SCHEMA = "smallcluster.smoke/1"


def smoke_as_data(report: SmokeReport) -> dict[str, Any]:
    """A smoke's whole result: verdict, exit code, images, findings, phases (seconds), evidence folder."""
    return {
        "schema": SMOKE_SCHEMA,
        "verdict": report.verdict.value,
        "exit_code": int(report.exit_code),
        "unjudged_rules": list(report.unjudged),
        "checks": [finding_as_data(finding, report.next_step(finding)) for finding in report.findings],
        **ended_as_data(report),
    }


def ended_as_data(report: Ended) -> dict[str, Any]:
    """What every visit of a cluster tells: which cluster, which images, how it went, where the evidence is."""
    settings = report.cluster.settings
    return {
        "database": settings.db.value,
        "nodes": settings.nodes,
        "project": settings.project,
        "images": image_records(report.cluster.images),
        "problem": problem_as_data(report.problem) if report.problem else None,
        "phases": [phase_as_data(phase) for phase in report.phases],
        "seconds": round(report.seconds, 2),
        "brought_up": report.brought_up,
        "left_running": report.left_running,
        "incomplete_evidence": report.evidence.incomplete,
        "evidence": str(report.evidence.folder),
    }


def phase_as_data(phase: Phase) -> dict[str, Any]:
    """One phase with its parts."""
    parts = [phase_as_data(part) for part in phase.parts]
    return {"name": phase.name, "seconds": round(phase.seconds, 2)} | ({"parts": parts} if parts else {})


def problem_as_data(problem: PersonError) -> dict[str, Any]:
    """A stop as data: what, seen, why, then, and the exit code."""
    return {
        "what": problem.what,
        "seen": problem.seen,
        "why": problem.why,
        "then": problem.then,
        "exit_code": int(problem.code),
    }
