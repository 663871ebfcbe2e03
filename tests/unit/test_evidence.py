"""The evidence folder: nothing secret enters, the latest is found, the oldest go."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.made import answer, container

from smallcluster import evidence
from smallcluster.settings import Settings, load

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_no_secret_enters_by_any_door(settings: Settings) -> None:
    kept = evidence.begin("smoke", settings, NOW)
    for secret in settings.secret_values:
        kept.exchange(answer(path=f"/api/{secret}", token=secret))
        kept.json("containers", {"command": secret})
        kept.text("note.txt", f"the secret is {secret}")
        kept.json("containers", {"redis": asdict(container("redis", command=(secret,)))})
        kept.text("logs/redis.log", f"log {secret}\n")
    kept.environment(settings)
    texts = [path.read_text() for path in kept.folder.rglob("*") if path.is_file()]
    assert len(texts) > 8
    assert not [secret for secret in settings.secret_values for text in texts if secret in text]
    assert any("(hidden)" in text for text in texts)


def test_a_secret_with_odd_characters_is_hidden_in_json_too(env_folder: Path, tmp_path: Path) -> None:
    odd = 'zwölf "gänse"'
    found = load("mysql", exported={"DW_AUTH_TOKEN": odd}, env_folder=env_folder, state=tmp_path / "state")
    kept = evidence.begin("smoke", found, NOW)
    kept.exchange(answer(path="/api/x", message=f"token {odd} refused"))
    kept.json("report", {"seen": [f"token {odd} refused"]})
    texts = "".join(path.read_text() for path in kept.folder.iterdir())
    assert texts.count("token (hidden) refused") >= 2
    assert "nse" not in texts


def test_the_transcript_grows_line_by_line(settings: Settings) -> None:
    kept = evidence.begin("smoke", settings, NOW)
    kept.exchange(answer("server-a", 200, "/api/health", status_of="x"))
    kept.exchange(answer("server-b", None, "/api/ready"))
    lines = [json.loads(line) for line in (kept.folder / "transcript.jsonl").read_text().splitlines()]
    assert [(line["route"], line["status"]) for line in lines] == [("server-a", 200), ("server-b", None)]
    assert lines[1]["problem"] == "ConnectionError: refused"


def test_the_latest_run_is_found_by_database(settings: Settings) -> None:
    evidence.begin("smoke", settings, NOW)
    second = evidence.begin("smoke", settings, NOW)
    assert second.folder.name == "20260102-030405-smoke-mysql-2"
    assert (second.folder.parent / "latest-mysql").resolve() == second.folder.resolve()


def test_old_runs_go(settings: Settings) -> None:
    for minute in range(evidence.KEPT_RUNS + 5):
        last = evidence.begin("smoke", settings, NOW + timedelta(minutes=minute))
    runs = [path for path in last.folder.parent.iterdir() if not path.is_symlink()]
    assert len(runs) == evidence.KEPT_RUNS
    assert last.folder in runs


def test_a_clock_that_was_set_back_costs_no_new_evidence(settings: Settings) -> None:
    for day in range(evidence.KEPT_RUNS + 2):
        evidence.begin("smoke", settings, NOW + timedelta(days=day))
    kept = evidence.begin("smoke", settings, NOW - timedelta(days=400))
    assert kept.folder.is_dir()
    assert (kept.folder.parent / "latest-mysql").resolve() == kept.folder
