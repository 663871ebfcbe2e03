"""Containers, the bootstrap job, the scheduler and the private services, judged on hand-made facts."""

from __future__ import annotations

from typing import Any

import pytest
from support.made import container, topology

from smallcluster.checks import topology as checks
from smallcluster.checks.topology import Door, Privacy, SchedulerLog, Topology
from smallcluster.verdicts import Verdict

NODES = ("server-a", "server-b")


def seen(**changed: dict[str, Any] | None) -> Topology:
    return Topology(topology(**changed), NODES)


@pytest.mark.parametrize(
    ("job", "verdict"),
    [
        ({}, Verdict.HOLDS),
        ({"exit_code": 1}, Verdict.BROKEN),
        ({"status": "running"}, Verdict.BROKEN),
        (None, Verdict.BROKEN),
        # one digit more or less must not turn the order around
        ({"finished_at": "2026-01-01T00:00:05.000000001Z"}, Verdict.HOLDS),
        ({"finished_at": "2026-01-01T00:00:06Z"}, Verdict.BROKEN),
    ],
)
def test_bootstrap(job: dict[str, Any] | None, verdict: Verdict) -> None:
    assert checks.bootstrap_completed_once.judge(seen(bootstrap=job)).verdict is verdict


@pytest.mark.parametrize("service", ["database", "redis", "server_a", "server_b", "balancer", "scheduler"])
@pytest.mark.parametrize(
    "change",
    [None, {"status": "exited"}, {"status": "paused"}, {"restarts": 1}, {"health": "unhealthy"}, {"oom_killed": True}],
)
def test_every_container_must_be_steady(service: str, change: dict[str, Any] | None) -> None:
    assert checks.containers_steady.judge(seen()).verdict is Verdict.HOLDS
    judged = checks.containers_steady.judge(seen(**{service: change}))
    assert judged.verdict is Verdict.BROKEN
    assert judged.then == f"invoke logs --service={service.replace('_', '-')}"


def test_exactly_one_scheduler() -> None:
    assert checks.one_scheduler.judge(seen()).verdict is Verdict.HOLDS
    assert checks.one_scheduler.judge(seen(scheduler=None)).verdict is Verdict.BROKEN
    assert checks.one_scheduler.judge(seen(scheduler={"status": "exited"})).verdict is Verdict.BROKEN
    second = {"extra": container("extra", command=("sh", "-c", "php artisan schedule:evaluate; sleep 10"))}
    two = Topology(topology() | second, NODES)
    assert checks.one_scheduler.judge(two).verdict is Verdict.BROKEN


OURS = (
    "schedule:evaluate: No schedules due.\n"
    "activity:timeout-enforce: No expired activity executions.\n"
    "history:prune: No expired runs to prune.\n"
)
PUBLISHED = "No schedules due.\nNo expired activity executions.\nNo expired runs to prune.\n"


@pytest.mark.parametrize("log", [OURS, PUBLISHED])
def test_the_three_passes_are_seen_in_either_wording(log: str) -> None:
    scheduler = container("scheduler")
    assert checks.scheduler_passes_ran.judge(SchedulerLog(scheduler, log, 0.1)).verdict is Verdict.HOLDS
    for index in range(3):
        short = "\n".join(line for at, line in enumerate(log.splitlines()) if at != index)
        judged = checks.scheduler_passes_ran.judge(SchedulerLog(scheduler, short, 15.0))
        assert judged.verdict is Verdict.BROKEN
        assert ": never" in " ".join(judged.evidence)


FAILING = (
    "scheduler: schedule:evaluate, activity:timeout-enforce, history:prune every 1 s\n"
    "schedule:evaluate: could not run: database is unavailable\n"
    "activity:timeout-enforce: could not run: database is unavailable\n"
    "history:prune: could not run: database is unavailable\n"
)


def test_passes_that_only_tried_to_run_are_broken() -> None:
    judged = checks.scheduler_passes_ran.judge(SchedulerLog(container("scheduler"), FAILING, 15.0))
    assert judged.verdict is Verdict.BROKEN


def test_passes_that_had_work_ran() -> None:
    busy = (
        "schedule:evaluate: 3 fired, 0 skipped, 0 failed.\n"
        "activity:timeout-enforce: 1 timed out, 0 skipped, 0 failed.\n"
        "history:prune: 2 pruned, 0 skipped, 0 failed.\n"
    )
    assert checks.scheduler_passes_ran.judge(SchedulerLog(container("scheduler"), busy, 0.1)).verdict is Verdict.HOLDS


def test_a_node_that_never_started_did_not_start_too_early() -> None:
    never = {"status": "created", "started_at": "0001-01-01T00:00:00Z"}
    assert checks.bootstrap_completed_once.judge(seen(server_b=never)).verdict is Verdict.HOLDS


def test_without_a_scheduler_its_passes_are_unknown() -> None:
    assert checks.scheduler_passes_ran.judge(SchedulerLog(None, "", 0.0)).verdict is Verdict.UNKNOWN


DOORS = (Door("redis", 6379, False), Door("mysql", 3306, True))


def privacy(**changed: Any) -> Privacy:
    return Privacy({"database": container("database", **changed), "redis": container("redis")}, DOORS)


def test_private_services_that_publish_nothing_hold_although_a_stranger_listens_on_the_host() -> None:
    judged = checks.private_services.judge(privacy())
    assert judged.verdict is Verdict.HOLDS
    assert "another program listens" in " ".join(judged.evidence)


@pytest.mark.parametrize(
    "change",
    [
        {"published": ("127.0.0.1:3306->3306/tcp",), "bindings": ("3306/tcp",)},
        {"bindings": ("3306/tcp",)},
        {"network_mode": "host"},
    ],
)
def test_an_opened_private_service_is_broken(change: dict[str, Any]) -> None:
    assert checks.private_services.judge(privacy(**change)).verdict is Verdict.BROKEN


def test_a_missing_private_service_is_unknown() -> None:
    assert checks.private_services.judge(Privacy({"redis": container("redis")}, DOORS)).verdict is Verdict.UNKNOWN
