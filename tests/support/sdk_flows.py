"""Workflows and activities as a user of the official Python SDK writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from durable_workflow import ActivityFailed, ActivityRetryPolicy, NonRetryableError, Saga, activity, workflow

Flow = Generator[Any, Any, Any]


@activity.defn(name="greet")
def greet(name: str) -> str:
    """Say hello."""
    return f"hello {name}"


@activity.defn(name="flaky")
def flaky() -> int:
    """Fail at the first two attempts, then tell the attempt's number."""
    attempt = activity.context().info.attempt_number
    if attempt < 3:
        raise RuntimeError("not yet")
    return attempt


@activity.defn(name="slow")
async def slow(steps: int) -> int:
    """Work for so many half seconds, with a heartbeat after each."""
    for _ in range(steps):
        await asyncio.sleep(0.5)
        await activity.context().heartbeat({"of": steps})
    return steps


@activity.defn(name="refuse")
def refuse(what: str) -> None:
    """Fail for good."""
    raise NonRetryableError(f"no {what}")


@activity.defn(name="undo")
def undo(what: str) -> str:
    """Take back what was done."""
    return f"undone {what}"


@workflow.defn(name="one-activity")
class OneActivity:
    """One step."""

    def run(self, ctx: Any, name: str) -> Flow:
        """Greet."""
        return (yield ctx.schedule_activity("greet", [name]))


@workflow.defn(name="parallel")
class Parallel:
    """A group after an earlier step, then a step after the group."""

    def run(self, ctx: Any) -> Flow:
        """Greet one, then three at once, then one more."""
        first = yield ctx.schedule_activity("greet", ["0"])
        group = yield [ctx.schedule_activity("greet", [str(number)]) for number in (1, 2, 3)]
        last = yield ctx.schedule_activity("greet", ["4"])
        return [first, *group, last]


@workflow.defn(name="timer")
class Timer:
    """Two timers, one of them due at once."""

    def run(self, ctx: Any) -> Flow:
        """Sleep twice."""
        yield ctx.start_timer(1)
        yield ctx.start_timer(0)
        return "awake"


@workflow.defn(name="approval")
class Approval:
    """Waits until two have approved."""

    def __init__(self) -> None:
        self.by: list[str] = []

    @workflow.signal("approve")
    def approve(self, by: str) -> None:
        """Count one."""
        self.by.append(by)

    def run(self, ctx: Any) -> Flow:
        """Wait for both, then for a third who never comes."""
        yield ctx.wait_condition(lambda: len(self.by) >= 2, key="two")
        third = yield ctx.wait_condition(lambda: len(self.by) >= 3, key="three", timeout=1)
        return [*self.by, third]


@workflow.defn(name="marked")
class Marked:
    """A side effect and a version, whose results a later replay must find again."""

    def run(self, ctx: Any) -> Flow:
        """Record, then take a step that makes the workflow be replayed."""
        number = yield ctx.side_effect(lambda: 42)
        version = yield ctx.get_version("change", 1, 2)
        greeting = yield ctx.schedule_activity("greet", ["marks"])
        return [number, version, greeting]


@workflow.defn(name="counter")
class Counter:
    """Goes on as new until it has counted down."""

    def run(self, ctx: Any, left: int) -> Flow:
        """One less each run."""
        yield ctx.start_timer(0)
        if left:
            yield ctx.continue_as_new(left - 1)
        return "zero"


@workflow.defn(name="patient")
class Patient:
    """Waits for an hour, unless it is stopped."""

    def run(self, ctx: Any) -> Flow:
        """Sleep long."""
        yield ctx.start_timer(3600)


@workflow.defn(name="retrying")
class Retrying:
    """An activity that succeeds at the third attempt."""

    def run(self, ctx: Any) -> Flow:
        """Try."""
        policy = ActivityRetryPolicy(max_attempts=3, backoff_seconds=[0, 1])
        return (yield ctx.schedule_activity("flaky", [], retry_policy=policy))


@workflow.defn(name="rounds")
class Rounds:
    """Waits for the same condition again and again."""

    def __init__(self) -> None:
        self.rung = False

    @workflow.signal("ring")
    def ring(self) -> None:
        """Satisfy the wait that is open."""
        self.rung = True

    def run(self, ctx: Any) -> Flow:
        """Three rounds, each with a signal of its own."""
        for _ in range(3):
            yield ctx.wait_condition(lambda: self.rung, key="rung", timeout=60)
            self.rung = False
        return "over"


@workflow.defn(name="slow-one")
class SlowOne:
    """An activity that lives by its heartbeats."""

    def run(self, ctx: Any, steps: int) -> Flow:
        """Work longer than a heartbeat may be missing, and longer than a lease."""
        return (yield ctx.schedule_activity("slow", [steps], heartbeat_timeout=2))


@workflow.defn(name="trip")
class Trip:
    """Three steps, the last of which fails; the first two are taken back, the later one first."""

    def run(self, ctx: Any) -> Flow:
        """Book, fail, compensate."""
        saga, undone = Saga(ctx), []
        for what in ("flight", "hotel"):
            yield ctx.schedule_activity("greet", [what])
            saga.add_compensation("undo", [what])
        try:
            yield ctx.schedule_activity("refuse", ["car"])
        except ActivityFailed as failure:
            yield from saga.compensate(failure)
            undone.append(str(failure))
        return undone


@workflow.defn(name="journey")
class Journey:
    """Something of everything, with a state that can be asked for."""

    def __init__(self) -> None:
        self.at, self.ready = "start", False

    @workflow.signal("go")
    def go(self) -> None:
        """Let it go on."""
        self.ready = True

    @workflow.query("where")
    def where(self) -> str:
        """Tell the last step."""
        return self.at

    def run(self, ctx: Any, number: int) -> Flow:
        """Step, wait, step."""
        first = yield ctx.schedule_activity("greet", [f"{number}"])
        self.at = "waiting"
        yield ctx.wait_condition(lambda: self.ready, key="go", timeout=120)
        self.at = "going"
        yield ctx.start_timer(1)
        group = yield [ctx.schedule_activity("greet", [f"{number}.{part}"]) for part in range(3)]
        self.at = "end"
        return [first, *group]


FLOWS = (OneActivity, Parallel, Timer, Approval, Marked, Counter, Patient, Retrying, Rounds, SlowOne, Trip, Journey)
ACTIVITIES = (greet, flaky, slow, refuse, undo)
