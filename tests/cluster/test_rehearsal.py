"""A stop-the-world upgrade, rehearsed: forward on both databases, onto an image that fails, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from smallcluster.images import names
from smallcluster.recipes import PREVIOUS, SERVER, UNFIT
from smallcluster.rehearsal.plan import STEPS, WAY_BACK

from .conftest import Invoke, containers, leftovers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300), pytest.mark.usefixtures("nothing_running")]


def test_forward_and_back_with_work_in_flight(invoke: Invoke, client: Any, db: str) -> None:
    ran = invoke("rehearse", f"--db={db}", "--yes", "--rollback", "--json")
    assert ran.code == 0, ran.err
    data = ran.data
    assert (data["verdict"], data["plan"]["from_version"], data["plan"]["to_version"]) == ("holds", "0.1.0", "0.2.0")
    seen = {one["step"]: one["seen"] for one in data["steps"]}
    assert list(seen) == [step.id for step in (*STEPS, *WAY_BACK)]
    assert seen["bootstrap"][0] == "schema 0004 before, 0005 after"
    assert seen["compare"][0].startswith("24 acknowledged runs, each there once and finished")
    assert len([line for line in seen["compare"] if "a lease held through the window" in line]) == 3
    assert "no old node and no second scheduler ran beside the new ones" in seen["compare"][-1]
    assert "all as they were" in seen["prove-backup"][0]
    assert "all as they were" in seen["restore"][0]
    assert seen["old-bootstrap"][0] == "schema 0004 before, 0004 after"
    assert seen["compare-back"][0] == "24 runs from before the backup are there, with their histories"
    assert "given up: 3 acknowledged runs" in seen["compare-back"][1]
    assert data["gone_back"] is True
    assert {one["kind"] for one in data["outages"]} == {"health", "control", "worker"}
    assert all(0 < one["seconds"] < 120 and one["unanswered"] == 0 for one in data["outages"])
    folder = Path(data["evidence"])
    assert {
        "plan.json", "report.json", "report.html", "junit.xml", "operations.jsonl", "probes.jsonl", "events.jsonl",
        "containers-before.json", "containers.json", "logs-before", "logs-upgraded", "logs", "steps", "workers",
    } <= {path.name for path in folder.iterdir()}  # fmt: skip
    assert {path.stem for path in (folder / "steps").iterdir()} == set(seen)
    assert 0 < data["downtime_ratio"] < 10, "measured against the floor of the same run"
    assert sum("sdk" in path.name for path in (folder / "workers").iterdir()) == 1
    outcomes = [json.loads(line).get("outcome") for line in (folder / "operations.jsonl").read_text().splitlines()]
    assert outcomes.count("done") > 20
    assert not leftovers(client, db)


@pytest.mark.once
def test_a_running_cluster_is_upgraded_and_stays(invoke: Invoke, client: Any, db: str) -> None:
    before, after = names()[PREVIOUS].local, names()[SERVER].local
    assert invoke("up", f"--db={db}", f"--image={before}", APP_VERSION="0.1.0").code == 0
    planned = invoke("rehearse", f"--db={db}", "--plan", "--json")
    assert (planned.code, planned.data["from_image"], planned.data["to_image"]) == (0, before, after)
    ran = invoke("rehearse", f"--db={db}", "--yes")
    assert ran.code == 0, ran.out + ran.err
    assert "14 of 14 steps verified" in ran.out.splitlines()[-1]
    running = {one.image for name, one in containers(client, db).items() if name.startswith("server-") and one.running}
    assert running == {after}
    assert invoke("smoke", f"--db={db}").code == 0
    assert invoke("down", f"--db={db}").code == 0


@pytest.mark.once
def test_an_image_whose_migration_fails_leaves_the_old_release_on_its_own_data(
    invoke: Invoke, client: Any, db: str
) -> None:
    before = names()[PREVIOUS].local
    assert invoke("up", f"--db={db}", f"--image={before}", APP_VERSION="0.1.0").code == 0
    ran = invoke("rehearse", f"--db={db}", "--yes", "--json", "--on-failure=rollback", f"--to={names()[UNFIT].local}")
    assert ran.code == 10, ran.err
    assert (ran.data["verdict"], ran.data["gone_back"], ran.data["left_running"]) == ("broken", True, True)
    failed = {one["step"]: one["problem"] for one in ran.data["steps"] if one["problem"]}
    assert failed.keys() == {"bootstrap"}
    assert "does not take the migration" in failed["bootstrap"]["seen"]
    told = invoke("status", f"--db={db}").out
    assert "docker volume rm" in told
    assert re.search(r"Kept: \d+ backups, [\d.]+ MB, in /", told)
    assert "is not over" not in told
    assert invoke("smoke", f"--db={db}", APP_VERSION="0.1.0").code == 0
    assert invoke("down", f"--db={db}").code == 0
    assert not leftovers(client, db)


@pytest.mark.once
def test_what_is_refused_before_anything_is_done(invoke: Invoke, client: Any, db: str) -> None:
    older = invoke(
        "rehearse", f"--db={db}", "--yes", f"--from={names()[SERVER].local}", f"--to={names()[PREVIOUS].local}"
    )
    assert (older.code, "is not newer" in older.err) == (12, True)
    word = invoke("rehearse", f"--db={db}", "--yes", "--on-failure=cry")
    assert (word.code, "is neither stop nor rollback" in word.err) == (12, True)
    nobody = invoke("rehearse", f"--db={db}")
    assert nobody.code == 12
    assert "Nobody is there to be asked" in nobody.err
    assert "1. Drain the workers" in nobody.out
    absent = invoke("rehearse", f"--db={db}", "--yes", "--to=smallcluster/no-such:image")
    assert (absent.code, "the engine has no such image" in absent.err) == (13, True)
    assert not leftovers(client, db)
