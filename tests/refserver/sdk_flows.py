"""Workflows and activities as a user of the official Python SDK writes them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from durable_workflow import ActivityRetryPolicy, activity, workflow

Flow = Generator[Any, Any, Any]
TRIES: dict[str, int] = {}
"""How often each `flaky` activity has been tried, by the name it is given."""


@activity.defn(name="greet")
def greet(name: str) -> str:
    """Say hello."""
    return f"hello {name}"


@activity.defn(name="flaky")
def flaky(name: str) -> int:
    """Fail twice, then tell the number of tries."""
    TRIES[name] = TRIES.get(name, 0) + 1
    if TRIES[name] < 3:
        raise RuntimeError("not yet")
    return TRIES[name]


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

    def run(self, ctx: Any, name: str) -> Flow:
        """Try."""
        policy = ActivityRetryPolicy(max_attempts=3, backoff_seconds=[0, 1])
        return (yield ctx.schedule_activity("flaky", [name], retry_policy=policy))


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


FLOWS = (OneActivity, Parallel, Timer, Approval, Marked, Counter, Patient, Retrying, Rounds)
ACTIVITIES = (greet, flaky)
