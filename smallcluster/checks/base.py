"""What a check is: a pure judge over facts, and the probe that gathers them once from a live cluster."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import permutations
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from smallcluster.api import UNHEARD, Api, Credentials, Exchange, Speech
from smallcluster.bodies import text
from smallcluster.contract import BY_ID
from smallcluster.observed import Observed
from smallcluster.settings import Settings
from smallcluster.verdicts import Finding, Judgement, unknown

if TYPE_CHECKING:
    import requests

F = TypeVar("F")


class Need(StrEnum):
    """What a check's probe must be given to look at a cluster, beside requests to the balancer that only read."""

    NODES = "a way to each node, past the balancer"
    WRITES = "to start workflows and register workers, which a look that only reads does not do"
    ENGINE = "the Docker engine that runs it"
    DATABASE = "a database of the cluster's own, and its client"
    OUR_ENV = "an environment rendered here"
    BUDGET = "the admission budget that the environment rendered here sets on one task queue"
    LEASES = "leases of a few seconds (DW_WORKFLOW_TASK_TIMEOUT), as the environment rendered here sets them"


THROUGH = ("balancer, once", "balancer, again")
"""What stands in the nodes' place where they can't be reached: what crosses nodes then may, by chance, not cross."""


@dataclass
class Heard:
    """The answers so far, as far as a later look at them needs: their texts, with who said what."""

    answers: int = 0
    _texts: dict[str, list[str]] = field(default_factory=dict)

    def note(self, exchange: Exchange) -> None:
        """Keep an answer's text."""
        self.answers += 1
        where = f"{exchange.method} {exchange.path.partition('?')[0]} via {exchange.route} → {exchange.status}"
        self._texts.setdefault(where, []).append(exchange.text)

    def leaks(self, secrets: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """Each answer, and the name of a secret in it."""
        for where, texts in list(self._texts.items()):
            yield from ((where, name) for name, value in secrets.items() if any(value in told for told in texts))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What crossed an ordered pair of nodes: begun through `first`, gone on with through `second`."""

    first: str
    second: str

    @property
    def name(self) -> str:
        """Both nodes in order: `server-a → server-b`."""
        return f"{self.first} → {self.second}"


@dataclass
class Live:
    """A running cluster as probes see it. Each probe runs once; its facts are shared by all checks that name it."""

    cluster: Observed
    routes: Mapping[str, str]
    credentials: Credentials
    record: Callable[[Exchange], None]
    say: Callable[[str], None] = lambda _: None
    speech: Speech = UNHEARD
    """How the cluster's nodes speak to workers, by their own word."""
    verify: bool | str = True
    """Whom to trust where the routes are HTTPS: a file of certificates, or whoever the machine trusts."""
    offers: frozenset[Need] = frozenset(Need)
    """What this cluster lets a probe use; a check that needs more is unknown here."""
    patience: float = 30.0
    """How long a look waits for what a scheduler or a node does by and by, in seconds."""
    heard: Heard = field(default_factory=Heard)
    given_up: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for the checks any longer: each ends with the request that it has on its way."""
    started: set[str] = field(default_factory=set)
    """The ids of the workflows that probes have started."""
    workers: set[str] = field(default_factory=set)
    """The ids under which probes have registered workers, to be deregistered when all have looked."""
    _facts: dict[Any, Future[Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def settings(self) -> Settings:
        """The settings that the cluster was rendered from."""
        return self.cluster.settings

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the API nodes, or two ways through the balancer where they are out of reach."""
        return self.settings.node_names if Need.NODES in self.offers else THROUGH

    def api(self, route: str, session: requests.Session | None = None) -> Api:
        """An Api on one route; a route without an address answers nothing, which is evidence too."""
        return Api(
            route=route,
            base=self.routes.get(route),
            credentials=self.credentials,
            record=self._record,
            namespace=self.settings.value("DW_DEFAULT_NAMESPACE") or "default",
            speech=self.speech,
            session=session,
            verify=self.verify,
        )

    def _record(self, exchange: Exchange) -> None:
        self.heard.note(exchange)
        if exchange.ok and (exchange.method, exchange.path) == ("POST", "/api/workflows"):
            self.started.add(text(exchange.body.get("workflow_id")))
        self.record(exchange)
        if self.given_up.is_set():
            raise SystemExit  # what ends a thread without a word; nobody hears its finding

    def each_pair(
        self, cross: Callable[[Live, str, str], F], pairs: Iterable[tuple[str, str]] | None = None
    ) -> tuple[F, ...]:
        """What comes of crossing these pairs of nodes, or else every ordered pair, all pairs at the same time."""
        crossed = list(permutations(self.nodes, 2) if pairs is None else pairs)
        with ThreadPoolExecutor(max_workers=len(crossed)) as pool:
            return tuple(pool.map(lambda pair: cross(self, *pair), crossed))

    def facts(self, probe: Callable[[Live], F]) -> F:
        """What `probe` sees; the first caller runs it, the others wait for the same answer."""
        with self._lock:
            future = self._facts.get(probe)
            mine = future is None
            if future is None:
                future = self._facts[probe] = Future()
        if mine:
            try:
                future.set_result(probe(self))
            except BaseException as problem:
                future.set_exception(problem)
        return cast("F", future.result())


@dataclass(frozen=True, kw_only=True)
class Check(Generic[F]):
    """A named check: the rules it proves, the probe that looks, the judge that decides.

    `needs` is what the probe uses beside HTTP. `waits` is how many seconds it must let pass for what it looks at to
    become due, with the environment rendered here: no cluster can make it shorter.
    """

    id: str
    title: str
    rules: tuple[str, ...]
    probe: Callable[[Live], F]
    judge: Callable[[F], Judgement]
    needs: frozenset[Need] = frozenset()
    waits: float = 0.0
    alone: bool = False

    def run(self, live: Live) -> Finding:
        """Look (or share an earlier look) and judge. A look that fails or may not be taken is unknown, and says why."""
        began = time.monotonic()
        missing = sorted(self.needs - live.offers)
        judgement = _out_of_reach(missing) if missing else self._judged(live)
        return Finding(
            check=self.id,
            title=self.title,
            rules=self.rules,
            judgement=judgement,
            seconds=time.monotonic() - began,
            waits=0.0 if missing else self.waits,
        )

    def _judged(self, live: Live) -> Judgement:
        try:
            return self.judge(live.facts(self.probe))
        except Exception as problem:
            return unknown(
                *traceback.format_exception_only(problem),
                *(line.strip() for line in traceback.format_tb(problem.__traceback__)[-2:]),
                cause="the check could not look; the cluster itself was not judged.",
            )


def _out_of_reach(missing: Iterable[Need]) -> Judgement:
    return unknown(cause=f"this check needs {' and '.join(missing)}, which is not to be had here.")


def check(
    identity: str,
    *rules: str,
    probe: Callable[[Live], F],
    needs: Iterable[Need] = (),
    waits: float = 0.0,
    alone: bool = False,
) -> Callable[[Callable[[F], Judgement]], Check[F]]:
    """Make a Check of a judging function; its docstring's first line is the title.

    Raises KeyError at import for a rule that the contract doesn't have.
    """
    wanted = frozenset(needs)

    def make(judge: Callable[[F], Judgement]) -> Check[F]:
        for rule in rules:
            BY_ID[rule]
        title = (judge.__doc__ or "").strip().splitlines()[0].removesuffix(".")
        return Check(
            id=identity, title=title, rules=rules, probe=probe, judge=judge, needs=wanted, waits=waits, alone=alone
        )

    return make
