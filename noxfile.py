#!/usr/bin/env -S python3
"""The same verbs as CI sessions: `nox` runs all of them, `nox -s cluster` the whole cluster on both databases.

A session that needs a Docker engine is skipped, with the reason, where there is none; where
SMALLCLUSTER_REQUIRE_ENGINE=1 (as .ci/run sets it), `invoke setup` supplies one, and failing to is an error.
"""

from __future__ import annotations

import os

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.reuse_existing_virtualenvs = True

ENGINE_REQUIRED = os.environ.get("SMALLCLUSTER_REQUIRE_ENGINE") == "1"
ENGINE_LOOK = """
from smallcluster import engine, errors
try:
    engine.connect().close()
except errors.MachineCannotError as problem:
    print("no engine:", problem.what)
"""
UNFIT = "from smallcluster import images, recipes; print(images.names()[recipes.UNFIT].local)"
JUNIT = ".smallcluster/junit"
"""Where a session that judges a cluster leaves its JUnit XML; CI takes it from there."""
PATIENT = {"interrupt_timeout": 60.0, "terminate_timeout": 60.0}
"""Seconds that a Ctrl-C leaves a verb for taking down what it started; nox's own third of a second is no teardown."""


@nox.session(tags=["quick"])
def lint(session: nox.Session) -> None:
    """Ruff and mypy strict, over harness and reference server."""
    session.install("-e", ".[dev]", "-e", "refserver")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("mypy", "--package", "dw_refserver")


@nox.session(tags=["quick"])
def tests(session: nox.Session) -> None:
    """Unit tests: no Docker, no network, seconds."""
    session.install("-e", ".[dev]")
    session.run("pytest", *(session.posargs or ["tests/unit", "--numprocesses=2"]))


@nox.session(tags=["engine"])
def refserver(session: nox.Session) -> None:
    """The reference server against real MySQL, PostgreSQL and Redis."""
    session.install("-e", ".[dev]", "-e", "refserver")
    _need_machine(session)
    session.run("pytest", *(session.posargs or ["tests/refserver", "--numprocesses=2", "--dist=loadgroup"]))


@nox.session(tags=["engine"])
@nox.parametrize("db", ["mysql", "pgsql"], ids=["mysql", "pgsql"])
def cluster(session: nox.Session, db: str) -> None:
    """The whole cluster on Docker Compose: the smoke, then what must happen when something is wrong."""
    session.install("-e", ".[dev]")
    _need_machine(session)
    if ENGINE_REQUIRED:  # leftovers of a run that was killed with its engine must not stop a new one
        session.run("invoke", "down", f"--db={db}", **PATIENT)
    session.run("invoke", "smoke", f"--db={db}", f"--junit={JUNIT}/smoke-{db}.xml", **PATIENT)
    session.run("pytest", *(session.posargs or ["tests/cluster"]), f"--db={db}", **PATIENT)


@nox.session(default=False)
@nox.parametrize("db", ["mysql", "pgsql"], ids=["mysql", "pgsql"])
def steady(session: nox.Session, db: str) -> None:
    """Fifty smokes in a row on a running cluster (or as many as are asked for): none may find anything."""
    session.install("-e", ".")
    _need_machine(session)
    session.run("invoke", "up", f"--db={db}", **PATIENT)
    try:
        for number in range(int(session.posargs[0]) if session.posargs else 50):
            session.log(f"smoke {number + 1}")
            session.run("invoke", "smoke", f"--db={db}", silent=True, **PATIENT)
    finally:
        session.run("invoke", "down", f"--db={db}", **PATIENT)


@nox.session(default=False)
@nox.parametrize("db", ["mysql", "pgsql"], ids=["mysql", "pgsql"])
def defects(session: nox.Session, db: str) -> None:
    """Every known defect planted in turn: each must be caught by the checks that it names."""
    session.install("-e", ".")
    _need_machine(session)
    session.run("invoke", "defects", f"--db={db}", *session.posargs, **PATIENT)


@nox.session(default=False)
@nox.parametrize("db", ["mysql", "pgsql"], ids=["mysql", "pgsql"])
def upgrade(session: nox.Session, db: str) -> None:
    """The upgrade rehearsal: forward and back; then onto a release whose migration fails, which must be told (10)."""
    session.install("-e", ".")
    _need_machine(session)
    session.run("invoke", "rehearse", f"--db={db}", "--yes", "--rollback", **PATIENT)
    unfit = str(session.run("python", "-c", UNFIT, silent=True)).strip()
    bad = ["--yes", "--on-failure=rollback", f"--to={unfit}"]
    session.run("invoke", "rehearse", f"--db={db}", *bad, success_codes=[10], **PATIENT)


@nox.session(default=False)
def fresh(session: nox.Session) -> None:
    """`invoke setup` on a bare Debian in a chroot, with an engine of its own (root, minutes, much disk)."""
    session.install("-e", ".[dev]")
    session.run("pytest", *(session.posargs or ["tests/fresh"]))


def _need_machine(session: nox.Session) -> None:
    """Have engine and images, or skip with the reason."""
    looked = str(session.run("python", "-c", ENGINE_LOOK, silent=True))
    if not ENGINE_REQUIRED and "no engine" in looked:
        session.skip(looked.strip())
    session.run("invoke", "setup", **PATIENT)


if __name__ == "__main__":
    nox.main()
