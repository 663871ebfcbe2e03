"""Health, readiness and cluster info, judged on hand-made answers."""

from __future__ import annotations

from typing import Any

import pytest
from support.made import answer

from smallcluster.api import UNHEARD, Exchange, Speech
from smallcluster.checks import health
from smallcluster.verdicts import Verdict

READY = {"status": "ready", "checks": {"database": {"status": "ok"}, "cache": {"status": "warning"}}}
NOT_READY = {"status": "not_ready", "checks": {"database": {"status": "unavailable"}}}
INFO = {"server_id": "server-a", "control_plane": {"version": "2"}, "worker_protocol": {"version": "1.20"}}


def got(body: dict[str, Any], code: int | None = 200, route: str = "balancer") -> Exchange:
    made = answer(route, code)
    made.body.update(body)
    return made


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (got({"status": "serving"}), Verdict.HOLDS),
        (got({"status": "degraded"}, 503), Verdict.BROKEN),
        (got({"status": "degraded"}), Verdict.BROKEN),
        (got({}), Verdict.BROKEN),
        (got({}, None), Verdict.BROKEN),
    ],
)
def test_balancer_health(exchange: Exchange, verdict: Verdict) -> None:
    assert health.balancer_health.judge({"balancer": exchange}).verdict is verdict


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (got(READY), Verdict.HOLDS),
        (got(NOT_READY, 503), Verdict.BROKEN),
        (got(READY, 500), Verdict.BROKEN),
        (got({}, 502), Verdict.BROKEN),
    ],
)
def test_balancer_ready(exchange: Exchange, verdict: Verdict) -> None:
    assert health.balancer_ready.judge({"balancer": exchange}).verdict is verdict


def test_the_readiness_checks_are_evidence() -> None:
    judged = health.balancer_ready.judge({"balancer": got(NOT_READY, 503)})
    assert "database unavailable" in " ".join(judged.evidence)


def test_one_node_that_is_not_ready_breaks_and_is_named() -> None:
    answers = {
        "balancer": got(READY),
        "server-a": got(READY, route="server-a"),
        "server-b": got(NOT_READY, 503, route="server-b"),
    }
    judged = health.nodes_ready.judge(answers)
    assert judged.verdict is Verdict.BROKEN
    assert judged.then == "invoke logs --service=server-b"
    assert health.nodes_ready.judge(answers | {"server-b": got(READY)}).verdict is Verdict.HOLDS


def cache(route: str, **cache: str) -> Exchange:
    return got({"status": "ready", "checks": {"cache": cache} if cache else {}}, route=route)


def test_nodes_that_reach_redis_hold() -> None:
    answers = {name: cache(name, status="ok", store="redis") for name in ("balancer", "server-a", "server-b")}
    assert health.nodes_reach_redis.judge(answers).verdict is Verdict.HOLDS


@pytest.mark.parametrize("seen", [{"status": "warning", "store": "redis"}, {"status": "ok", "store": "file"}])
def test_a_ready_node_without_redis_is_broken_and_named(seen: dict[str, str]) -> None:
    answers = {"server-a": cache("server-a", status="ok", store="redis"), "server-b": cache("server-b", **seen)}
    judged = health.nodes_reach_redis.judge(answers)
    assert judged.verdict is Verdict.BROKEN
    assert "server-b" in judged.cause


def test_a_node_that_does_not_tell_of_its_cache_is_unknown() -> None:
    answers = {"server-a": cache("server-a", status="ok", store="redis"), "server-b": cache("server-b")}
    assert health.nodes_reach_redis.judge(answers).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("absent", sorted(INFO))
def test_cluster_info_without_a_needed_field_is_broken(absent: str) -> None:
    assert health.balancer_cluster_info.judge({"balancer": got(INFO)}).verdict is Verdict.HOLDS
    short = {key: value for key, value in INFO.items() if key != absent}
    assert health.balancer_cluster_info.judge({"balancer": got(short)}).verdict is Verdict.BROKEN
    refused = got({"reason": "unauthorized"}, 401)
    assert health.balancer_cluster_info.judge({"balancer": refused}).verdict is Verdict.BROKEN


ASKED = {"long_poll_timeout": 5, "poll_status": True}


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (ASKED, Speech(worker_protocol="1.20", longest_hold=5.0)),
        ({"long_poll_timeout": 5}, Speech(worker_protocol="1.20", longest_hold=5.0, honours_timeouts=False)),
        ({"poll_status": "yes"}, Speech(worker_protocol="1.20", longest_hold=30.0, honours_timeouts=False)),
        ("none", Speech(worker_protocol="1.20", longest_hold=30.0, honours_timeouts=False)),
    ],
)
def test_a_server_speaks_as_it_says(capabilities: Any, expected: Speech) -> None:
    told = got({"worker_protocol": {"version": "1.20", "server_capabilities": capabilities}})
    assert health.speech_of({"balancer": got({}, None), "server-a": told}) == expected


def test_the_longest_hold_of_all_nodes_counts_and_no_odd_version_is_sent_back() -> None:
    slow = got({"worker_protocol": {"version": "1.0\r\nX: y", "server_capabilities": {"long_poll_timeout": 9}}})
    quick = got({"worker_protocol": {"version": "1.19", "server_capabilities": ASKED}})
    speech = health.speech_of({"server-a": slow, "server-b": quick})
    assert speech == Speech(worker_protocol="1.19", longest_hold=9.0, honours_timeouts=False)
    assert health.speech_of({"server-a": got({}, 401)}) == UNHEARD
