"""A rehearsal's result, for a person and for a machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from smallcluster.rehearsal import floor
from smallcluster.rehearsal import plan as plans
from smallcluster.rehearsal.journal import Done, Journal
from smallcluster.rehearsal.plan import WINDOW, Plan
from smallcluster.rehearsal.result import RehearsalReport
from smallcluster.report.console import console, print_left, print_table, verdict_mark
from smallcluster.report.findings import finding_as_data
from smallcluster.report.machine import ended_as_data, problem_as_data

REHEARSAL_SCHEMA = "smallcluster.rehearsal/1"


def rehearsal_as_data(report: RehearsalReport) -> dict[str, Any]:
    """The whole result. Keys are stable; add, never rename. Times are seconds since the epoch."""
    copy = report.facts.copy
    return {
        "schema": REHEARSAL_SCHEMA,
        "verdict": report.verdict.value,
        "exit_code": int(report.exit_code),
        "plan": report.plan.as_data(),
        "steps": [_step_as_data(done) for done in report.attempts],
        "outages": [
            {"kind": one.kind, "since": one.since, "until": one.until, "seconds": one.seconds,
             "refused": one.refused, "unanswered": one.unanswered}
            for one in report.outages
        ],
        "downtime_seconds": report.longest,
        "floor_seconds": report.facts.floor or None,
        "downtime_ratio": _ratio(report),
        "backup": {"path": str(copy.path), "bytes": copy.size, "sha256": copy.sha256} if copy else None,
        "schema_versions": report.facts.schema,
        "tables_before": {name: asdict(table) for name, table in report.facts.held.items()},
        "gone_back": report.gone_back,
        "abandoned": report.abandoned,
        "resumable": report.resumable,
        "cut_off": [{"since": since, "until": until} for since, until in report.gaps],
        "not_judged": list(report.unjudged),
        "probe_lateness_seconds": round(report.lateness, 3),
        "checks": [finding_as_data(finding, finding.judgement.then) for finding in report.findings],
        **ended_as_data(report),
    }  # fmt: skip


def _ratio(report: RehearsalReport) -> float | None:
    """The downtime over the floor; None where one of them is not known."""
    least, seen = sum(report.facts.floor.values()), report.judged_downtime
    return round(seen / least, 2) if least and seen is not None else None


def _step_as_data(done: Done) -> dict[str, Any]:
    problem = problem_as_data(done.problem) if done.problem else None
    return {"step": done.step.id, "began": done.began, "ended": done.ended or None, "seen": list(done.told),
            "verified": done.verified, "problem": problem}  # fmt: skip


def print_plan(plan: Plan) -> None:
    """The plan, on stdout."""
    for line in plans.lines(plan):
        console().print(line, markup=False, soft_wrap=True)


def print_left_to_do(journal: Journal, *, abandon: bool) -> None:
    """How far a rehearsal came that was cut off, and what is done now."""
    out, plan = console(), journal.plan
    out.print(f"A rehearsal from {plan.from_version} to {plan.to_version}: {journal.stands}.", markup=False)
    steps = journal.left_to_abandon() if abandon else journal.left_to_do()
    for number, step in enumerate(steps, 1):
        out.print(f"{number:2}. {step.title}: {step.verified}", markup=False, soft_wrap=True)


def print_rehearsal(report: RehearsalReport) -> None:
    """The steps, what clients felt, and the verdict as the last line."""
    out = console()
    print_table(("Step", "Began", "Seconds", "Seen"), [_row(done) for done in report.attempts])
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
    seen = str(done.problem.what) if done.problem else "; ".join(done.told)
    return done.step.title, f"{datetime.fromtimestamp(done.began, UTC):%H:%M:%S}", f"{done.seconds:.1f}", seen


def _felt(report: RehearsalReport) -> Iterator[str]:
    if not report.attempts:
        return
    yield ""
    for outage in report.outages:
        lasted = f"{outage.seconds:.1f} s" if outage.seconds is not None else "to the end"
        how = f"{outage.refused} answered 5xx, {outage.unanswered} without an answer"
        yield f"Not served, {outage.kind}: {lasted} ({how})"
    if not report.outages:
        yield "Every probe was served."
    cost: dict[str, float] = {}
    for one in report.attempts:
        if one.step.id in WINDOW:
            cost[one.step.title] = cost.get(one.step.title, 0.0) + one.seconds
    if cost:
        parts = ", ".join(f"{title.lower()} {seconds:.1f} s" for title, seconds in cost.items())
        yield f"What the window consisted of: {parts}"
    if report.facts.floor:
        yield f"The window: {floor.told(report.facts.floor, report.judged_downtime)}"
    yield f"A probe was sent at most {report.lateness:.2f} s after its turn."
    yield from (f"Not judged: {one}" for one in report.unjudged)


def _way_out(report: RehearsalReport) -> Iterator[str]:
    """What there is to do where it did not come to its end, and the cluster stays."""
    if report.gone_back and report.problem is not None:
        yield "The way back was gone: the old release runs on what the backup held."
    if not report.resumable:
        return
    db = report.plan.database
    left = report.attempts[-1].step.title if report.attempts else "nothing was stopped"
    yield f"The cluster is left as the last step left it ({left})."
    yield f"  invoke rehearse --db={db} --resume    does that step again, and goes on"
    yield f"  invoke rehearse --db={db} --abandon   puts the old release back"
    undone = [one.step for one in reversed(report.attempts) if one.step.undone]
    if undone:
        yield "By hand, undone backwards:"
    yield from (f"  {step.title}: {step.undone}" for step in dict.fromkeys(undone))


def _sentence(report: RehearsalReport) -> str:
    plan = report.plan
    if report.abandoned and report.gone_back:
        return (
            f"Abandoned: the {plan.database} cluster is {'left as it was' if report.left_running else 'gone'}, "
            f"the old release, {plan.from_version} (exit {int(report.exit_code)})"
        )
    return (
        f"Verdict: {report.verdict.value.upper()} ({plan.database}, {plan.nodes} nodes, {plan.from_version} to "
        f"{plan.to_version}; {report.verified} of {len(plan.steps)} steps verified; {report.seconds:.1f} s; "
        f"exit {int(report.exit_code)})"
    )
