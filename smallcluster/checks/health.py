"""Do the balancer and each node answer: /api/health, /api/ready, /api/cluster/info."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from smallcluster.api import UNHEARD, Exchange, Plane, Speech
from smallcluster.bodies import mapping, seconds, text
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.judging import lacking
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

Answers = Mapping[str, Exchange]
"""One answer by route: the balancer and each node that the settings name."""

USABLE = ("ok", "redis")
"""Status and store of a cache check that means: this node reaches a shared Redis."""


VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")
"""A worker protocol version; anything else that a server tells as its version can't be sent back as a header."""
DEFAULT_HOLD_SECONDS = 30.0
"""How long a server holds an empty poll by default (protocol), where it does not say."""


def health_answers(live: Live) -> Answers:
    """Ask every route for /api/health."""
    return _ask_all(live, "/api/health", "open")


def ready_answers(live: Live) -> Answers:
    """Ask every route for /api/ready."""
    return _ask_all(live, "/api/ready", "open")


def info_answers(live: Live) -> Answers:
    """Ask every route for /api/cluster/info, as admin: only an admin is told about packages."""
    return _ask_all(live, "/api/cluster/info", "admin")


def speech_of(answers: Answers) -> Speech:
    """How the nodes speak to workers, by their cluster infos.

    A server that does not say that its polls have a status is one that does not mind their timeout either (0.2.10).
    """
    told = [mapping(answer.body.get("worker_protocol")) for answer in answers.values() if answer.ok]
    if not told:
        return UNHEARD
    versions = [text(one.get("version")) for one in told]
    capabilities = [mapping(one.get("server_capabilities")) for one in told]
    holds_for = [seconds(one.get("long_poll_timeout")) for one in capabilities]
    return Speech(
        worker_protocol=next(filter(VERSION.fullmatch, versions), UNHEARD.worker_protocol),
        longest_hold=max(DEFAULT_HOLD_SECONDS if hold is None else hold for hold in holds_for),
        honours_timeouts=all(one.get("poll_status") is True for one in capabilities),
    )


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
    return broken(
        answer.shown, expected="200 with status serving", cause=_likely(answer, "a node is degraded", "status")
    )


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
        cause=_likely(answer, "the named readiness check fails on the node that answered", "status"),
    )


@check("nodes-ready", "shape.nodes", probe=ready_answers, needs=[Need.NODES])
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
        cause=_likely(late[0], f"{late[0].route} lost its database, Redis or migrations", "status"),
        then=f"invoke logs --service={late[0].route}",
    )


@check("nodes-reach-redis", "shape.shared-redis", "outside.redis-less", probe=ready_answers, needs=[Need.NODES])
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
        silent = ", ".join(route for route, cache in caches.items() if not cache)
        return unknown(*evidence, cause=f"{silent}: no checks.cache in /api/ready to judge by.", then="invoke status")
    return holds(*evidence)


@check("balancer-cluster-info", "smoke.cluster-info", probe=info_answers)
def balancer_cluster_info(answers: Answers) -> Judgement:
    """/api/cluster/info tells through the balancer what answers."""
    answer = answers[BALANCER]
    told = {
        "server_id": text(answer.body.get("server_id")),
        "control_plane.version": text(mapping(answer.body.get("control_plane")).get("version")),
        "worker_protocol.version": text(mapping(answer.body.get("worker_protocol")).get("version")),
    }
    untold = [name for name, value in told.items() if not value]
    if answer.ok and not untold:
        also = f"version {answer.body.get('version')}"
        return holds(answer.shown, ", ".join(f"{name} {value}" for name, value in told.items()), also)
    lacks = f"the answer lacks {', '.join(untold)}" if answer.ok else "the token is refused"
    return broken(answer.shown, expected=f"200 with {', '.join(told)}", cause=_likely(answer, lacks))


def _readiness_check(answer: Exchange, name: str) -> Mapping[str, Any]:
    """One named check of a readiness answer; empty where the node doesn't tell."""
    return mapping(mapping(answer.body.get("checks")).get(name))


def _checks(answer: Exchange) -> str:
    """The readiness checks in a few words: `database ok, cache warning`."""
    checks = mapping(answer.body.get("checks"))
    words = (f"{name} {mapping(one).get('status') or one}" for name, one in checks.items())
    return ", ".join(words) or "no checks in the answer"


def _likely(answer: Exchange, otherwise: str, word: str = "") -> str:
    """Why an answer is not as it should be; `word` is the text that it must tell."""
    if answer.status is None:
        return f"{answer.route} is down, hangs, or publishes no port."
    untold = f"{answer.path} tells no {word}." if word and not text(answer.body.get(word)) else ""
    return lacking(answer) or untold or f"{otherwise}."
