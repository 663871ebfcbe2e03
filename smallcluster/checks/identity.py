"""Who the nodes say they are, and whether they are one release."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smallcluster.api import Api, Exchange
from smallcluster.bodies import mapping, text
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.health import info_answers
from smallcluster.checks.judging import lacking
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

INFO = "/api/cluster/info"
REQUESTS_PER_WAY = 12
"""How many requests each way of connecting sends at least to see every node behind the balancer."""
MOST_REQUESTS = 60
PAUSE_SECONDS = 0.05
"""What lies between further requests, for a node that has not been seen yet: others' requests take turns with ours, and
the balancer leaves a node out for a second after a failed connection."""


@dataclass(frozen=True)
class NodeInfos:
    """Each node's own cluster info, and the release that the settings ask for."""

    answers: Mapping[str, Exchange]
    app_version: str
    """Empty where nobody has said which release it should be."""
    rendered: bool = True
    """Whether the ids were rendered here, so that each node's is known."""


@dataclass(frozen=True)
class Spread:
    """Which server ids answered through the balancer, in order, over new connections and over a kept one.

    The id of an answer that tells none is empty.
    """

    nodes: tuple[str, ...]
    separate: tuple[str, ...]
    kept_alive: tuple[str, ...]
    failures: tuple[str, ...]


def node_infos(live: Live) -> NodeInfos:
    """Keep the nodes' answers only; they were asked together with the balancer."""
    answers = {route: answer for route, answer in live.facts(info_answers).items() if route != BALANCER}
    return NodeInfos(answers, live.settings.value("APP_VERSION"), Need.OUR_ENV in live.offers)


def spread(live: Live) -> Spread:
    """Ask through the balancer who answers, over many connections and over one kept alive."""
    import requests

    separate = _asked(live.api(BALANCER), len(live.nodes))
    with requests.Session() as session:
        kept = _asked(live.api(BALANCER, session), len(live.nodes))
    failures = [exchange.shown for exchange in (*separate, *kept) if not exchange.ok]
    ids = [[text(one.body.get("server_id")) for one in way if one.ok] for way in (separate, kept)]
    return Spread(live.nodes, tuple(ids[0]), tuple(ids[1]), tuple(failures))


def _asked(api: Api, nodes: int) -> list[Exchange]:
    """Ask who answers until all have; the first failure says enough, and a hung node must not cost a minute."""
    answers: list[Exchange] = []
    while len(answers) < MOST_REQUESTS:
        answers.append(api.get(INFO))
        enough = len(answers) >= REQUESTS_PER_WAY
        if not answers[-1].ok or (enough and len({text(one.body.get("server_id")) for one in answers}) >= nodes):
            break
        time.sleep(PAUSE_SECONDS if enough else 0)
    return answers


@check("nodes-have-own-ids", "operator.server-id", probe=node_infos, needs=[Need.NODES])
def nodes_have_own_ids(infos: NodeInfos) -> Judgement:
    """Each node answers with a server id of its own; where it was rendered here, with that one."""
    silent = _silent(infos)
    if silent:
        return silent
    seen = {route: answer.body.get("server_id") for route, answer in infos.answers.items()}
    evidence = [f"{route} says {identity!r}" for route, identity in seen.items()]
    if not any(seen.values()):
        return unknown(*evidence, cause=f"this server tells no server_id on {INFO}.")
    alone = all(seen.values()) and len(set(map(str, seen.values()))) == len(seen)
    if alone and (not infos.rendered or all(route == identity for route, identity in seen.items())):
        return holds(*evidence)
    return broken(
        *evidence,
        expected="every node says the id of its own env file",
        cause="DW_SERVER_ID is missing, shared by nodes, or set in the image.",
        then="invoke render --explain",
    )


