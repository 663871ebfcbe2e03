"""Schedules over two nodes and a scheduler: due ones fire once, whoever races or dies; held back, paused, used up."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dw_refserver import scheduler
from dw_refserver.settings import load
from dw_refserver.signals import Announcer
from dw_refserver.store.database import opened

from refserver.harness import OK, Client, Cluster, until

pytestmark = pytest.mark.refserver

EVALUATE, IDLE = "schedule:evaluate", "schedule:evaluate: No schedules due."


@pytest.fixture(autouse=True)
def alone(cluster: Cluster) -> None:
    """No schedule of another test is due."""
    cluster.execute("delete from workflow_schedules")


def fresh() -> str:
    return f"sch-{uuid.uuid4().hex[:8]}"


def created(cluster: Cluster, **more: Any) -> str:
    name = fresh()
    assert cluster.a.create_schedule(name, **more).status == 201
    return name


def make_due(cluster: Cluster, where: str, days: int = 3) -> None:
    """Set the next fire of schedules back, as time would that passed while no scheduler ran."""
    ago = f"now() - interval '{days} days'" if cluster.kind == "pgsql" else f"utc_timestamp(6) - interval {days} day"
    cluster.execute(f"update workflow_schedules set next_fire_at = {ago} where {where}")


def fire(cluster: Cluster, name: str) -> list[str]:
    """Make it due, run the pass once, and give what the pass said."""
    make_due(cluster, f"schedule_id = '{name}'")
    return cluster.run_pass(EVALUATE)[1]


def said(fired: int = 0, skipped: int = 0, failed: int = 0) -> str:
    return f"{EVALUATE}: {fired} fired, {skipped} skipped, {failed} failed."


def described(client: Client, name: str) -> dict[str, Any]:
    return client.get(f"/schedules/{name}").body


def kinds(client: Client, name: str) -> list[str]:
    return [event["event_type"].removeprefix("Schedule") for event in history(client, name)]


def history(client: Client, name: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = client.get(f"/schedules/{name}/history").body["events"]
    return events


def started_by(cluster: Cluster, name: str) -> int:
    return cluster.count("workflow_runs", f"queue = '{name}'")


def finish(cluster: Cluster, name: str) -> dict[str, Any]:
    """Complete the schedule's open workflow as a worker would; the task that it had."""
    cluster.a.register("w", name)
    task: dict[str, Any] = cluster.a.poll("w", name).body["task"]
    assert cluster.b.complete(task).body["run_status"] == "completed"
    return task


def test_a_due_schedule_starts_its_workflow_and_moves_on(cluster: Cluster) -> None:
    name = created(cluster, memo={"k": "v"})
    assert cluster.run_pass(EVALUATE) == (0, [IDLE])
    assert fire(cluster, name) == [said(fired=1)]
    assert cluster.run_pass(EVALUATE) == (0, [IDLE])
    task = finish(cluster, name)
    assert (task["arguments"], task["workflow_type"]) == (OK, "t")
    assert [event["event_type"] for event in task["history_events"]] == ["StartAccepted", "WorkflowStarted"]
    assert cluster.b.get(f"/workflows/{task['workflow_id']}").body["memo"] == {"k": "v"}
    told, events = described(cluster.b, name), history(cluster.b, name)
    assert (told["fires_count"], told["latest_workflow_instance_id"]) == (1, task["workflow_id"])
    assert [(item["workflow_id"], item["run_id"]) for item in told["info"]["recent_actions"]] == [
        (task["workflow_id"], task["run_id"])
    ]
    due, now = (datetime.fromisoformat(told[name]) for name in ("next_fire_at", "last_fired_at"))
    assert due == datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1), "aligned, not three days late"
    assert (events[1]["event_type"], events[1]["workflow_run_id"]) == ("ScheduleTriggered", task["run_id"])
    assert datetime.fromisoformat(events[1]["payload"]["occurrence_time"]) < now - timedelta(days=2)


def test_missed_occurrences_collapse_into_one_fire(cluster: Cluster) -> None:
    name = created(cluster, spec={"intervals": [{"every": "PT1H"}]}, overlap_policy="allow_all")
    assert fire(cluster, name) == [said(fired=1)]
    assert (cluster.run_pass(EVALUATE)[1], started_by(cluster, name)) == ([IDLE], 1)


