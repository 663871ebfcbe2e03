"""The CI workflow: it runs the sessions that there are, over the two databases, with no more rights than it needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from smallcluster.paths import CHECKOUT
from smallcluster.settings import Database

JOBS = ("quick", "refserver", "cluster")
SESSIONS = re.compile(r"nox -s (?:\"([^\"]+)\"|(\S+))")
VARIABLE = re.compile(r"\$\{\{ matrix\.(\w+) \}\}")


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def sessions() -> set[str]:
    """Every session of noxfile.py that runs by default, as `nox -s` takes its name."""
    told = subprocess.run(
        [sys.executable, "-m", "nox", "--list-sessions", "--json"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {one["session"] for one in json.loads(told.stdout)} - {"fresh", "steady(mysql)", "steady(pgsql)"}


def matrix_of(job: dict[str, Any]) -> dict[str, list[str]]:
    matrix: dict[str, list[str]] = job.get("strategy", {}).get("matrix", {})
    return matrix


def sessions_of(job: dict[str, Any]) -> set[str]:
    """The nox sessions that a job runs, over its whole matrix."""
    found = [match for step in job["steps"] for match in SESSIONS.findall(step.get("run", ""))]
    return {name for quoted, bare in found for name in _over_matrix(quoted or bare, matrix_of(job))}


def _over_matrix(name: str, matrix: dict[str, list[str]]) -> list[str]:
    variable = VARIABLE.search(name)
    return [name.replace(variable[0], value) for value in matrix[variable[1]]] if variable else [name]


def test_every_session_of_the_noxfile_is_run_and_no_other(workflow: dict[str, Any], sessions: set[str]) -> None:
    assert set(workflow["jobs"]) == set(JOBS)
    assert set().union(*(sessions_of(job) for job in workflow["jobs"].values())) == sessions


def test_the_matrix_is_the_two_databases(workflow: dict[str, Any]) -> None:
    assert matrix_of(workflow["jobs"]["cluster"]) == {"db": [database.value for database in Database]}


@pytest.mark.parametrize("job", JOBS)
def test_a_job_is_bounded_and_uses_pinned_official_actions(workflow: dict[str, Any], job: str) -> None:
    described = workflow["jobs"][job]
    assert 0 < described["timeout-minutes"] <= 60
    assert "permissions" not in described  # the workflow's own hold: read, and nothing else
    used = [step["uses"] for step in described["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used)


def test_it_may_read_and_no_more(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request" in workflow[True]  # YAML 1.1 reads the key `on` as true; GitHub does not


def test_a_runner_without_an_engine_is_an_error(workflow: dict[str, Any]) -> None:
    assert workflow["env"]["SMALLCLUSTER_REQUIRE_ENGINE"] == "1"


def test_of_the_state_folder_only_what_holds_no_secret_is_uploaded(workflow: dict[str, Any]) -> None:
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    uploads = [step["with"] for step in steps if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert uploads
    for upload in uploads:
        taken = [path for path in upload["path"].split() if not path.startswith("!")]
        assert all(path in (".smallcluster/junit", ".smallcluster/evidence") for path in taken)
        assert upload["include-hidden-files"] is True  # else nothing below a name with a dot is taken
