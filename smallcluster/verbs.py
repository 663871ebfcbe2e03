"""What each verb does, in a few lines: settings in, one library call, a view of the result, an exit code."""

from __future__ import annotations

import json as jsonlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallcluster import asked, engine, files, locks, people
from smallcluster.containers import read_containers
from smallcluster.errors import AskedWronglyError, ExitCode
from smallcluster.paths import STATE
from smallcluster.progress import Progress
from smallcluster.settings import Database, Settings, database_named, nodes_asked, project_name

if TYPE_CHECKING:
    from docker import DockerClient

    from smallcluster.cluster import Cluster
    from smallcluster.setup import SetupReport
    from smallcluster.smoke import SmokeReport


def setup(*, json: bool, debug: bool) -> None:
    """`invoke setup`."""

    def body() -> ExitCode:
        from smallcluster import setup as setup_

        return _show_setup(setup_.setup(asked.progress()), json=json)

    people.run(body, debug=debug, as_json=json)


def doctor(*, json: bool, debug: bool) -> None:
    """`invoke doctor`."""

    def body() -> ExitCode:
        from smallcluster import setup as setup_

        return _show_setup(setup_.doctor(), json=json)

    people.run(body, debug=debug, as_json=json)


def render(*, db: str, nodes: str, explain: bool, debug: bool) -> None:
    """`invoke render`."""

    def body() -> ExitCode:
        from smallcluster import render as render_

        settings = asked.settings(db, nodes_asked(nodes) or 2, asked.progress())
        paths = render_.render(settings)
        if explain:
            _explain(settings)
        else:
            for path in paths:
                asked.put(str(path))
        return ExitCode.HOLDS

    people.run(body, debug=debug)


def up(*, db: str, nodes: str, image: str, json: bool, debug: bool) -> None:
    """`invoke up`."""

    def body() -> ExitCode:
        progress = asked.progress()
        cluster = asked.cluster(db, nodes_asked(nodes), progress, image)
        with locks.exclusive(cluster.settings.db, "up"):
            from smallcluster import lifecycle

            routes = lifecycle.up(cluster, progress)
        if json:
            asked.put(jsonlib.dumps({"project": cluster.settings.project, "routes": routes}))
        else:
            from smallcluster.report import console

            console.print_table(("Route", "Address"), routes.items())
        return ExitCode.HOLDS

    people.run(body, debug=debug, as_json=json)


def bootstrap(*, db: str, debug: bool) -> None:
    """`invoke bootstrap` and `invoke migrate`."""

    def body() -> ExitCode:
        from smallcluster import lifecycle

        progress = asked.progress()
        cluster = asked.cluster(db, 0, progress)
        with locks.exclusive(cluster.settings.db, "bootstrap"):
            asked.put(lifecycle.bootstrap(cluster, progress).strip())
        return ExitCode.HOLDS

    people.run(body, debug=debug)


def smoke(
    *,
    db: str,
    nodes: str,
    image: str,
    keep: bool,
    target: str,
    nodes_unreachable: bool,
    read_only: bool,
    strict: bool,
    json: bool,
    junit: str,
    debug: bool,
) -> None:
    """`invoke smoke`: of this checkout's own cluster, or of a target."""

    def body() -> ExitCode:
        began, progress = time.monotonic(), asked.progress()
        ours = {"--db": db, "--nodes": nodes, "--image": image, "--keep": keep}
        theirs = {"--nodes-unreachable": nodes_unreachable, "--read-only": read_only}
        _refuse_mixed(target, ours if target else theirs)
        if junit:
            files.refuse_unwritable(Path(junit).absolute())
        if target:
            report = _smoke_of_target(target, nodes_unreachable, read_only, progress, strict=strict, began=began)
        else:
            report = _smoke(asked.cluster(db, nodes_asked(nodes), progress, image), progress, keep, strict, began)
        return _told(report, progress, json=json, junit=junit)

    people.run(body, debug=debug, as_json=json)


def _refuse_mixed(target: str, given: Mapping[str, object]) -> None:
    flags = [name for name, value in given.items() if value]
    if flags:
        raise AskedWronglyError(
            f"{flags[0]} is of no use {'with' if target else 'without'} --target.",
            why="a target is somebody else's cluster: nothing of it is started here, and it says itself what it is."
            if target
            else "it says how somebody else's cluster is asked.",
            then=f"repeat the command without {', '.join(flags)}.",
        )


def _smoke(cluster: Cluster, progress: Progress, keep: bool, strict: bool, began: float) -> SmokeReport:
    from smallcluster import smoke as smoke_

    with locks.exclusive(cluster.settings.db, "smoke"):
        return smoke_.smoke(cluster, progress, keep=keep, strict=strict, began=began)


def _smoke_of_target(
    file: str, nodes_unreachable: bool, read_only: bool, progress: Progress, *, strict: bool, began: float
) -> SmokeReport:
    from smallcluster import smoke_target, target

    asked = target.read(Path(file), nodes_unreachable=nodes_unreachable, read_only=read_only)
    return smoke_target.smoke_target(asked, progress, strict=strict, began=began)


def _told(report: SmokeReport, progress: Progress, *, json: bool, junit: str) -> ExitCode:
    """Tell a smoke's result everywhere it is asked for."""
    from smallcluster.report import annotations, console, machine
    from smallcluster.report import junit as junit_

    data = machine.smoke_as_data(report)
    report.evidence.json("report", data)  # first what stays, then what a reader may not wait for
    if junit:
        junit_.write(report, Path(junit))
    for line in annotations.lines(report) if progress.workflow_log else ():
        progress.line(line)
    if json:
        asked.put(jsonlib.dumps(data, indent=2))
    else:
        console.print_smoke(report)
    return report.exit_code


