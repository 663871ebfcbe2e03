"""How near a cluster comes to what its statements alone cost: cycles through nodes, and through bare handlers, in turn.

The bare handlers are the reference server's own (`dw-refserver floor`), started beside each node in its container: they
send the same statements over the same driver, and nothing else. No balancer stands before them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from smallcluster import waiting
from smallcluster.api import Api
from smallcluster.bench.addresses import OWN
from smallcluster.bench.client import RequestFailedError
from smallcluster.bench.cycles import stretch
from smallcluster.bench.figures import Spread
from smallcluster.bench.plan import CONNECTIONS, Plan
from smallcluster.bench.traffic import Ledger, complete_rest, register, speaking
from smallcluster.errors import ClusterBrokenError
from smallcluster.flavours import Flavour

if TYPE_CHECKING:
    from smallcluster.bench.traffic import Speaker, Worker
    from smallcluster.cluster import Cluster

PORT = 8090
READY_SECONDS = 20.0
"""How long the bare handlers may take to answer."""


@dataclass(frozen=True)
class Floor:
    """Cycles a second through bare handlers, and what share of them the cluster reached, by pairs of runs."""

    rate: Spread | None = None
    share: Spread | None = None
    """The cluster's cycles a second, in the run just before, divided by the floor's."""
    absent: str = ""
    """Why there is no floor to be measured here, where there is none."""
    weak: tuple[str, ...] = ()


def missing(cluster: Cluster, addressed: str) -> str:
    """Why no floor can be measured on this cluster; empty where it can."""
    if cluster.images["server"].flavour is not Flavour.REFERENCE:
        return "only the bundled server has bare handlers"
    return "" if addressed == OWN else "the containers' own addresses are out of reach"


@contextmanager
def handlers(cluster: Cluster, say: Callable[[str], None]) -> Iterator[dict[str, str]]:
    """Start the bare handlers beside each node and give their base URLs by name; end them afterwards.

    Raises ClusterBrokenError where they don't answer.
    """
    found = cluster.containers()
    nodes = [found[name] for name in cluster.settings.node_names]
    started = {}
    try:
        for node in nodes:  # their words go where the node's own go, so that `invoke logs` shows them
            line = f"dw-refserver floor --port={PORT} >/proc/1/fd/1 2>&1 & echo $!"
            started[node.id] = _run_inside(cluster, node.id, line)
        urls = {f"floor beside {node.service}": f"http://{node.address}:{PORT}" for node in nodes}
        waiting.until_none("the bare handlers answer", lambda: _silent(urls), deadline=READY_SECONDS, say=say)
        yield urls
    finally:
        for container, process in started.items():
            _run_inside(cluster, container, f"kill {process}")


def _run_inside(cluster: Cluster, container: str, line: str) -> str:
    status, output = cluster.client.containers.get(container).exec_run(["sh", "-c", line])
    text = cast("bytes", output).decode(errors="replace").strip()
    if status:
        raise ClusterBrokenError(f"`{line}` ended with {status} in a node's container.", seen=cluster.redacted(text))
    return text


def _silent(urls: dict[str, str]) -> str | None:
    import requests

    for name, url in urls.items():
        try:
            requests.get(url, timeout=2).raise_for_status()
        except requests.RequestException as problem:
            return f"{name}: {type(problem).__name__}"
    return None


async def measure(api: Api, floors: Sequence[Api], plan: Plan, ledger: Ledger, say: Callable[[str], None]) -> Floor:
    """Run the cycles through `api` and through the floors in turn, as often as the plan has runs."""
    worker = await asyncio.to_thread(register, api, ledger, "floor")
    rates: list[float] = []
    shares: list[float] = []
    weak: list[str] = []
    async with AsyncExitStack() as stack:
        try:
            ours = [await stack.enter_async_context(speaking(api, ledger)) for _ in range(CONNECTIONS)]
            bare = [
                await stack.enter_async_context(speaking(floors[number % len(floors)], ledger))
                for number in range(CONNECTIONS)
            ]
            await stretch(bare, worker, 1.0)  # its connections to the database are opened, its statements compiled
            for number in range(1, plan.runs + 1):
                through, rate = await _rate(ours, worker, plan), await _rate(bare, worker, plan)
                rates.append(rate)
                shares.append(through / rate)
                say(f"pair {number} of {plan.runs}: {through:.1f} of {rate:.1f} cycles/s, {shares[-1]:.2f}")
            await complete_rest(ours[0], worker)
        except RequestFailedError as problem:
            weak.append(str(problem))
    return Floor(Spread.of(rates), Spread.of(shares), weak=tuple(weak))


async def _rate(speakers: list[Speaker], worker: Worker, plan: Plan) -> float:
    return len(await stretch(speakers, worker, plan.seconds)) / plan.seconds


def apis(api: Api, urls: dict[str, str]) -> list[Api]:
    """The bare handlers as routes of the same client."""
    return [replace(api, route=name, base=url) for name, url in urls.items()]
