"""Who is let in: the same credentials on every node and through the balancer, each role for its own routes."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from smallcluster.api import Credentials, Exchange
from smallcluster.checks.base import Live, Need, check
from smallcluster.checks.judging import lacking
from smallcluster.containers import BALANCER
from smallcluster.verdicts import Judgement, broken, holds, unknown

INFO = "/api/cluster/info"
NOBODYS = "nobodys-token"


@dataclass(frozen=True, kw_only=True)
class Doors:
    """What one route answers to each kind of caller. The refused ones write nothing."""

    route: str
    tokenless: Exchange
    """Cluster info, without any token."""
    nobody: Exchange
    """Cluster info, with a token that is nobody's."""
    worker: Exchange
    """Cluster info, with the worker's token."""
    control: Exchange
    """The list of workflows, with the operator's token."""
    foreign: Exchange | None
    """The list of workflows, with the worker's token; None where both roles have the same token."""
    admin: Exchange | None
    """A namespace without a name, made with the worker's token; None as above, and where nothing may be written."""


def doors(live: Live) -> tuple[Doors, ...]:
    """Knock at the balancer and at every node, all at the same time."""
    routes = (BALANCER, *live.nodes)
    with ThreadPoolExecutor(max_workers=len(routes)) as pool:
        return tuple(pool.map(lambda route: _knock(live, route), routes))


def _knock(live: Live, route: str) -> Doors:
    own, api = live.credentials, live.api(route)
    nobody = replace(api, credentials=Credentials(NOBODYS, NOBODYS, NOBODYS))
    posing = replace(api, credentials=Credentials(own.worker, own.worker, own.worker))
    writes = Need.WRITES in live.offers and own.worker != own.admin
    return Doors(
        route=route,
        tokenless=api.get(INFO, "open"),
        nobody=nobody.get(INFO),
        worker=api.get(INFO, "worker"),
        control=api.get("/api/workflows?page_size=1"),
        foreign=None if own.worker == own.control else posing.get("/api/workflows?page_size=1"),
        admin=posing.post("/api/namespaces", {}, "admin") if writes else None,
    )


def _judge(seen: tuple[Doors, ...], wanted: Mapping[str, int], cause: str) -> Judgement:
    """Each named knock must have this status at every route."""
    answers = {(one.route, name): getattr(one, name) for one in seen for name in wanted}
    there = {key: answer for key, answer in answers.items() if answer is not None}
    evidence = [f"{name}: {answer.shown}" for (_, name), answer in there.items()]
    wrong = [answer for (_, name), answer in there.items() if answer.status != wanted[name]]
    if not there:
        return unknown(cause="both roles have the same token here: nobody can be told apart.")
    lack = lacking(*there.values())
    if not wrong and not lack:
        return holds(*evidence)
    if lack or any(answer.status is None for answer in wrong):
        return unknown(*evidence, cause=lack or "a route gave no answer to judge by.")
    expected = ", ".join(f"{name} {status}" for name, status in wanted.items())
    return broken(*evidence, expected=f"at every route: {expected}", cause=cause, then="invoke render --explain")


@check("credentials-are-the-same-everywhere", "operator.same-credentials", probe=doors, needs=[Need.NODES])
def credentials_are_the_same_everywhere(seen: tuple[Doors, ...]) -> Judgement:
    """Balancer and nodes take the same tokens, and turn away who has none or nobody's."""
    wanted = {"tokenless": 401, "nobody": 401, "worker": 200, "control": 200}
    return _judge(seen, wanted, "a node has other tokens than the rest, or takes anybody (DW_AUTH_DRIVER).")


@check("worker-token-opens-no-operator-route", "upgrades.role-scoped-auth", probe=doors)
def worker_token_opens_no_operator_route(seen: tuple[Doors, ...]) -> Judgement:
    """The worker's token opens no route of the operator's or the admin's, at the balancer or at any node."""
    return _judge(
        seen, {"foreign": 403, "admin": 403}, "a node does not keep roles apart: each token opens everything there."
    )
