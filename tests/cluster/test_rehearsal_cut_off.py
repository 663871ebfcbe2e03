"""A rehearsal that is killed with -9 at every step in turn and resumed: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from smallcluster.paths import STATE
from smallcluster.rehearsal.plan import STEPS, WAY_BACK

from .conftest import PATIENCE, Invoke, containers, finish, leftovers, start

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900), pytest.mark.usefixtures("nothing_running")]
INTO_IT = (0.0, 0.15, 0.5)
"""Seconds after a step's beginning at which the kill comes, in turn; a step that is over by then is not waited for."""


def journal(db: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((STATE / db / "rehearsal.json").read_text())
    except FileNotFoundError:
        return None
    return found


def at_work_on(found: dict[str, Any], kills: int) -> str:
    """What the process works on now, once it has taken up what was cut off before."""
    if len(found["gaps"]) < kills:
        return ""
    if not found["attempts"]:
        return "the preparation"
    last = found["attempts"][-1]
    return str(last["step"]) if not kills or last["began"] > found["gaps"][-1][1] else ""


def killed_at(process: subprocess.Popen[str], db: str, seen: set[str], delay: float) -> str | None:
    """Kill it as soon as it is at work on a step that is not in `seen`; None where it ended by itself before."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        found = journal(db)
        step = at_work_on(found, len(seen)) if found else ""
        if step and step not in seen:
            over = time.monotonic() + delay
            while time.monotonic() < over and (now := journal(db)) and now["at"] == found["at"]:  # type: ignore[index]
                time.sleep(0.005)
            process.kill()
            process.communicate()
            return step
        time.sleep(0.002)
    return None


def test_killed_at_every_step_and_resumed(invoke: Invoke, client: Any, db: str) -> None:
    seen: set[str] = set()
    process = start("rehearse", f"--db={db}", "--yes", "--rollback", "--json")
    while step := killed_at(process, db, seen, INTO_IT[len(seen) % len(INTO_IT)]):
        seen.add(step)
        if len(seen) == 3:
            refused = invoke("rehearse", f"--db={db}", "--yes")
            assert (refused.code, "did not come to its end" in refused.err) == (12, True), refused.err
            assert "--resume" in refused.err
        process = start("rehearse", f"--db={db}", "--resume", "--yes", "--json")
    ran = finish(process)
    assert ran.code == 0, ran.err
    assert seen == {"the preparation", *(one.id for one in (*STEPS, *WAY_BACK))}
    data = ran.data
    assert (data["verdict"], data["gone_back"], len(data["cut_off"])) == ("holds", True, len(seen))
    done = {one["step"]: one["seen"] for one in data["steps"] if one["verified"]}
    assert "each there once and finished" in done["compare"][0]
    assert "the schedule that came due was fired once" in done["compare"]
    assert done["bootstrap"][0] == "schema 0004 before, 0005 after"
    assert "all as they were" in done["restore"][0]
    assert "with their histories" in done["compare-back"][0]
    assert (len(data["not_judged"]) >= len(seen), data["downtime_ratio"]) == (True, None)
    folder = Path(data["evidence"])
    starts = [line for line in (folder / "events.jsonl").read_text().splitlines()
              if json.loads(line)["what"] == "start" and json.loads(line)["service"] == "bootstrap"]  # fmt: skip
    assert len(starts) <= 3, "each job was started once: at the beginning, forward, and back"
    assert not leftovers(client, db)
    assert journal(db) is None


@pytest.mark.once
@pytest.mark.parametrize("at", ["stop-nodes", "start-nodes"])
def test_abandoned_before_the_new_release_and_after_it(invoke: Invoke, client: Any, db: str, at: str) -> None:
    from smallcluster.images import names
    from smallcluster.recipes import PREVIOUS

    old = names()[PREVIOUS].local
    assert invoke("up", f"--db={db}", f"--image={old}", APP_VERSION="0.1.0").code == 0
    process = start("rehearse", f"--db={db}", "--yes")
    while (step := at_work_on(journal(db) or {"gaps": [], "attempts": []}, 0)) != at:
        assert process.poll() is None, step
        time.sleep(0.005)
    process.kill()
    process.communicate()
    refused = invoke("smoke", f"--db={db}", APP_VERSION="0.1.0")
    assert (refused.code, "--abandon" in refused.err) == (12, True), refused.err
    ran = invoke("rehearse", f"--db={db}", "--abandon", "--yes", "--json")
    assert (ran.code, ran.data["gone_back"], ran.data["verdict"]) == (0, True, "unknown"), ran.err
    running = {one.image for name, one in containers(client, db).items() if name.startswith("server-") and one.running}
    assert running == {old}
    assert invoke("smoke", f"--db={db}", APP_VERSION="0.1.0").code == 0
    assert invoke("down", f"--db={db}").code == 0
    assert not leftovers(client, db)