def bench(*, db: str, runs: str, seconds: str, polls: str, hold: str, json: bool, debug: bool) -> None:
    """`invoke bench`."""

    def body() -> ExitCode:
        from smallcluster.bench import plan as plans
        from smallcluster.bench import run
        from smallcluster.render import poll_hold
        from smallcluster.report import bench as reports

        began, progress = time.monotonic(), asked.progress()
        cluster = asked.cluster(db, 0, progress)
        longest = poll_hold(cluster.settings)
        plan = plans.plan_asked(runs=runs, seconds=seconds, polls=polls, hold=hold, longest_hold=longest)
        with locks.exclusive(cluster.settings.db, "bench"):
            report = run.bench(cluster, progress, plan, began=began)
        data = reports.bench_as_data(report)
        report.evidence.json("bench", data)
        if json:
            asked.put(jsonlib.dumps(data, indent=2))
        else:
            reports.print_bench(report)
        return report.exit_code

    people.run(body, debug=debug, as_json=json)


def defects(*, db: str, only: Sequence[str], json: bool, debug: bool) -> None:
    """`invoke defects`."""

    def body() -> ExitCode:
        from smallcluster.defects import chosen
        from smallcluster.defects import run as defects_
        from smallcluster.report import defects as reports

        began, progress = time.monotonic(), asked.progress()
        wanted = chosen(only)
        cluster = asked.cluster(db, 0, progress)
        with locks.exclusive(cluster.settings.db, "defects"):
            report = defects_.defects(cluster, progress, wanted, began=began)
        data = reports.defects_as_data(report)
        report.evidence.json("defects", data)
        if json:
            asked.put(jsonlib.dumps(data, indent=2))
        else:
            reports.print_defects(report)
        return report.exit_code

    people.run(body, debug=debug, as_json=json)


def status(*, db: str, json: bool, debug: bool) -> None:
    """`invoke status`."""

    def body() -> ExitCode:
        from dataclasses import asdict

        from smallcluster.left_behind import left_behind
        from smallcluster.report import console

        client = engine.connect()
        found = {name: read_containers(client, project_name(name)) for name in _databases(db)}
        if json:
            data = {
                name.value: {service: asdict(one) for service, one in containers.items()}
                for name, containers in found.items()
            }
            asked.put(jsonlib.dumps(data, indent=2))
            return ExitCode.HOLDS
        for name, containers in found.items():
            console.print_status(containers, project_name(name), left_behind(client, name, STATE / name.value))
        return ExitCode.HOLDS

    people.run(body, debug=debug, as_json=json)


def logs(*, db: str, services: Sequence[str], follow: bool, debug: bool) -> None:
    """`invoke logs`."""

    def body() -> ExitCode:
        from smallcluster import logs as logs_

        client = engine.connect()
        database = database_named(db) if db else _the_one_there(client)
        settings = asked.settings(database.value, 2, asked.progress())
        logs_.print_logs(client, settings, services, follow=follow, out=sys.stdout)
        return ExitCode.HOLDS

    people.run(body, debug=debug)


def down(*, db: str, debug: bool) -> None:
    """`invoke down`."""

    def body() -> ExitCode:
        from smallcluster.teardown import take_down

        progress, client = asked.progress(), engine.connect()
        for database in _databases(db):
            with locks.exclusive(database, "down"):
                if not take_down(client, project_name(database), progress):
                    progress.line(f"Nothing of {project_name(database)} is there.")
        return ExitCode.HOLDS

    people.run(body, debug=debug)


def completion(*, shell: str, debug: bool) -> None:
    """`invoke completion`."""

    def body() -> ExitCode:
        from smallcluster.completion import chosen_shell, script

        asked.put(script(chosen_shell(shell, os.environ.get("SHELL", ""))).rstrip())
        return ExitCode.HOLDS

    people.run(body, debug=debug)


def _databases(db: str) -> list[Database]:
    return [database_named(db)] if db else list(Database)


def _the_one_there(client: DockerClient) -> Database:
    there = [name for name in Database if read_containers(client, project_name(name))]
    if len(there) == 1:
        return there[0]
    raise AskedWronglyError(
        "No database was named, and " + ("both clusters are there." if there else "no cluster is there."),
        then="repeat the command with --db=mysql or --db=pgsql." if there else "invoke up --db=mysql",
    )


def _show_setup(report: SetupReport, *, json: bool) -> ExitCode:
    from dataclasses import asdict

    from smallcluster.report import console

    if json:
        asked.put(jsonlib.dumps(asdict(report), indent=2))
    else:
        rows = [(item.name, item.state, item.seen, item.fix) for item in report.items]
        console.print_table(("What", "State", "Seen", "To do"), rows)
    return ExitCode.HOLDS if report.ready else ExitCode.MACHINE_CANNOT


def _explain(settings: Settings) -> None:
    from smallcluster import render as render_
    from smallcluster.report import console

    rows: list[tuple[Any, ...]] = [
        (container, f"{line.name}={line.shown}", line.where) for container, line in render_.explain(settings)
    ]
    console.print_table(("Container", "Line", "From"), rows)