def test_racing_evaluators_fire_each_schedule_once(cluster: Cluster) -> None:
    """Four at once over forty schedules, each with connections of its own."""
    queue = fresh()
    action = {"workflow_type": "t", "task_queue": queue}
    for number in range(40):
        assert cluster.a.create_schedule(f"{queue}-{number}", action=action, overlap_policy="allow_all").status == 201
    make_due(cluster, f"schedule_id like '{queue}-%'")
    fired = asyncio.run(evaluated_at_once(cluster, 4))
    assert sum(fired) == 40
    assert max(fired) < 40, "they took turns, else nothing was raced for"
    assert_each_fired_once(cluster, queue, 40)


async def evaluated_at_once(cluster: Cluster, count: int) -> list[int]:
    """How many schedules each of the evaluators fired."""
    settings = load(cluster.env)

    async def evaluate() -> int:
        async with opened(settings.database, "test") as db:
            return (await scheduler.evaluate_schedules(db, 100, Announcer(settings.redis))).done

    return list(await asyncio.gather(*(evaluate() for _ in range(count))))


def assert_each_fired_once(cluster: Cluster, queue: str, count: int) -> None:
    own = f"like '{queue}-%'"
    runs, once, events = (
        started_by(cluster, queue), cluster.count("workflow_schedules", f"schedule_id {own} and fires_count = 1"),
        cluster.count("workflow_schedule_history_events", f"schedule_id {own} and event_type = 'ScheduleTriggered'"),
    )  # fmt: skip
    tasks = cluster.count("workflow_tasks", f"queue = '{queue}' and status = 'ready'")
    assert (runs, once, events, tasks) == (count, count, count, count)


def test_evaluators_that_are_killed_lose_and_double_nothing(cluster: Cluster) -> None:
    queue = fresh()
    action = {"workflow_type": "t", "task_queue": queue}
    for number in range(60):
        assert cluster.a.create_schedule(f"{queue}-{number}", action=action, overlap_policy="allow_all").status == 201
    make_due(cluster, f"schedule_id like '{queue}-%'")
    for after in (1, 20, 40):
        pair = [cluster.spawn(f"evaluator-{side}", EVALUATE)[0] for side in "ab"]
        until(lambda after=after: started_by(cluster, queue) >= after, 20, f"{after} fires")  # type: ignore[misc]
        for process in pair:
            process.kill()
            process.wait()
    until(lambda: cluster.run_pass(EVALUATE)[1] == [IDLE], 20, "nothing due")
    assert_each_fired_once(cluster, queue, 60)


def test_an_open_run_holds_the_next_back_or_does_not(cluster: Cluster) -> None:
    skip, both = created(cluster), created(cluster, overlap_policy="allow_all")
    for name, second in ((skip, said(skipped=1)), (both, said(fired=1))):
        assert [fire(cluster, name), fire(cluster, name)] == [[said(fired=1)], [second]]
    told = described(cluster.a, skip)
    assert (told["info"]["skipped_trigger_count"], told["info"]["last_skip_reason"]) == (1, "overlap_policy_skip")
    assert (started_by(cluster, skip), started_by(cluster, both)) == (1, 2)
    assert kinds(cluster.b, skip) == ["Created", "Triggered", "TriggerSkipped"]
    finish(cluster, skip)
    assert fire(cluster, skip) == [said(fired=1)], "the run before is closed"


def test_the_last_of_max_runs_deletes_the_schedule(cluster: Cluster) -> None:
    name = created(cluster, max_runs=2, overlap_policy="allow_all")
    fire(cluster, name)
    assert described(cluster.a, name)["remaining_actions"] == 1
    fire(cluster, name)
    assert cluster.b.get(f"/schedules/{name}").body["reason"] == "schedule_not_found"
    events = history(cluster.b, name)
    assert [event["event_type"] for event in events[1:]] == ["ScheduleTriggered"] * 2 + ["ScheduleDeleted"]
    assert events[3]["payload"]["reason"] == "max_runs_exhausted"
    assert (fire(cluster, name), started_by(cluster, name)) == ([IDLE], 2)


