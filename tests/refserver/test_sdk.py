"""The official Python SDK, client on one node and worker on the other."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from durable_workflow import Client, SignalFailed, Worker, WorkflowCancelled
from durable_workflow.client import WorkflowHandle
from support.sdk_flows import ACTIVITIES, FLOWS

from refserver.harness import TOKEN, Cluster, until

pytestmark = pytest.mark.refserver

Course = Callable[[Client, str], Awaitable[Any]]


def carried_out(cluster: Cluster, course: Course) -> Any:
    """What `course` gives with a client of server-a and a fresh queue, on which a worker polls server-b meanwhile."""

    async def main() -> Any:
        queue = f"sdk-{uuid.uuid4().hex[:8]}"
        async with Client(cluster.a.url, token=TOKEN) as client, Client(cluster.b.url, token=TOKEN) as other:
            worker = Worker(other, task_queue=queue, workflows=FLOWS, activities=ACTIVITIES, poll_timeout=5)
            polling = asyncio.create_task(worker.run())
            try:
                async with asyncio.timeout(60):
                    return await course(client, queue)
            finally:
                await worker.stop()
                await polling

    return asyncio.run(main())


async def begun(client: Client, queue: str, kind: str, *arguments: Any) -> WorkflowHandle:
    return await client.start_workflow(workflow_type=kind, task_queue=queue, workflow_id=queue, input=list(arguments))


def result_of(cluster: Cluster, kind: str, *arguments: Any) -> tuple[Any, list[str]]:
    """The workflow's result, and its history's event types."""
    names = []

    async def course(client: Client, queue: str) -> Any:
        names.append(queue)
        return await (await begun(client, queue, kind, *arguments)).result(poll_interval=0.1)

    result = carried_out(cluster, course)
    return result, history(cluster, names[0])


def history(cluster: Cluster, workflow_id: str) -> list[str]:
    run = cluster.a.get(f"/workflows/{workflow_id}").body["run_id"]
    events = cluster.a.get(f"/workflows/{workflow_id}/runs/{run}/history", page_size=1000).body["events"]
    return [event["event_type"] for event in events]


def test_one_activity(cluster: Cluster) -> None:
    result, events = result_of(cluster, "one-activity", "Ada")
    assert result == "hello Ada"
    assert events == ["StartAccepted", "WorkflowStarted", "ActivityScheduled", "ActivityStarted",
                      "ActivityCompleted", "WorkflowCompleted"]  # fmt: skip


def test_parallel_activities(cluster: Cluster) -> None:
    result, events = result_of(cluster, "parallel")
    assert result == [f"hello {number}" for number in range(5)]
    assert events.count("ActivityScheduled") == events.count("ActivityCompleted") == 5


def test_a_timer(cluster: Cluster) -> None:
    result, events = result_of(cluster, "timer")
    assert result == "awake"
    assert events[2:-1] == ["TimerScheduled", "TimerFired"] * 2


def test_signals_and_conditions(cluster: Cluster) -> None:
    names = []

    async def course(client: Client, queue: str) -> Any:
        names.append(queue)
        handle = await begun(client, queue, "approval")
        await handle.signal("approve", ["Ada"])
        await handle.signal("approve", ["Bea"])
        return await handle.result(poll_interval=0.1)

    assert carried_out(cluster, course) == ["Ada", "Bea", False]
    events = history(cluster, names[0])
    assert events.count("SignalReceived") == events.count("SignalApplied") == 2
    assert events.count("ConditionWaitTimedOut") == 1


def test_the_same_condition_waited_for_again(cluster: Cluster) -> None:
    async def course(client: Client, queue: str) -> Any:
        handle = await begun(client, queue, "rounds")
        for waits in (1, 2, 3):
            await until_async(lambda waits=waits: history(cluster, queue).count("ConditionWaitOpened") == waits)
            await handle.signal("ring")
        return await handle.result(poll_interval=0.1)

    assert carried_out(cluster, course) == "over"


def test_signals_that_come_all_at_once(cluster: Cluster) -> None:
    async def course(client: Client, queue: str) -> Any:
        handle = await begun(client, queue, "approval")
        sent = await asyncio.gather(*(handle.signal("approve", [name]) for name in "ABCDEFGH"), return_exceptions=True)
        assert all(isinstance(one, dict | SignalFailed) for one in sent), sent  # three end it; the rest is late
        return await handle.result(poll_interval=0.1)

    *names, third = carried_out(cluster, course)
    assert (third, set(names) <= set("ABCDEFGH"), len(set(names)) == len(names)) == (True, True, True)


def test_side_effect_and_version(cluster: Cluster) -> None:
    result, events = result_of(cluster, "marked")
    assert result == [42, 2, "hello marks"]
    assert events[2:5] == ["SideEffectRecorded", "VersionMarkerRecorded", "ActivityScheduled"]


def test_continue_as_new(cluster: Cluster) -> None:
    async def course(client: Client, queue: str) -> Any:
        await begun(client, queue, "counter", 2)
        runs = f"/workflows/{queue}/runs"
        closed = until_async(lambda: [run["status"] for run in cluster.b.get(runs).body["runs"]] == ["completed"] * 3)
        await closed
        return await client.get_workflow_handle(queue).result(poll_interval=0.1)

    assert carried_out(cluster, course) == "zero"


async def until_async(found: Callable[[], Any]) -> None:
    await asyncio.to_thread(until, found, 30, "what the course waits for")


def test_cancellation(cluster: Cluster) -> None:
    async def course(client: Client, queue: str) -> Any:
        handle = await begun(client, queue, "patient")
        await until_async(lambda: cluster.b.get(f"/workflows/{queue}").body["wait_kind"] == "timer")
        await handle.cancel(reason="no longer needed")
        with pytest.raises(WorkflowCancelled):
            await handle.result(poll_interval=0.1)
        return queue

    assert history(cluster, carried_out(cluster, course))[2:] == [
        "TimerScheduled", "CancelRequested", "TimerCancelled", "WorkflowCancelled",
    ]  # fmt: skip


def test_retry_after_failures(cluster: Cluster) -> None:
    result, events = result_of(cluster, "retrying")
    assert result == 3
    assert events.count("ActivityRetryScheduled") == 2


def test_a_worker_that_stops_is_gone_at_once(cluster: Cluster) -> None:
    async def course(client: Client, queue: str) -> str:
        await (await begun(client, queue, "one-activity", "Ada")).result(poll_interval=0.1)
        return queue

    queue = carried_out(cluster, course)
    assert cluster.count("workflow_worker_registrations", f"task_queue = '{queue}'") == 0
