"""The three measurements against a node in memory: what is counted, what is weak, what is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from smallcluster import interrupts
from smallcluster.bench import cycles, floor, idle_polls, wakes
from smallcluster.bench.addresses import OWN, PUBLISHED
from smallcluster.bench.plan import Plan
from smallcluster.bench.threads import run_beside
from smallcluster.bench.traffic import Ledger
from smallcluster.bench.usage import Memory
from smallcluster.flavours import Flavour
from smallcluster.settings import Settings

from .conftest import FakeNode, api_of

PLAN = Plan(runs=2, seconds=0.2, polls=60, hold=1)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shape of a measurement, without its length."""
    monkeypatch.setattr(cycles, "WARM_UP_SECONDS", 0.05)
    monkeypatch.setattr(wakes, "WAKES_A_RUN", 3)
    monkeypatch.setattr(idle_polls, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(idle_polls, "SPARE_SECONDS", -1.0)
    monkeypatch.setattr(idle_polls, "BATCH", 25)


def measured(node: FakeNode, work: Coroutine[Any, Any, Any]) -> Any:
    async def both() -> Any:
        async with node.serving():
            return await work

    return asyncio.run(asyncio.wait_for(both(), 30))


def test_cycles_are_counted_run_by_run_and_nothing_is_left(node: FakeNode) -> None:
    ledger, said = Ledger(), []
    found = measured(node, cycles.measure(api_of(node), PLAN, ledger, said.append))
    assert found.weak == ()
    assert found.rate is not None
    assert found.alone is not None
    assert len(found.rate.runs) == len(said) == 2
    assert found.rate.lowest > 0
    assert ledger.started == ledger.completed == len(node.completed) == found.completed
    assert (ledger.open, ledger.workers, node.leased) == (0, 1, set())


def test_a_refused_completion_makes_the_cycles_weak_and_what_is_open_is_known(node: FakeNode) -> None:
    node.refuse, ledger = {"/complete"}, Ledger()
    found = measured(node, cycles.measure(api_of(node), PLAN, ledger, lambda _: None))
    assert found.rate is None
    assert "/complete via server-a → 503" in found.weak[0]
    assert ledger.open == ledger.started == 8


def test_a_cycle_whose_poll_finds_nothing_is_weak(node: FakeNode) -> None:
    node.deaf = True
    found = measured(node, cycles.measure(api_of(node), PLAN, Ledger(), lambda _: None))
    assert "found no task" in found.weak[0]


def test_the_floor_is_measured_run_by_run_beside_the_cluster(node: FakeNode) -> None:
    ledger, said = Ledger(), []
    found = measured(node, floor.measure(api_of(node), api_of(node, "bare"), PLAN, ledger, said.append))
    assert (found.weak, found.absent) == ((), "")
    assert len(found.rate.runs) == len(found.share.runs) == len(said) == 2
    assert 0.2 < found.share.median < 5  # the same node on both sides
    assert ledger.open == 0


def test_a_floor_that_refuses_is_weak(node: FakeNode) -> None:
    node.refuse = {"/api/workflows"}
    found = measured(node, floor.measure(api_of(node), api_of(node, "bare"), PLAN, Ledger(), lambda _: None))
    assert "POST /api/workflows via bare → 503" in found.weak[0]
    assert found.share is None


@pytest.mark.parametrize(
    ("flavour", "addressed", "why"),
    [
        (Flavour.REFERENCE, OWN, ""),
        (Flavour.REFERENCE, PUBLISHED, "the containers' own addresses are out of reach"),
        (Flavour.PUBLISHED, OWN, "only the bundled server has bare handlers"),
    ],
)
def test_a_floor_needs_the_bundled_server_within_reach(flavour: Flavour, addressed: str, why: str) -> None:
    cluster: Any = SimpleNamespace(images={"server": SimpleNamespace(flavour=flavour)})
    assert floor.missing(cluster, addressed) == why


def test_the_floor_s_balancer_is_the_balancer_with_other_ports(settings: Settings) -> None:
    text = floor.configuration(settings)
    assert "8080" not in text
    assert "listen 8090;" in text
    assert "server server-a:8090 " in text
    assert "pid /tmp/floor.pid;" in text


def test_wakes_are_tried_in_both_directions_with_the_poll_held_before(node: FakeNode) -> None:
    ledger = Ledger()
    nodes = [api_of(node, "server-a"), api_of(node, "server-b")]
    found = measured(node, wakes.measure(nodes, PLAN, ledger, lambda _: None))
    assert found.weak == ()
    assert [(one.waiting, one.starting) for one in found.directions] == [
        ("server-a", "server-b"),
        ("server-b", "server-a"),
    ]
    assert [len(one.seconds) for one in found.directions] == [6, 6]
    assert found.latencies is not None
    assert "twice the slowest of 20 polls" in found.directions[0].surely_held
    assert (ledger.started, ledger.open) == (12, 0)


def test_a_poll_that_was_not_held_counts_for_nothing(node: FakeNode) -> None:
    node.eager = True
    nodes = [api_of(node, "server-a"), api_of(node, "server-b")]
    found = measured(node, wakes.measure(nodes, PLAN, Ledger(), lambda _: None))
    assert "answered by server-a although there was nothing yet" in found.weak[0]
    assert found.latencies is None


def test_a_poll_that_is_not_woken_makes_the_wakes_weak(node: FakeNode) -> None:
    node.deaf = True
    nodes = [api_of(node, "server-a"), api_of(node, "server-b")]
    found = measured(node, wakes.measure(nodes, PLAN, Ledger(), lambda _: None))
    assert len(found.weak) == 2
    assert "a poll held by server-a did not get the task" in found.weak[0]
    assert found.latencies is None


def test_idle_polls_are_all_held_during_the_look_and_all_come_back(node: FakeNode) -> None:
    looks = iter([Memory(50.0, 40.0), Memory(70.0, 60.0), Memory(65.0, 55.0), Memory(60.0, 50.0)])
    found = measured(node, idle_polls.measure(api_of(node), PLAN, Ledger(), lambda: next(looks), lambda _: None))
    assert found.weak == []
    assert (found.asked, found.held, found.workers) == (60, 60, 60)
    assert found.shortest is not None
    assert found.longest is not None
    assert 1 <= found.shortest <= found.longest
    assert found.health is not None
    assert found.health.count == 4
    assert found.opened_within is not None
    assert (found.before, found.during, found.after) == (Memory(50.0, 40.0), Memory(70.0, 60.0), Memory(60.0, 50.0))


def test_polls_that_are_refused_make_the_measurement_weak(node: FakeNode) -> None:
    node.refuse = {"/poll"}
    found = measured(node, idle_polls.measure(api_of(node), PLAN, Ledger(), lambda: Memory(1.0, 1.0), lambda _: None))
    assert "POST /api/worker/workflow-tasks/poll via server-a → 503" in found.weak[0]
    assert "only 0 of 60 polls were held" in found.weak[1]


def test_polls_that_are_not_all_taken_in_in_time_make_it_weak(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_polls, "SPARE_SECONDS", 1.0)
    found = measured(node, idle_polls.measure(api_of(node), PLAN, Ledger(), lambda: Memory(1.0, 1.0), lambda _: None))
    assert "taking in 60 polls took" in found.weak[0]
    assert found.health is None


def test_work_beside_the_main_thread_gives_its_result_or_its_error() -> None:
    async def fails() -> None:
        raise KeyError("x")

    assert run_beside(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(KeyError):
        run_beside(fails())


def test_an_interruption_cancels_the_work_and_waits_for_its_cleaning_up() -> None:
    seen = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            seen.append("cleaned up")

    with pytest.raises(interrupts.Interruption), interrupts.as_exceptions():
        run_beside(work())
    assert seen == ["cleaned up"]