def test_paused_schedules_wait_and_forget_what_they_missed(cluster: Cluster) -> None:
    name = created(cluster, paused=True, note="not yet")
    assert (described(cluster.a, name)["state"], fire(cluster, name)) == (
        {"status": "paused", "paused": True, "note": "not yet"}, [IDLE],
    )  # fmt: skip
    held = cluster.a.post(f"/schedules/{name}/trigger", overlap_policy="allow_all").body
    assert (held["outcome"], held["reason"]) == ("skipped", "status_not_triggerable")
    for _ in range(2):
        assert cluster.b.post(f"/schedules/{name}/resume").body["outcome"] == "resumed"
    assert cluster.run_pass(EVALUATE)[1] == [IDLE], "the next occurrence lies ahead"
    for _ in range(2):
        assert cluster.a.post(f"/schedules/{name}/pause", note="again").body["outcome"] == "paused"
    assert kinds(cluster.b, name) == ["Created", "TriggerSkipped", "Resumed", "Paused"], "a repeated request adds none"
    assert described(cluster.b, name)["note"] == "again"


def test_a_trigger_is_a_fire_that_leaves_the_occurrences_alone(cluster: Cluster) -> None:
    name = created(cluster)
    due = described(cluster.a, name)["next_fire_at"]
    one = cluster.b.post(f"/schedules/{name}/trigger").body
    assert one["outcome"] == "triggered"
    assert cluster.a.get(f"/workflows/{one['workflow_id']}").body["run_id"] == one["run_id"]
    again = cluster.a.post(f"/schedules/{name}/trigger").body
    assert (again["outcome"], again["reason"]) == ("skipped", "overlap_policy_skip")
    forced = cluster.a.post(f"/schedules/{name}/trigger", overlap_policy="allow_all").body
    assert forced["outcome"] == "triggered"
    told = described(cluster.b, name)
    assert (told["next_fire_at"], told["fires_count"], started_by(cluster, name)) == (due, 2, 2)


def test_triggers_and_ticks_at_once_never_overlap(cluster: Cluster) -> None:
    """Under the skip policy one of them starts the workflow, and all others see it."""
    name = created(cluster)
    make_due(cluster, f"schedule_id = '{name}'")
    with ThreadPoolExecutor(8) as pool:
        racing = [pool.submit(client.post, f"/schedules/{name}/trigger") for client in (cluster.a, cluster.b) * 3]
        asyncio.run(evaluated_at_once(cluster, 2))
    assert {answer.result().status for answer in racing} == {200}
    assert started_by(cluster, name) == 1


BAD_ROWS = {
    "no-spec": "spec = null",
    "not-json": "spec = '{'",
    "other-json": """spec = '["x"]'""",
    "never-fires": """spec = '{"cron_expressions": ["0 0 31 2 *"]}'""",
    "no-zone": """spec = '{"cron_expressions": ["* * * * *"], "timezone": "Mars/Base"}'""",
    "no-action": "action = null",
    "no-type": "action = '{}'",
    "odd-list": "recent_actions = '7'",
}


def test_bad_rows_are_failed_items_that_block_nobody(cluster: Cluster) -> None:
    """Whatever is wrong with them, and though they are first in line at a limit of as many."""
    bad, good = {created(cluster): damage for damage in BAD_ROWS.values()}, created(cluster)
    update = "update workflow_schedules set {} where schedule_id = '{}'"
    cluster.execute(*(update.format(damage, name) for name, damage in bad.items()))
    make_due(cluster, f"schedule_id <> '{good}'", days=9)
    make_due(cluster, f"schedule_id = '{good}'")
    code, lines = cluster.run_pass(EVALUATE, limit=len(bad))
    assert (code, lines[0], len(lines)) == (1, said(failed=len(bad)), len(bad) + 1)
    assert {name for name in bad for line in lines if f"schedule default/{name}: " in line} == bad.keys()
    assert cluster.run_pass(EVALUATE, limit=len(bad)) == (0, [said(fired=1)])
    names = ", ".join(f"'{name}'" for name in bad)
    assert cluster.count("workflow_schedules", f"schedule_id in ({names}) and failures_count = 1") == len(bad)


def test_a_trigger_of_a_bad_row_says_so(cluster: Cluster) -> None:
    name = created(cluster)
    cluster.execute(f"update workflow_schedules set action = '{{}}' where schedule_id = '{name}'")
    failed = cluster.a.post(f"/schedules/{name}/trigger")
    assert (failed.status, failed.body["reason"], started_by(cluster, name)) == (500, "trigger_failed", 0)


