"""The verb's work: a cluster, three measurements on it, a report. Up and down as the smoke does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from smallcluster import engine, visits
from smallcluster.api import Api
from smallcluster.bench import cycles, floor, idle_polls, starts, wakes
from smallcluster.bench.addresses import addresses
from smallcluster.bench.cycles import Cycles
from smallcluster.bench.floor import Floor
from smallcluster.bench.idle_polls import IdlePolls
from smallcluster.bench.machine import Machine, this_machine
from smallcluster.bench.plan import Plan, make_room
from smallcluster.bench.starts import Starts
from smallcluster.bench.threads import run_beside
from smallcluster.bench.traffic import Ledger
from smallcluster.bench.usage import Cores, cores_used, memory_of
from smallcluster.bench.wakes import Wakes
from smallcluster.cluster import Cluster
from smallcluster.containers import BALANCER
from smallcluster.errors import ExitCode
from smallcluster.progress import Progress
from smallcluster.smoke import look_at
from smallcluster.visits import Ended, Visit


@dataclass
class Measured:
    """What has been measured so far; None where it was not come to."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    addressed: str = ""
    cycles: Cycles | None = None
    cores: Cores | None = None
    """Who used how many cores during the cycles, warm-up and single connection included."""
    floor: Floor | None = None
    wakes: Wakes | None = None
    starts: Starts | None = None
    idle_polls: IdlePolls | None = None
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def weak(self) -> list[str]:
        """Every reason why a figure is missing or can't be trusted."""
        parts = {
            "cycles": self.cycles,
            "floor": self.floor,
            "wakes": self.wakes,
            "idle polls": self.idle_polls,
            "node start": self.starts,
        }
        missing = [f"{name}: not measured" for name, part in parts.items() if part is None]
        return missing + [f"{name}: {why}" for name, part in parts.items() if part for why in part.weak]


@dataclass(frozen=True, kw_only=True)
class BenchReport(Ended):
    """Everything a bench found out, and how it went."""

    plan: Plan
    machine: Machine
    load_after: float
    engine: str
    measured: Measured

    @property
    def exit_code(self) -> ExitCode:
        """0: measured, whatever the figures; 11: a figure is missing or weak; a stop has its own."""
        if self.problem is not None:
            return self.problem.code
        return ExitCode.UNKNOWN if self.measured.weak else ExitCode.HOLDS


def bench(cluster: Cluster, progress: Progress, plan: Plan, *, began: float) -> BenchReport:
    """Measure. On a running cluster: that one, and it is left. On none: up, measure, down.

    `began` is the monotonic time at which the verb started. Raises MachineCannotError where this machine can't hold
    so many polls; any later stop is in the report.
    """
    make_room(plan.polls)
    machine = this_machine()
    visit = visits.begin("bench", cluster, progress)
    measured = Measured()
    problem = visit.go(lambda: _measure(visit, plan, measured))
    return BenchReport(
        plan=plan,
        machine=machine,
        load_after=this_machine().load,
        engine=engine.facts(cluster.client).version,
        measured=measured,
        **visit.ended(problem, began),
    )


def _measure(visit: Visit, plan: Plan, measured: Measured) -> None:
    cluster, progress, ledger = visit.cluster, visit.progress, measured.ledger
    if visit.already:
        cluster.await_ready(progress)
    live = look_at(cluster, visit.kept, progress.line)
    measured.addresses, measured.addressed = addresses(cluster)
    apis = {route: replace(live.api(route), base=base) for route, base in measured.addresses.items()}
    nodes = [apis[name] for name in cluster.settings.node_names[:2]]
    memory = partial(memory_of, cluster.client, cluster.containers()[nodes[0].route].id)
    with progress.step(f"{plan.runs} runs of cycles") as step, cores_used(cluster) as measured.cores:
        measured.cycles = run_beside(cycles.measure(apis[BALANCER], plan, ledger, step.say))
    measured.floor = _floor(visit, apis[BALANCER], plan, measured)
    with progress.step("wakes across nodes") as step:
        measured.wakes = run_beside(wakes.measure(nodes, plan, ledger, step.say))
    with progress.step(f"{plan.polls} idle polls on {nodes[0].route}") as step:
        measured.idle_polls = run_beside(idle_polls.measure(nodes[0], plan, ledger, memory, step.say))
    with progress.step("start of a further node") as step:
        measured.starts = starts.measure(cluster, measured.addressed, plan.runs, step.say)


def _floor(visit: Visit, api: Api, plan: Plan, measured: Measured) -> Floor:
    cluster = visit.cluster
    if absent := floor.missing(cluster, measured.addressed):
        return Floor(absent=absent)
    with visit.progress.step(f"{plan.runs} runs beside the floor") as step, floor.handlers(cluster, step.say) as url:
        bare = replace(api, route="the bare handlers", base=url)
        return run_beside(floor.measure(api, bare, plan, measured.ledger, step.say))
