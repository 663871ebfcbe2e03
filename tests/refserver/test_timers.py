"""Timers on two nodes: each fires exactly once, promptly, whoever polls and whichever node lives."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from refserver.harness import Client, Cluster, until
from refserver.test_two_nodes import fresh

pytestmark = pytest.mark.refserver


def timer(seconds: int) -> dict[str, Any]:
    return {"type": "start_timer", "delay_seconds": seconds}


def begin(client: Client, queue: str, *commands: dict[str, Any], worker: str = "w") -> dict[str, Any]:
    """Start a workflow whose id is the queue's name and complete its first task, as that worker, with the commands."""
    client.register(worker, queue)
    client.start(queue, workflow_id=queue)
    task = client.poll(worker, queue).body["task"]
    assert client.complete(task, commands=list(commands)).status == 200
    return task  # type: ignore[no-any-return]


def events_of(client: Client, workflow_id: str) -> list[dict[str, Any]]:
    run = client.get(f"/workflows/{workflow_id}").body["run_id"]
    found: list[dict[str, Any]] = client.get(f"/workflows/{workflow_id}/runs/{run}/history", page_size=1000).body[
        "events"
    ]
    return found


def fired(client: Client, workflow_id: str) -> list[dict[str, Any]]:
    return [event["payload"] for event in events_of(client, workflow_id) if event["event_type"] == "TimerFired"]


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_timer_wakes_a_waiting_poll_of_the_other_node_when_it_is_due(cluster: Cluster, seconds: int) -> None:
    queue = fresh()
    begin(cluster.a, queue, timer(seconds))
    task = until(lambda: cluster.b.poll("w", queue).body["task"], 10, "the timer's workflow task")
    assert (task["workflow_wait_kind"], task["workflow_event_type"]) == ("timer", "TimerFired")
    [event] = fired(cluster.b, queue)
    assert event["fired_at"] >= event["fire_at"]
    assert (event["timer_id"], event["sequence"]) == (task["timer_id"], 1)
    assert cluster.b.complete(task).body["run_status"] == "completed"


def test_timers_that_nobody_polls_for_fire(cluster: Cluster) -> None:
    queue = fresh()
    begin(cluster.a, queue, timer(0), timer(1), timer(1))
    assert until(lambda: len(fired(cluster.b, queue)) == 3, 10, "all three fired")
    assert cluster.count("workflow_tasks", f"queue = '{queue}' and task_type = 'workflow' and status = 'ready'") == 1


def test_two_nodes_fire_each_of_many_once(cluster: Cluster) -> None:
    queues = [fresh() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda queue: begin(Client(cluster.a.url), queue, *[timer(1)] * 25, worker=queue), queues))
    for queue in queues:
        until(lambda queue=queue: len(fired(cluster.b, queue)) >= 25, 30, "25 timers fired")
    time.sleep(1.5)  # longer than a node's interval: whoever would fire one again has had its turn
    for queue in queues:
        seen = events_of(cluster.a, queue)
        timers = [event["payload"]["timer_id"] for event in seen if event["event_type"] == "TimerFired"]
        assert (len(timers), len(set(timers))) == (25, 25)
        assert [event["sequence"] for event in seen] == list(range(1, len(seen) + 1))


def test_a_timer_outlives_the_node_that_took_it(cluster: Cluster) -> None:
    third, queue = cluster.serve("server-c"), fresh()
    begin(third, queue, timer(2))
    dead = cluster.nodes.pop("server-c").process
    dead.kill()
    dead.wait()
    task = until(lambda: cluster.b.poll("w", queue).body["task"], 15, "the timer's workflow task")
    assert task["workflow_wait_kind"] == "timer"
    assert len(fired(cluster.b, queue)) == 1


def test_a_condition_that_nothing_satisfies_times_out(cluster: Cluster) -> None:
    queue = fresh()
    begin(cluster.a, queue, {"type": "open_condition_wait", "condition_key": "k", "timeout_seconds": 1})
    assert cluster.b.get(f"/workflows/{queue}").body["wait_kind"] == "condition"
    task = until(lambda: cluster.b.poll("w", queue).body["task"], 10, "the task after the timeout")
    assert (task["workflow_wait_kind"], task["condition_key"]) == ("condition", "k")
    assert [event["event_type"] for event in task["history_events"]][2:] == [
        "ConditionWaitOpened", "TimerScheduled", "TimerFired", "ConditionWaitTimedOut",
    ]  # fmt: skip
