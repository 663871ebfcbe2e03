from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from dw_refserver.wake import Closing, Hub, Queue, Waiter

QUEUE = Queue("default", "q")


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def never() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def woken(*waiters: Waiter) -> list[bool]:
    return [waiter.woken.done() for waiter in waiters]


def test_one_wake_is_for_the_first_in_line() -> None:
    async def work() -> None:
        hub = Hub()
        with hub.wait_on(QUEUE) as first, hub.wait_on(QUEUE) as second:
            hub.wake(QUEUE, "t")
            assert woken(first, second) == [True, False]
            first.rearm()
        assert hub.waiting == {}

    run(work())


def test_a_wake_passes_over_those_who_can_not_run_it() -> None:
    async def work() -> None:
        hub = Hub()
        with hub.wait_on(QUEUE) as other, hub.wait_on(QUEUE) as able:
            other.types, able.types = frozenset({"another"}), frozenset({"t"})
            hub.wake(QUEUE, "t")
            assert woken(other, able) == [False, True]

    run(work())


def test_a_wake_that_its_waiter_leaves_unused_goes_to_the_next() -> None:
    async def work() -> None:
        hub = Hub()
        with hub.wait_on(QUEUE) as stays:
            stays.types = frozenset({"another"})
            with hub.wait_on(QUEUE) as leaves:
                hub.wake(QUEUE, "t")
                assert woken(stays, leaves) == [False, True]
                stays.types = frozenset()
            assert woken(stays) == [True]

    run(work())


def test_as_many_are_woken_as_there_is_work() -> None:
    async def work() -> None:
        hub = Hub()
        with hub.wait_on(QUEUE) as a, hub.wait_on(QUEUE) as b, hub.wait_on(QUEUE) as c:
            hub.wake(QUEUE, None, count=2)
            assert woken(a, b, c) == [True, True, False]

    run(work())


def test_a_wake_that_comes_as_time_runs_out_prolongs_no_wait() -> None:
    async def work() -> None:
        hub = Hub()
        with hub.wait_on(QUEUE) as next_in_line:
            next_in_line.types = frozenset({"another"})
            with hub.wait_on(QUEUE) as late:
                hub.wake(QUEUE, "t")
                assert not await hub.woken(late, 0, never())
                next_in_line.types = frozenset()
            assert woken(next_in_line) == [True]

    run(work())


def test_time_up_and_client_gone_both_end_a_wait() -> None:
    async def work() -> None:
        hub = Hub()
        with hub.wait_on(QUEUE) as waiter:
            assert not await hub.woken(waiter, 0.01, never())
            gone = never()
            gone.set_result(None)
            hub.wake(QUEUE, None)
            assert not await hub.woken(waiter, 5, gone)

    run(work())


def test_closing_sends_everybody_home_and_nobody_waits_after() -> None:
    async def work() -> None:
        hub = Hub()
        with hub.wait_on(QUEUE) as waiter:
            asyncio.get_running_loop().call_soon(hub.close)
            with pytest.raises(Closing):
                await hub.woken(waiter, 5, never())
        with hub.wait_on(QUEUE) as late:
            assert not await hub.woken(late, 5, never())

    run(work())
