"""The scheduler: its three passes, what they touch and what they leave alone."""

from __future__ import annotations

import signal
import time
import uuid
from pathlib import Path

import pytest

from refserver.harness import Cluster, until

pytestmark = pytest.mark.refserver
IDLE = [
    "schedule:evaluate: No schedules due.",
    "activity:timeout-enforce: No expired activity executions.",
    "history:prune: No expired runs to prune.",
]


def closed_run(cluster: Cluster, *, days_ago: int, closed: bool = True) -> tuple[str, str]:
    """A run, closed so many days ago (the clock of its row is set back)."""
    queue = f"prune-{uuid.uuid4().hex[:8]}"
    run_id = cluster.a.schedule("w", queue).body["run_id"]
    assert cluster.a.end_activity("complete", cluster.a.poll_activity("w", queue).body["task"]).status == 200
    if closed:
        assert cluster.a.complete(cluster.a.poll("w", queue).body["task"]).status == 200
        ago = f"interval '{days_ago} days'" if cluster.kind == "pgsql" else f"interval {days_ago} day"
        cluster.execute(f"update workflow_runs set closed_at = closed_at - {ago} where id = '{run_id}'")
    return queue, run_id


def test_prunes_what_is_past_retention_and_nothing_else(cluster: Cluster) -> None:
    past, kept = closed_run(cluster, days_ago=31), closed_run(cluster, days_ago=29)
    still_open = closed_run(cluster, days_ago=0, closed=False)
    archived = closed_run(cluster, days_ago=31)
    cluster.execute(f"update workflow_runs set archived_at = closed_at where id = '{archived[1]}'")
    assert cluster.run_pass("history:prune") == (0, ["history:prune: 1 pruned, 0 skipped, 0 failed."])
    statuses = [cluster.b.get(f"/workflows/{name}").status for name, _ in (past, kept, still_open, archived)]
    assert statuses == [404, 200, 200, 200]
    assert cluster.run_pass("history:prune") == (0, [IDLE[2]])
    for table in ("workflow_history_events", "workflow_tasks", "activity_executions", "activity_attempts"):
        held = [cluster.count(table, f"workflow_run_id = '{run_id}'") for _, run_id in (past, kept)]
        assert (held[0], held[1] > 0) == (0, True), table
    assert cluster.a.start("q", workflow_id=past[0]).status == 201, "a pruned workflow's id is free again"


def test_a_pass_takes_no_more_than_its_limit(cluster: Cluster) -> None:
    for _ in range(3):
        closed_run(cluster, days_ago=40)
    lines = [cluster.run_pass("history:prune", limit=2)[1] for _ in range(3)]
    two, one = ([f"history:prune: {count} pruned, 0 skipped, 0 failed."] for count in (2, 1))
    assert lines == [two, one, [IDLE[2]]]


def test_a_due_row_that_can_not_be_served_is_a_failed_item_and_put_off(cluster: Cluster) -> None:
    """A row as the first release had them: due, and nothing known of what to start."""
    then = "now() - interval '1 hour'" if cluster.kind == "pgsql" else "utc_timestamp(6) - interval 1 hour"
    cluster.execute(
        "insert into workflow_schedules (id, namespace, schedule_id, status, next_fire_at) values"
        f" ('s1', 'default', 'nightly', 'active', {then})",
    )
    try:
        fired = cluster.run_pass("schedule:evaluate")
        again = cluster.run_pass("schedule:evaluate")
        counted = cluster.count("workflow_schedules", "id = 's1' and failures_count = 1 and status = 'active'")
    finally:
        cluster.execute("delete from workflow_schedules")
    assert fired[0] == 1
    assert fired[1][0] == "schedule:evaluate: 0 fired, 0 skipped, 1 failed."
    assert "default/nightly: ValueError: it has no spec" in fired[1][1]
    assert (again, counted) == ((0, [IDLE[0]]), 1)


def test_the_loop_says_what_it_does_beats_and_stops_at_once(cluster: Cluster, tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    process, log = cluster.spawn(
        "scheduler", "scheduler", DW_SCHEDULER_INTERVAL_SECONDS="0.2", DW_SCHEDULER_BEAT_FILE=str(beat)
    )
    until(lambda: len(log.read_text().splitlines()) >= 6, 10, "two rounds")
    assert log.read_text().splitlines()[:3] == IDLE
    assert beat.exists()
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    assert process.wait(5) == 0
    assert time.monotonic() - started < 6
