"""How near a cluster comes to what its statements alone cost: cycles through nodes, and through bare handlers, in turn.

The bare handlers are the reference server's own (`dw-refserver floor`), started beside each node in its container: they
send the same statements over the same driver, and nothing else. Before them stands a second nginx in the balancer's
container, with the balancer's configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from smallcluster import files, waiting
from smallcluster.api import Api
from smallcluster.bench.addresses import OWN
from smallcluster.bench.client import RequestFailedError
from smallcluster.bench.cycles import stretch
from smallcluster.bench.figures import Spread
from smallcluster.bench.plan import CONNECTIONS, Plan
from smallcluster.bench.traffic import Ledger, complete_rest, register, speaking
from smallcluster.containers import BALANCER, Container
from smallcluster.errors import ClusterBrokenError
from smallcluster.flavours import Flavour
from smallcluster.render import nginx_conf
from smallcluster.settings import Settings
from smallcluster.static.own import MOUNTED

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
def handlers(cluster: Cluster, say: Callable[[str], None]) -> Iterator[str]:
    """Start the bare handlers and their balancer, and give its base URL; end them afterwards.

    Raises ClusterBrokenError where they don't answer.
    """
    found, conf = cluster.containers(), cluster.settings.folder / "nginx" / "floor.conf"
    files.write_public(conf, configuration(cluster.settings))
    serve = f"dw-refserver floor --port={PORT}"
    balance = f"nginx -c {MOUNTED}/{conf.name} -g 'daemon off;'"
    with ExitStack() as ending:
        ending.callback(conf.unlink)
        for name in cluster.settings.node_names:
            ending.enter_context(_running(cluster, found[name], serve))
        ending.enter_context(_running(cluster, found[BALANCER], balance))
        url = f"http://{found[BALANCER].address}:{PORT}"
        waiting.until_none("the bare handlers answer", lambda: _silent(url), deadline=READY_SECONDS, say=say)
        yield url


def configuration(settings: Settings) -> str:
    """The balancer's configuration, with the bare handlers in the nodes' place."""
    own = nginx_conf(settings).replace("8080", str(PORT))
    return own.replace("/tmp/nginx.pid", "/tmp/floor.pid")  # noqa: S108 - the container's own


@contextmanager
def _running(cluster: Cluster, container: Container, command: str) -> Iterator[None]:
    """Keep a command running in a container; its words go where the container's own go, so `invoke logs` shows them."""
    process = _run_inside(cluster, container, f"{command} >/proc/1/fd/1 2>&1 & echo $!")
    try:
        yield
    finally:
        _run_inside(cluster, container, f"kill {process}")


def _run_inside(cluster: Cluster, container: Container, line: str) -> str:
    status, output = cluster.client.containers.get(container.id).exec_run(["sh", "-c", line])
    text = cast("bytes", output).decode(errors="replace").strip()
    if status:
        raise ClusterBrokenError(
            f"`{line}` ended with status {status} in {container.service}'s container.",
            seen=cluster.redacted(text),
            why="the program ended on its own before; its words are in the container's log.",
            then=f"look with `invoke logs --service={container.service}`.",
        )
    return text


def _silent(url: str) -> str | None:
    import requests

    try:
        status = requests.get(url, timeout=2).status_code
    except requests.RequestException as problem:
        return type(problem).__name__
    return None if status == 200 else f"status {status}"


async def measure(api: Api, bare: Api, plan: Plan, ledger: Ledger, say: Callable[[str], None]) -> Floor:
    """Run the cycles through `api` and through the `bare` handlers in turn, as often as the plan has runs."""
    worker = await asyncio.to_thread(register, api, ledger, "floor")
    rates: list[float] = []
    shares: list[float] = []
    weak: list[str] = []
    async with AsyncExitStack() as stack:
        try:
            ours = [await stack.enter_async_context(speaking(api, ledger)) for _ in range(CONNECTIONS)]
            theirs = [await stack.enter_async_context(speaking(bare, ledger)) for _ in range(CONNECTIONS)]
            await stretch(theirs, worker, 1.0)  # its connections to the database are opened, its statements compiled
            for number in range(1, plan.runs + 1):
                through, rate = await _rate(ours, worker, plan), await _rate(theirs, worker, plan)
                rates.append(rate)
                shares.append(through / rate)
                say(f"pair {number} of {plan.runs}: {through:.1f} of {rate:.1f} cycles/s, {shares[-1]:.2f}")
            await complete_rest(ours[0], worker)
        except RequestFailedError as problem:
            weak.append(str(problem))
    return Floor(Spread.of(rates), Spread.of(shares), weak=tuple(weak))


async def _rate(speakers: list[Speaker], worker: Worker, plan: Plan) -> float:
    return len(await stretch(speakers, worker, plan.seconds)) / plan.seconds
