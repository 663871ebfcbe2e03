"""The verbs that look at no engine and no cluster: the contract itself, and env files held against it."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from smallcluster import asked, people
from smallcluster.errors import AskedWronglyError, ExitCode
from smallcluster.settings import Settings, load, nodes_asked

if TYPE_CHECKING:
    from smallcluster.verdicts import Finding


def contract(*, json: bool, markdown: bool, debug: bool) -> None:
    """`invoke contract`."""

    def body() -> ExitCode:
        from smallcluster.report import console
        from smallcluster.report import contract as contract_

        if json and markdown:
            raise AskedWronglyError(
                "--json and --markdown are two ways to print one thing.", then="repeat the command with one of them."
            )
        if json:
            asked.put(jsonlib.dumps(contract_.contract_as_data(), indent=2))
        elif markdown:
            asked.put(contract_.markdown().rstrip())
        else:
            console.print_table(("Rule", "Says", "Checks", "Defects"), contract_.table())
        return ExitCode.HOLDS

    people.run(body, debug=debug, as_json=json)


def check(*, db: str, nodes: str, env: Sequence[str], nginx: str, compose: str, json: bool, debug: bool) -> None:
    """`invoke check`."""

    def body() -> ExitCode:
        from smallcluster.report import static as reports
        from smallcluster.verdicts import EXIT_CODES, merged

        if bool(db) == bool(env or nginx or compose):
            raise AskedWronglyError(
                "Either --db, or --env, --nginx and --compose, say which files are checked.",
                then="type `invoke check --db=mysql`, or `invoke check --env=server-a=a.env --env=server-b=b.env`.",
            )
        findings = _of_rendered(db, nodes) if db else _of_files(env, nginx, compose)
        if json:
            asked.put(jsonlib.dumps(reports.check_as_data(findings), indent=2))
        else:
            reports.print_check(findings)
        return EXIT_CODES[merged(findings)]

    people.run(body, debug=debug, as_json=json)


def _of_rendered(db: str, nodes: str) -> list[Finding]:
    from smallcluster.cluster import compose_of
    from smallcluster.errors import MachineCannotError
    from smallcluster.flavours import Flavour
    from smallcluster.render import render
    from smallcluster.static import OF_ENVIRONMENTS, OF_NGINX, own
    from smallcluster.static import nginx as nginx_
    from smallcluster.static.base import rendered

    settings = _settings(db, nodes)
    conf = next(path for path in render(settings) if path.name == "nginx.conf")
    try:
        compose = compose_of(settings, Flavour.REFERENCE, {name: name for name in ("nginx", "redis", "server", db)})
    except MachineCannotError as problem:
        sys.stderr.write(f"The files in compose/ are not checked: {problem.what}\n")
        seen, balancer = rendered(settings), nginx_.read(conf)
        return [*(one.run(seen) for one in OF_ENVIRONMENTS), *(one.run(balancer) for one in OF_NGINX)]
    return own.findings(settings, compose)


def _of_files(env: Sequence[str], nginx: str, compose: str) -> list[Finding]:
    from smallcluster.static import OF_COMPOSITION, OF_ENVIRONMENTS, OF_NGINX, composition
    from smallcluster.static import nginx as nginx_
    from smallcluster.static.base import environments, files_named

    findings: list[Finding] = []
    whole = composition.read(Path(compose)) if compose else None
    if env or whole:
        seen = environments(files_named(env)) if env or not whole else whole.environments()
        findings += [one.run(seen) for one in OF_ENVIRONMENTS]
    if nginx:
        balancer = nginx_.read(Path(nginx))
        findings += [one.run(balancer) for one in OF_NGINX]
    if whole:
        findings += [one.run(whole) for one in OF_COMPOSITION]
    return findings


def _settings(db: str, nodes: str) -> Settings:
    settings = load(db, nodes=nodes_asked(nodes) or 2, exported=os.environ)
    for notice in settings.notices:
        sys.stderr.write(notice + "\n")
    return settings
