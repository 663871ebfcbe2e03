"""A rehearsal's result, for a person and for a machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from smallcluster.rehearsal import plan as plans
from smallcluster.rehearsal.plan import WINDOW, Plan
from smallcluster.rehearsal.run import Done, RehearsalReport
from smallcluster.report.console import console, print_left, print_table, verdict_mark
from smallcluster.report.findings import finding_as_data
from smallcluster.report.machine import ended_as_data, problem_as_data

REHEARSAL_SCHEMA = "smallcluster.rehearsal/1"


def rehearsal_as_data(report: RehearsalReport) -> dict[str, Any]:
    """The whole result. Keys are stable; add, never rename. Times are seconds since the epoch."""
    return {
        "schema": REHEARSAL_SCHEMA,
        "verdict": report.verdict.value,
        "exit_code": int(report.exit_code),
        "plan": report.plan.as_data(),
        "steps": [_step_as_data(done) for done in report.steps],
        "outages": [
            {"kind": one.kind, "since": one.since, "until": one.until, "seconds": one.seconds,
             "refused": one.refused, "unanswered": one.unanswered}
            for one in report.outages
        ],
        "gone_back": report.gone_back,
        "probe_lateness_seconds": round(report.lateness, 3),
        "checks": [finding_as_data(finding, finding.judgement.then) for finding in report.findings],
        **ended_as_data(report),
    }  # fmt: skip


def _step_as_data(done: Done) -> dict[str, Any]:
    problem = problem_as_data(done.problem) if done.problem else None
    return {"step": done.step.id, "began": done.began, "ended": done.ended, "seen": list(done.seen), "problem": problem}


def print_plan(plan: Plan) -> None:
    """The plan, on stdout."""
    for line in plans.lines(plan):
        console().print(line, markup=False, soft_wrap=True)


def print_rehearsal(report: RehearsalReport) -> None:
    """The steps, what clients felt, and the verdict as the last line."""
    out = console()
    print_table(("Step", "Began", "Seconds", "Seen"), [_row(done) for done in report.steps])
    for line in _felt(report):
        out.print(line, markup=False, soft_wrap=True)
    if report.problem is not None:
        out.print(f"\n{report.problem}", style="yellow", markup=False, soft_wrap=True)
        for line in _way_out(report):
            out.print(line, style="yellow", markup=False, soft_wrap=True)
    print_left(out, report)
    mark, colour = verdict_mark(report.verdict)
    out.print(f"{mark} {_sentence(report)}", style=f"bold {colour}", markup=False, soft_wrap=True)


def _row(done: Done) -> tuple[str, str, str, str]:
    seen = str(done.problem.what) if done.problem else "; ".join(done.seen)
    return done.step.title, f"{datetime.fromtimestamp(done.began, UTC):%H:%M:%S}", f"{done.seconds:.1f}", seen


def _felt(report: RehearsalReport) -> Iterator[str]:
    if not report.steps:
        return
    yield ""
    for outage in report.outages:
        lasted = f"{outage.seconds:.1f} s" if outage.seconds is not None else "to the end"
        how = f"{outage.refused} answered 5xx, {outage.unanswered} without an answer"
        yield f"Not served, {outage.kind}: {lasted} ({how})"
    if not report.outages:
        yield "Every probe was served."
    cost = {one.step.title: one.seconds for one in report.steps if one.step.id in WINDOW}
    yield "What the window consisted of: " + ", ".join(
        f"{title.lower()} {seconds:.1f} s" for title, seconds in cost.items()
    )
    yield f"A probe was sent at most {report.lateness:.2f} s after its turn."


def _way_out(report: RehearsalReport) -> Iterator[str]:
    """What a step that failed leaves behind, where the cluster stays."""
    if report.gone_back:
        yield "The way back was gone: the old release runs on what the backup held."
    if report.gone_back or not report.left_running or not report.steps:
        return
    yield "The cluster is left as the failed step found or left it. Undone backwards:"
    for done in reversed(report.steps):
        if done.step.undone:
            yield f"  {done.step.title}: {done.step.undone}"


def _sentence(report: RehearsalReport) -> str:
    plan = report.plan
    verified = sum(one.problem is None for one in report.steps)
    return (
        f"Verdict: {report.verdict.value.upper()} ({plan.database}, {plan.nodes} nodes, {plan.from_version} to "
        f"{plan.to_version}; {verified} of {len(plan.steps)} steps verified; {report.seconds:.1f} s; "
        f"exit {int(report.exit_code)})"
    )
