"""`invoke rehearse`: an upgrade planned, run, resumed or abandoned, and what comes of it shown."""

from __future__ import annotations

import json as jsonlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from smallcluster import asked, engine, locks, people
from smallcluster.containers import read_containers
from smallcluster.errors import AskedWronglyError, ExitCode
from smallcluster.settings import database_named, load, nodes_asked, project_name

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster
    from smallcluster.progress import Progress
    from smallcluster.rehearsal.journal import Journal
    from smallcluster.rehearsal.plan import Plan
    from smallcluster.rehearsal.result import RehearsalReport

PLAN = "plan.json"
"""The saved plan, in a cluster's state folder."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The flags of `invoke rehearse`, as they were typed."""

    db: str
    from_: str
    to: str
    nodes: str
    rollback: bool
    on_failure: str
    backups: str
    bootstrap_seconds: str
    force: bool
    plan: bool
    resume: bool
    abandon: bool
    yes: bool
    json: bool


def rehearse(wanted: Asked, *, debug: bool) -> None:
    """`invoke rehearse`."""

    def body() -> ExitCode:
        from smallcluster.rehearsal import run

        began, progress = time.monotonic(), asked.progress()
        _refuse_contradictions(wanted)
        if wanted.resume or wanted.abandon:
            return _show(_resumed(wanted, progress, began), json=wanted.json)
        before, after = _pair(wanted.db, wanted.from_, wanted.to, wanted.nodes, progress)
        plan, saved = _planned(before, after, wanted), before.settings.folder / PLAN
        if wanted.plan:
            return _show_plan(plan, saved, json=wanted.json)
        _confirm(plan, saved, wanted)
        with locks.exclusive(before.settings.db, "rehearse"):
            saved.unlink(missing_ok=True)  # what it was made for will be no more
            report = run.rehearse(before, after, plan, progress, began=began)
        return _show(report, json=wanted.json)

    people.run(body, debug=debug, as_json=wanted.json)


def _refuse_contradictions(wanted: Asked) -> None:
    if sum((wanted.plan, wanted.resume, wanted.abandon)) > 1:
        raise AskedWronglyError("--plan, --resume and --abandon are three things to do.",
                                then="repeat the command with one of them.")  # fmt: skip
    given = [wanted.from_, wanted.to, wanted.nodes, wanted.backups, wanted.bootstrap_seconds]
    if (wanted.resume or wanted.abandon) and (any(given) or wanted.rollback or wanted.on_failure != "stop"):
        raise AskedWronglyError(
            "A rehearsal that was cut off goes on by its own plan.",
            why="--resume and --abandon take no other images, nodes or ways than those it began with.",
            then=f"`invoke rehearse --db={wanted.db} --{'resume' if wanted.resume else 'abandon'}`",
        )


def _planned(before: Cluster, after: Cluster, wanted: Asked) -> Plan:
    from smallcluster.rehearsal import preflight

    return preflight.make_plan(
        before, after, preflight.Wishes(rollback=wanted.rollback, on_failure=wanted.on_failure, force=wanted.force,
                                        backups=wanted.backups, bootstrap_seconds=wanted.bootstrap_seconds)
    )  # fmt: skip


def _show_plan(plan: Plan, saved: Path, *, json: bool) -> ExitCode:
    from smallcluster.rehearsal import plan as plans
    from smallcluster.report import rehearsal as reports

    plans.save(plan, saved)
    if json:
        asked.put(jsonlib.dumps(plan.as_data(), indent=2))
    else:
        reports.print_plan(plan)
        asked.put(f"Saved as {saved}: a run is this plan's, or is refused.")
    return ExitCode.HOLDS


def _confirm(plan: Plan, saved: Path, wanted: Asked) -> None:
    from smallcluster.rehearsal import plan as plans
    from smallcluster.report import rehearsal as reports

    plans.refuse_another(plan, saved)
    if not wanted.yes:
        reports.print_plan(plan)
        people.confirm("Run this plan?", then="repeat the command with --yes, or with --plan to see it alone.")


def _resumed(wanted: Asked, progress: Progress, began: float) -> RehearsalReport:
    from smallcluster.rehearsal import journal as journals
    from smallcluster.rehearsal import run

    database = database_named(wanted.db)
    path = journals.path_of(load(wanted.db, exported=os.environ))
    with locks.exclusive(database, "rehearse"):
        journal = journals.read(path)
        _ask_to_go_on(journal, wanted)
        plan = journal.plan
        before, after = _pair(wanted.db, plan.from_image, plan.to_image, str(plan.nodes), progress)
        journal.abandoned = journal.abandoned or wanted.abandon
        return run.resume(journal, before, after, progress, began=began)


def _ask_to_go_on(journal: Journal, wanted: Asked) -> None:
    if wanted.yes:
        return
    from smallcluster.report import rehearsal as reports

    reports.print_left_to_do(journal, abandon=wanted.abandon)
    people.confirm("Put the old release back?" if wanted.abandon else "Go on with it?",
                   then="repeat the command with --yes.")  # fmt: skip


def _show(report: RehearsalReport, *, json: bool) -> ExitCode:
    from smallcluster.report import rehearsal as reports
    from smallcluster.report import rehearsal_junit, rehearsal_page

    data = reports.rehearsal_as_data(report)
    report.evidence.json("report", data)
    report.evidence.text("report.html", rehearsal_page.page(report))
    rehearsal_junit.write(report, report.evidence.folder / "junit.xml")
    if json:
        asked.put(jsonlib.dumps(data, indent=2))
    else:
        reports.print_rehearsal(report)
    return report.exit_code


def _pair(db: str, from_: str, to: str, nodes: str, progress: Progress) -> tuple[Cluster, Cluster]:
    """The cluster as it is or would be, and as it shall be: two images, two versions, one project."""
    from smallcluster.images import names
    from smallcluster.recipes import PREVIOUS, SERVER

    before = _release(db, nodes, from_ or ("" if _runs(db) else names()[PREVIOUS].local), progress)
    after = _release(db, str(before.settings.nodes), to or names()[SERVER].local, progress)
    return before, after


def _runs(db: str) -> bool:
    return bool(read_containers(engine.connect(), project_name(database_named(db))))


def _release(db: str, nodes: str, image: str, progress: Progress) -> Cluster:
    """A cluster of an image, whose APP_VERSION is what the program in the image says of itself, where it says it."""
    cluster = asked.cluster(db, nodes_asked(nodes), progress, image)
    version = cluster.images["server"].version
    if not version[:1].isdigit() or "APP_VERSION" in os.environ:
        return cluster
    exported = {**os.environ, "APP_VERSION": version.partition(" ")[0]}
    published = cluster.images["server"].flavour == "published"
    settings = load(db, nodes=cluster.settings.nodes, exported=exported, published=published)
    return replace(cluster, settings=settings)