@check(
    "nodes-are-one-release", "operator.same-version", "shape.stop-the-world", "outside.rolling-upgrades",
    probe=node_infos, needs=[Need.NODES],
)  # fmt: skip
def nodes_are_one_release(infos: NodeInfos) -> Judgement:
    """All nodes report the same version, payload codec and protocols, and the version is APP_VERSION."""
    silent = _silent(infos)
    if silent:
        return silent
    facts = {route: _release(answer.body) for route, answer in infos.answers.items()}
    evidence = [f"{route}: " + _listed(release) for route, release in facts.items()]
    told = {name: [release[name] for release in facts.values()] for name in _release({})}
    untold = sorted(name for name, values in told.items() if None in values)
    differing = sorted(name for name, values in told.items() if len(set(map(str, values))) > 1)
    if untold:
        return unknown(*evidence, cause=f"a node does not tell its {', '.join(untold)} on {INFO}.")
    if differing:
        return broken(
            *evidence,
            expected=f"the same {', '.join(differing)} on every node",
            cause="nodes run different images or env files: a mixed or half-done upgrade.",
            then="invoke status",
        )
    if infos.app_version and set(map(str, told["version"])) != {infos.app_version}:
        return broken(
            *evidence,
            expected=f"version {infos.app_version}, as APP_VERSION says",
            cause="the running nodes were started from other env files than the rendered ones.",
            then="invoke down, then invoke up",
        )
    return holds(*evidence)


@check("nodes-run-same-packages", "operator.same-packages", probe=node_infos, needs=[Need.NODES])
def nodes_run_same_packages(infos: NodeInfos) -> Judgement:
    """All nodes report the same package provenance."""
    silent = _silent(infos)
    if silent:
        return silent
    told = {route: answer.body.get("package_provenance") for route, answer in infos.answers.items()}
    evidence = [f"{route}: packages {value or 'not told'}" for route, value in told.items()]
    if not any(told.values()):
        return unknown(
            *evidence,
            cause=f"this server tells an admin no package_provenance on {INFO}, or its setting "
            "DW_EXPOSE_PACKAGE_PROVENANCE is off.",
        )
    if len({json.dumps(value, sort_keys=True) for value in told.values()}) > 1:
        return broken(
            *evidence,
            expected="the same packages on every node",
            cause="nodes run different images: a mixed or half-done upgrade.",
            then="invoke status",
        )
    return holds(*evidence)


@check("balancer-reaches-every-node", "shape.balancer", "api.no-sticky-sessions", probe=spread, needs=[Need.NODES])
def balancer_reaches_every_node(seen: Spread) -> Judgement:
    """Requests through the balancer reach every node, over many connections and over one kept alive."""
    evidence = [
        f"{len(ids)} requests over {way}: " + _counts(ids)
        for way, ids in (("separate connections", seen.separate), ("one connection", seen.kept_alive))
    ]
    if seen.failures:
        return broken(
            *evidence,
            *seen.failures[:3],
            expected="every request is answered with 200",
            cause="a node behind the balancer is down or refuses the token.",
            then="invoke logs --service=balancer",
        )
    if not all((*seen.separate, *seen.kept_alive)):
        return unknown(*evidence, cause=f"an answer of {INFO} tells no server_id: nobody knows which node gave it.")
    if all(set(ids) == set(seen.nodes) for ids in (seen.separate, seen.kept_alive)):
        return holds(*evidence)
    return broken(
        *evidence,
        expected="every one of " + ", ".join(seen.nodes) + " answers, either way",
        cause="the balancer is sticky, or its upstream lacks a node or has stale addresses.",
        then="invoke logs --service=balancer",
    )


def _silent(infos: NodeInfos) -> Judgement | None:
    """Unknown, where a node gave no answer to judge by."""
    silent = [answer for answer in infos.answers.values() if not (answer.ok and answer.body)]
    if not silent:
        return None
    cause = lacking(*silent) or f"not every node answered {INFO}."
    return unknown(*(answer.shown for answer in silent), cause=cause, then="invoke status")


def _release(body: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal on nodes of one release, as far as the node tells it."""
    return {
        "version": body.get("version"),
        "payload codecs": mapping(body.get("capabilities")).get("payload_codecs"),
        "control plane": mapping(body.get("control_plane")).get("version"),
        "worker protocol": mapping(body.get("worker_protocol")).get("version"),
    }


def _listed(release: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in release.items())


def _plain(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _counts(ids: tuple[str, ...]) -> str:
    return ", ".join(f"{identity} {ids.count(identity)}×" for identity in sorted(set(ids))) or "no answer"
