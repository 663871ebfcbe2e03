"""The result of planting defects, for a person and for a machine."""

from __future__ import annotations

from typing import Any

from smallcluster.defects.run import DefectsReport, Trial
from smallcluster.report.console import console, print_left, print_table

DEFECTS_SCHEMA = "smallcluster.defects/1"


def defects_as_data(report: DefectsReport) -> dict[str, Any]:
    """The whole result. Keys are stable; add, never rename."""
    return {
        "schema": DEFECTS_SCHEMA,
        "database": report.cluster.settings.db.value,
        "exit_code": int(report.exit_code),
        "problem": str(report.problem) if report.problem else None,
        "seconds": round(report.seconds, 1),
        "evidence": str(report.evidence.folder),
        "defects": [_trial_as_data(trial) for trial in report.trials],
    }


def _trial_as_data(trial: Trial) -> dict[str, Any]:
    return {
        "defect": trial.defect.id,
        "says": trial.defect.says,
        "breaks": list(trial.defect.breaks),
        "caught": trial.caught,
        "right_rule": trial.blamed,
        "red": sorted(trial.red),
        "missed": list(trial.missed),
        "seconds": round(trial.seconds, 1),
        "planting_seconds": round(trial.planting, 1),
    }


def print_defects(report: DefectsReport) -> None:
    """A line per defect, what stopped the run early, and how it ended as the last line."""
    out = console()
    print_table(("Defect", "Verdict", "By", "Rule", "Seconds"), [_row(trial) for trial in report.trials])
    if report.problem is not None:
        out.print(f"\n{report.problem}", style="yellow", markup=False, soft_wrap=True)
    print_left(out, report)
    colour = "red" if report.exit_code else "green"
    out.print(_sentence(report), style=f"bold {colour}", markup=False, soft_wrap=True)


def _row(trial: Trial) -> tuple[str, str, str, str, str]:
    defect = trial.defect
    if defect.harmless:
        return defect.id, "green" if trial.caught else "RED", ", ".join(trial.red), "", f"{trial.seconds:.1f}"
    by = ", ".join(defect.caught_by) if trial.caught else f"not by {', '.join(trial.missed)}"
    blamed = "right" if trial.blamed else "WRONG"
    return defect.id, "caught" if trial.caught else "MISSED", by, blamed, f"{trial.seconds:.1f}"


def _sentence(report: DefectsReport) -> str:
    """How many were caught, and what was missed."""
    good = sum(trial.caught and trial.blamed for trial in report.trials)
    wrong = [trial.defect.id for trial in report.trials if not (trial.caught and trial.blamed)]
    told = f"{good} of {len(report.trials)} as they must be" + (f"; not {', '.join(wrong)}" if wrong else "")
    return f"Defects: {told} ({report.cluster.settings.db.value}; {report.seconds:.0f} s; exit {int(report.exit_code)})"
