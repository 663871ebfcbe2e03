"""Budgets as the environment sets them, what a lock covers, and the words for how a queue stands."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from dw_refserver.admission import Gate, scope_of
from dw_refserver.budgets import Budget
from dw_refserver.settings import SettingsError, load
from dw_refserver.store.tasks import Poll
from dw_refserver.task_queues import admission_status, query_admission, remaining, spoken
from dw_refserver.wake import NotNow

OVERRIDES = "DW_TASK_QUEUE_ADMISSION_OVERRIDES"
GENERAL = {
    "DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": "7",
    "DW_ACTIVITY_TASK_MAX_ACTIVE_LEASES_PER_NAMESPACE": "9",
}


def budget(overrides: Any = None, kind: str = "workflow", where: str = "default:q") -> Budget:
    given = {} if overrides is None else {OVERRIDES: orjson.dumps(overrides).decode()}
    return load({**GENERAL, **given}).budgets.of(kind, *where.split(":"))


def limits(**fields: Any) -> dict[str, Any]:
    return {"workflow_tasks": fields}


def test_without_a_setting_nothing_is_limited() -> None:
    assert not load({}).budgets.of("workflow", "default", "q").limited
    assert not load(dict.fromkeys(GENERAL, "0")).budgets.of("activity", "default", "q").limited


def test_each_kind_has_its_own_general_limits() -> None:
    assert (budget(), budget(kind="activity")) == (Budget(queue=7), Budget(namespace=9))


def test_the_nearest_key_that_has_the_field_wins() -> None:
    keys = ["default:q", "default:*", "q", "*"]
    given = {key: limits(max_active_leases=number) for number, key in enumerate(keys, 1)}
    for number, key in enumerate(keys, 1):
        assert budget(given) == Budget(queue=number), key
        del given[key]
    assert budget(given) == Budget(queue=7)


def test_a_field_that_the_nearest_key_lacks_comes_from_the_next() -> None:
    given = {"q": limits(max_active_leases_per_queue=2), "*": limits(max_active_leases_per_namespace=3)}
    assert budget(given) == Budget(queue=2, namespace=3)
    assert budget(given, where="other:else") == Budget(queue=7, namespace=3)
    assert budget(given, kind="activity") == Budget(namespace=9)


@pytest.mark.parametrize(("limit", "expected"), [(None, 7), (0, None), (-1, None)])
def test_null_is_the_general_limit_and_nothing_or_less_is_none(limit: int | None, expected: int | None) -> None:
    assert budget({"q": limits(max_active_leases=limit), "*": limits(max_active_leases=1)}) == Budget(queue=expected)


def test_limits_on_dispatches_have_no_effect() -> None:
    assert budget({"*": limits(max_dispatches_per_minute=1, dispatch_budget_group="g")}) == Budget(queue=7)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"q"', '{"q": 1}', '{"q": {"workflows": {}}}', '{"q": {"workflow_tasks": []}}',
     '{"q": {"workflow_tasks": {"max_active_leases": "3"}}}', '{"q": {"workflow_tasks": {"max_active_leases": true}}}',
     '{"q": {"workflow_tasks": {"max_active_leases": 1.5}}}', '{"q": {"workflow_tasks": {"max_leases": 3}}}'],
)  # fmt: skip
def test_a_bad_override_is_one_sentence_that_names_the_variable(text: str) -> None:
    with pytest.raises(SettingsError, match=f"^{OVERRIDES} .*\\.$"):
        load({OVERRIDES: text})


POLL = Poll("default", "q", "w", None, 60)
NO_REDIS = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": "1"}


async def handed_out(_db: Any, poll: Poll) -> str:
    return f"a task of {poll.queue}"


def test_without_a_budget_no_claim_meets_the_gate() -> None:
    claim = Gate(load(NO_REDIS)).within(handed_out)
    assert asyncio.run(claim(None, POLL)) == "a task of q"  # type: ignore[arg-type]


def test_without_redis_a_budget_hands_nothing_out_and_says_so_once(capfd: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        claim = Gate(load({**NO_REDIS, **GENERAL})).within(handed_out)
        for _ in range(3):
            with pytest.raises(NotNow, match="throttled"):
                await claim(None, POLL)  # type: ignore[arg-type]

    asyncio.run(work())
    assert capfd.readouterr().out.count("admission_lock_lost") == 1


def test_the_lock_covers_what_the_widest_limit_covers() -> None:
    assert scope_of(POLL, Budget(queue=1)) == "workflow:default:q"
    assert scope_of(POLL, Budget(queue=1, namespace=2)) == "workflow:default"


@pytest.mark.parametrize(
    ("budget", "leased", "slots", "lockable", "status"),
    [
        (Budget(), (0, 0), 10, True, "accepting"),
        (Budget(), (10, 10), 10, True, "saturated"),
        (Budget(), (0, 0), 0, True, "no_slots"),
        (Budget(), (0, 0), None, True, "no_active_workers"),
        (Budget(), (0, 0), None, False, "no_active_workers"),
        (Budget(queue=2), (1, 1), 10, True, "accepting"),
        (Budget(queue=2), (2, 2), None, True, "throttled"),
        (Budget(namespace=3), (0, 4), 10, True, "throttled"),
        (Budget(queue=2), (2, 2), 10, False, "unavailable"),
    ],
)
def test_a_queues_status_is_the_first_that_holds(
    budget: Budget, leased: tuple[int, int], slots: int | None, lockable: bool, status: str
) -> None:
    assert admission_status(budget, leased, slots, lockable=lockable) == status


def test_remaining_is_never_less_than_nothing() -> None:
    assert (remaining(None, 5), remaining(3, 1), remaining(3, 5)) == (None, 2, 0)


@pytest.mark.parametrize(
    ("pending", "left", "status"), [(0, 2, "accepting"), (2, 0, "full"), (None, None, "unavailable")]
)
def test_how_a_queues_queries_stand(pending: int | None, left: int | None, status: str) -> None:
    told = query_admission(pending, 2)
    assert (told["remaining_pending_capacity"], told["status"], told["approximate_pending_count"]) == (
        left, status, pending,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (65, "1m 5s"), (7380, "2h 3m"), (90_000, "1d 1h"), (86_400, "1d 0s")]
)
def test_an_age_in_its_two_largest_units(seconds: int, text: str) -> None:
    assert spoken(seconds) == text
