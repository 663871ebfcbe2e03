"""Do the balancer and each node answer: /api/health, /api/ready, /api/cluster/info."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from smallcluster.api import Exchange, Plane
from smallcluster.checks.base import Live, check
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

Answers = Mapping[str, Exchange]
"""One answer by route: the balancer and each node that the settings name."""

USABLE = ("ok", "redis")
"""Status and store of a cache check that means: this node reaches a shared Redis."""


def health_answers(live: Live) -> Answers:
    """Ask every route for /api/health."""
    return _ask_all(live, "/api/health", "open")


def ready_answers(live: Live) -> Answers:
    """Ask every route for /api/ready."""
    return _ask_all(live, "/api/ready", "open")


def info_answers(live: Live) -> Answers:
    """Ask every route for /api/cluster/info, as admin: only an admin is told about packages."""
    return _ask_all(live, "/api/cluster/info", "admin")


def _ask_all(live: Live, path: str, plane: Plane) -> Answers:
    """Ask balancer and nodes at the same time: one that hangs must not make the others wait."""
    routes = (BALANCER, *live.nodes)
    with ThreadPoolExecutor(max_workers=len(routes)) as pool:
        answers = pool.map(lambda route: live.api(route).get(path, plane), routes)
        return dict(zip(routes, answers, strict=True))


@check("balancer-health", "smoke.health", "operator.http-only", probe=health_answers)
def balancer_health(answers: Answers) -> Judgement:
    """/api/health serves through the balancer."""
    answer = answers[BALANCER]
    if answer.ok and answer.body.get("status") == "serving":
        return holds(answer.shown, _checks(answer))
    return broken(answer.shown, expected="200 with status serving", cause=_silence_or(answer, "a node is degraded"))


@check("balancer-ready", "smoke.ready", probe=ready_answers)
def balancer_ready(answers: Answers) -> Judgement:
    """/api/ready is ready through the balancer."""
    answer = answers[BALANCER]
    if answer.ok and answer.body.get("status") == "ready":
        return holds(answer.shown, _checks(answer))
    return broken(
        answer.shown,
        _checks(answer),
        expected="200 with status ready",
        cause=_silence_or(answer, "the named readiness check fails on the node that answered"),
    )


@check("nodes-ready", "shape.nodes", probe=ready_answers)
def nodes_ready(answers: Answers) -> Judgement:
    """Each API node is ready when asked directly."""
    nodes = {route: answer for route, answer in answers.items() if route != BALANCER}
    late = [answer for answer in nodes.values() if not (answer.ok and answer.body.get("status") == "ready")]
    evidence = [f"{answer.shown} ({_checks(answer)})" for answer in nodes.values()]
    if not late:
        return holds(*evidence)
    return broken(
        *evidence,
        expected="200 with status ready from every node",
        cause=_silence_or(late[0], f"{late[0].route} lost its database, Redis or migrations"),
        then=f"invoke logs --service={late[0].route}",
    )


@check("nodes-reach-redis", "shape.shared-redis", probe=ready_answers)
def nodes_reach_redis(answers: Answers) -> Judgement:
    """Each node uses Redis as its cache and reaches it; a node that lost it serves on, so readiness alone hides it."""
    nodes = {route: answer for route, answer in answers.items() if route != BALANCER}
    caches = {route: _readiness_check(answer, "cache") for route, answer in nodes.items()}
    evidence = [f"{route}: cache {cache or 'not told'}" for route, cache in caches.items()]
    lost = [route for route, cache in caches.items() if cache and (cache.get("status"), cache.get("store")) != USABLE]
    if lost:
        return broken(
            *evidence,
            expected="cache status ok with store redis on every node",
            cause=f"{lost[0]} has other REDIS_ settings than the rest, or Redis is down.",
            then=f"invoke logs --service={lost[0]}",
        )
    if not all(caches.values()):
        return unknown(*evidence, cause="not every node tells of its cache on /api/ready.", then="invoke status")
    return holds(*evidence)


@check("balancer-cluster-info", "smoke.cluster-info", probe=info_answers)
def balancer_cluster_info(answers: Answers) -> Judgement:
    """/api/cluster/info tells through the balancer what answers."""
    answer = answers[BALANCER]
    planes = [answer.body.get(plane) for plane in ("control_plane", "worker_protocol")]
    versions = [plane.get("version") if isinstance(plane, dict) else None for plane in planes]
    if answer.ok and answer.body.get("server_id") and all(versions):
        return holds(
            answer.shown,
            f"server {answer.body['server_id']}, version {answer.body.get('version')}, "
            f"control plane {versions[0]}, worker protocol {versions[1]}",
        )
    return broken(
        answer.shown,
        expected="200 with server_id, control_plane.version and worker_protocol.version",
        cause=_silence_or(answer, "the token is refused, or this is not a Durable Workflow Server"),
    )


def _readiness_check(answer: Exchange, name: str) -> Mapping[str, Any]:
    """One named check of a readiness answer; empty where the node doesn't tell."""
    checks = answer.body.get("checks")
    found = checks.get(name) if isinstance(checks, dict) else None
    return found if isinstance(found, dict) else {}


def _checks(answer: Exchange) -> str:
    """The readiness checks in a few words: `database ok, cache warning`."""
    checks = answer.body.get("checks")
    if not isinstance(checks, dict):
        return "no checks in the answer"
    words = (f"{name} {one.get('status') if isinstance(one, dict) else one}" for name, one in checks.items())
    return ", ".join(words)


def _silence_or(answer: Exchange, otherwise: str) -> str:
    if answer.status is None:
        return f"{answer.route} is down, hangs, or publishes no port."
    return f"{otherwise}."
