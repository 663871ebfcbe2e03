"""The official Python SDK through the balancer: external worker processes, and a node that dies in the middle."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from durable_workflow import Client, ScheduleAction, ScheduleSpec, TransportRetryPolicy, WorkflowCancelled
from durable_workflow.client import WorkflowHandle

from smallcluster.paths import CHECKOUT
from smallcluster.settings import Settings, load

from .conftest import Invoke, containers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

WORKERS = 2
JOURNEYS = 30
STEPS_PAST_A_LEASE = 14
"""Half seconds of an activity: longer than the five seconds of a lease."""


@pytest.fixture(scope="module")
def running(invoke: Invoke, db: str) -> Iterator[str]:
    """A cluster of two nodes; the balancer's URL."""
    invoke("down", f"--db={db}")
    ran = invoke("up", f"--db={db}", "--json")
    assert ran.code == 0, ran.err
    yield str(ran.data["routes"]["balancer"])
    assert invoke("down", f"--db={db}").code == 0


@pytest.fixture(scope="module")
def settings(running: str, db: str) -> Settings:
    return load(db, exported={})


@pytest.fixture(scope="module")
def queue(running: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A task queue with external workers on it."""
    name, folder = f"sdk-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("workers")
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(running, name, settings, folder / f"{number}.log"))
                   for number in range(WORKERS)]  # fmt: skip
        yield name
        for process in workers:
            assert process.poll() is None, "a worker ended on its own"


@contextmanager
def worker(url: str, queue: str, settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An external worker, drained at the end."""
    environment = {**os.environ, "SDK_WORKER_TOKEN": settings.value("DW_WORKER_TOKEN"),
                   "PYTHONPATH": str(CHECKOUT / "tests")}  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.sdk_worker", url, queue], env=environment, stdout=out,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield process
        process.terminate()
        assert process.wait(30) == 0, log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


Course = Callable[[Client], Awaitable[Any]]


def carried_out(url: str, settings: Settings, course: Course, seconds: float = 90) -> Any:
    """What `course` gives with a client of the balancer, which sends a request again as the SDK's users do."""

    async def main() -> Any:
        retry = TransportRetryPolicy(max_attempts=8)
        token = settings.value("DW_ADMIN_TOKEN")
        async with Client(url, control_token=token, retry_policy=retry) as client, asyncio.timeout(seconds):
            return await course(client)

    return asyncio.run(main())


async def begun(client: Client, queue: str, kind: str, *arguments: Any) -> WorkflowHandle:
    name = f"{queue}-{kind}-{uuid.uuid4().hex[:8]}"
    return await client.start_workflow(workflow_type=kind, task_queue=queue, workflow_id=name, input=list(arguments))


async def result(handle: WorkflowHandle) -> Any:
    return await handle.result(poll_interval=0.2, timeout=80)


async def events(client: Client, handle: WorkflowHandle) -> list[str]:
    """The event types of the current run's history, which must be numbered without a gap."""
    run = (await client.describe_workflow(handle.workflow_id)).run_id
    found = (await client.get_history(handle.workflow_id, run))["events"]
    assert [event["sequence"] for event in found] == list(range(1, len(found) + 1))
    return [event["event_type"] for event in found]


RESULTS: dict[str, tuple[list[Any], Any, int]] = {
    "one-activity": (["Ada"], "hello Ada", 1),
    "parallel": ([], [f"hello {number}" for number in range(5)], 5),
    "timer": ([], "awake", 0),
    "marked": ([], [42, 2, "hello marks"], 1),
    "retrying": ([], 3, 3),
    "trip": ([], ["no car"], 5),
    "slow-one": ([STEPS_PAST_A_LEASE], STEPS_PAST_A_LEASE, 1),
}
"""Arguments, result and attempts at activities, by workflow type."""


@pytest.mark.parametrize("kind", RESULTS)
def test_results(running: str, settings: Settings, queue: str, kind: str) -> None:
    arguments, expected, attempts = RESULTS[kind]

    async def course(client: Client) -> tuple[Any, list[str]]:
        handle = await begun(client, queue, kind, *arguments)
        return await result(handle), await events(client, handle)

    found, history = carried_out(running, settings, course)
    assert found == expected
    assert (history[-1], history.count("ActivityStarted")) == ("WorkflowCompleted", attempts)


def test_continue_as_new(running: str, settings: Settings, queue: str) -> None:
    async def course(client: Client) -> tuple[list[Any], Any]:
        handle = await begun(client, queue, "counter", 2)
        runs: list[Any] = []
        while [run.status for run in runs] != ["completed"] * 3:
            runs = (await handle.list_runs()).runs
            await asyncio.sleep(0.1)
        return [run.run_number for run in runs], await result(client.get_workflow_handle(handle.workflow_id))

    assert carried_out(running, settings, course) == ([1, 2, 3], "zero")


def test_signals_and_queries(running: str, settings: Settings, queue: str) -> None:
    async def course(client: Client) -> tuple[Any, Any]:
        handle = await begun(client, queue, "journey", 7)
        while (where := (await handle.query("where"))["result"]) != "waiting":
            assert where == "start"
        await handle.signal("go")
        found = await result(handle)
        return found, (await handle.query("where"))["result"]

    found, at_the_end = carried_out(running, settings, course)
    assert found == ["hello 7", "hello 7.0", "hello 7.1", "hello 7.2"]
    assert at_the_end == "end"


def test_cancellation(running: str, settings: Settings, queue: str) -> None:
    async def course(client: Client) -> list[str]:
        handle = await begun(client, queue, "patient")
        while (await events(client, handle))[-1] != "TimerScheduled":
            await asyncio.sleep(0.1)
        await handle.cancel(reason="no longer needed")
        with pytest.raises(WorkflowCancelled):
            await result(handle)
        return await events(client, handle)

    assert carried_out(running, settings, course)[-1] == "WorkflowCancelled"


def test_a_schedule_starts_workflows(running: str, settings: Settings, queue: str) -> None:
    async def course(client: Client) -> list[str]:
        await client.create_schedule(  # it is gone by itself after the second
            schedule_id=f"{queue}-each-second", spec=ScheduleSpec(intervals=[{"every": "PT1S"}]), max_runs=2,
            action=ScheduleAction("rounds", queue), overlap_policy="allow_all",
        )  # fmt: skip
        started: list[Any] = []
        while len(started) < 2:
            started = (await client.list_workflows(workflow_type="rounds")).executions
            await asyncio.sleep(0.2)
        for one in started:
            await client.terminate_workflow(one.workflow_id)
        return [one.workflow_type for one in started]

    assert carried_out(running, settings, course) == ["rounds", "rounds"]


class Journeys:
    """Many workflows at once; each is signalled, waited for, and its history read."""

    def __init__(self, client: Client, queue: str) -> None:
        self.client, self.queue, self.over = client, queue, asyncio.Semaphore(0)

    async def one(self, number: int) -> tuple[Any, list[str]]:
        """A whole journey; its result and event types."""
        handle = await begun(self.client, self.queue, "journey", number)
        await handle.signal("go")
        found = await result(handle)
        self.over.release()
        return found, await events(self.client, handle)

    async def ended(self, count: int) -> None:
        """Wait until so many more are over."""
        for _ in range(count):
            await self.over.acquire()


def test_a_node_dies_in_the_middle_and_comes_back(running: str, settings: Settings, queue: str, client: Any) -> None:
    found = containers(client, settings.db.value)
    dying, balancer = (client.containers.get(found[name].id) for name in ("server-a", "balancer"))

    async def course(sdk: Client) -> list[tuple[Any, list[str]]]:
        journeys = Journeys(sdk, queue)
        going = [asyncio.create_task(journeys.one(number)) for number in range(JOURNEYS)]
        await journeys.ended(2)
        await asyncio.to_thread(dying.kill)
        await journeys.ended(JOURNEYS // 2)
        await asyncio.to_thread(dying.start)
        await asyncio.to_thread(balancer.kill, "HUP")  # it may have another address now
        return await asyncio.gather(*going)

    for number, (found, history) in enumerate(carried_out(running, settings, course, 150)):
        assert found == [f"hello {number}", *(f"hello {number}.{part}" for part in range(3))]
        assert history.count("WorkflowCompleted") == history.count("SignalApplied") == history.count("TimerFired") == 1
        assert history.count("ActivityCompleted") == history.count("ActivityScheduled") == 4