def test_histories_past_retention_are_pruned_and_deleted_schedules_with_them(cluster: Cluster) -> None:
    kept, gone = created(cluster), created(cluster)
    cluster.a.delete(f"/schedules/{gone}")
    ago = "now() - interval '31 days'" if cluster.kind == "pgsql" else "utc_timestamp(6) - interval 31 day"
    both = f"schedule_id in ('{kept}', '{gone}')"
    cluster.execute(
        f"update workflow_schedule_history_events set recorded_at = {ago} where {both}",
        f"update workflow_schedules set deleted_at = {ago} where schedule_id = '{gone}'",
    )
    assert cluster.run_pass("history:prune")[1][-1] == "history:prune: 4 rows of schedules' histories pruned."
    assert (history(cluster.a, kept), described(cluster.a, kept)["status"]) == ([], "active")
    assert cluster.a.get(f"/schedules/{gone}/history").status == 404
    cluster.b.post(f"/schedules/{kept}/pause")
    assert [event["sequence"] for event in history(cluster.a, kept)] == [2], "sequences are never used twice"


@pytest.fixture
def sleepy(cluster: Cluster) -> Iterator[Client]:
    """A node that looks into the database once a minute only, so that a poll must be woken."""
    before = listening(cluster)
    client = cluster.serve("sleepy", DW_WORKER_POLL_INTERVAL_MS="60000", DW_WORKER_POLL_TIMEOUT="20")
    until(lambda: listening(cluster) > before, 10, "it to listen")
    yield client
    cluster.nodes.pop("sleepy").stop()


def listening(cluster: Cluster) -> int:
    """How many nodes listen for wake signals."""
    code, output = cluster.containers["redis"].exec_run(["redis-cli", "pubsub", "numsub", "dw:wake"])
    assert code == 0, output
    return int(output.split()[-1])


def test_waiting_polls_are_woken_by_the_scheduler(cluster: Cluster, sleepy: Client) -> None:
    """For what a schedule starts, and for the retry that a timeout makes."""
    name, queue = created(cluster), fresh()
    sleepy.register("w", name)
    cluster.a.schedule("w2", queue, start_to_close_timeout=60, retry_policy={"max_attempts": 2})
    attempt = cluster.a.poll_activity("w2", queue).body["task"]
    then = "now() - interval '1 hour'" if cluster.kind == "pgsql" else "utc_timestamp(6) - interval 1 hour"
    where = f"where id = '{attempt['activity_execution_id']}'"
    with ThreadPoolExecutor(2) as pool:
        polls = pool.submit(sleepy.poll, "w", name), pool.submit(Client(sleepy.url).poll_activity, "w2", queue)
        time.sleep(0.5)  # the polls must be waiting; were they late, they would only find their tasks sooner
        assert fire(cluster, name) == [said(fired=1)]
        cluster.execute(f"update activity_executions set start_to_close_at = {then}, next_deadline_at = {then} {where}")
        assert cluster.run_pass("activity:timeout-enforce")[1][0].endswith("1 timed out, 0 skipped, 0 failed.")
        started, retried = (poll.result(25).body["task"] for poll in polls)
    assert started["task_queue"] == name
    assert (retried["activity_execution_id"], retried["attempt_number"]) == (attempt["activity_execution_id"], 2)


@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "hangs"])
def test_without_redis_schedules_fire_all_the_same(cluster: Cluster, tmp_path: Path, answers: bool) -> None:
    """Trouble is said once, and no pass waits for it."""
    first, second = created(cluster), created(cluster)
    with socket.create_server(("127.0.0.1", 0)) as redis:  # takes connections and says nothing
        port = redis.getsockname()[1]
        if not answers:
            redis.close()
        process, log = cluster.spawn(
            "without-redis", "scheduler", REDIS_PORT=str(port), DW_SCHEDULER_INTERVAL_SECONDS="0.1",
            DW_SCHEDULER_BEAT_FILE=str(tmp_path / "beat"),
        )  # fmt: skip
        try:
            for name in (first, second):
                make_due(cluster, f"schedule_id = '{name}'")
                until(lambda name=name: started_by(cluster, name), 20, "its fire")  # type: ignore[misc]
                rounds = log.read_text().count("history:prune")
                until(lambda: log.read_text().count("history:prune") > rounds + 3, 20, "passes that go on")  # noqa: B023
            until(lambda: "wake_publish_failing" in log.read_text(), 20, "the trouble to be said")
        finally:
            process.terminate()
            assert process.wait(5) == 0
    assert log.read_text().count("wake_publish_failing") == 1
