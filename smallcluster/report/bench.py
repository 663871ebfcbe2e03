"""A bench as a table for a person and as data for a machine. Numbers beside targets; no verdict on the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from smallcluster.bench.figures import (
    CYCLE_P99_MS,
    CYCLES_A_SECOND,
    IDLE_HEALTH_P99_MS,
    IDLE_MEMORY_MB,
    IDLE_POLLS,
    SHARE_OF_FLOOR,
    START_SECONDS,
    WAKE_P50_MS,
    WAKE_P99_MS,
    Figure,
    Latencies,
)
from smallcluster.bench.plan import CONNECTIONS
from smallcluster.bench.run import BenchReport
from smallcluster.bench.usage import ANONYMOUS_SOURCE, MEMORY_SOURCE
from smallcluster.report.console import console, print_ending
from smallcluster.report.machine import ended_as_data

BENCH_SCHEMA = "smallcluster.bench/1"
CLIENT = "a lean asyncio HTTP/1.1 client in one process on the same machine, keep-alive, no retries"


def figures(report: BenchReport) -> list[Figure]:
    """The rows of the table."""
    return [*_cycles(report), *_floor(report), *_wakes(report), *_idle(report), *_starts(report)]


def _cycles(report: BenchReport) -> Iterator[Figure]:
    found, plan = report.measured.cycles, report.plan
    rate = found.rate if found else None
    yield Figure(
        name="start → poll → complete, balancer",
        value=rate.median if rate else None,
        unit="cycles/s",
        target=CYCLES_A_SECOND[report.cluster.settings.db],
        at_least=True,
        detail=f"{CONNECTIONS} connections, median of {len(rate.runs)} runs of {plan.seconds:g} s, "
        f"{rate.lowest:g} to {rate.highest:g}"
        if rate
        else "",
    )
    yield from _latencies("one whole cycle, 1 connection", found.alone if found else None, (None, CYCLE_P99_MS))


def _floor(report: BenchReport) -> Iterator[Figure]:
    found = report.measured.floor
    rate, share = (found.rate, found.share) if found else (None, None)
    yield Figure(
        name="  bare handlers, same SQL",
        value=rate.median if rate else None,
        unit="cycles/s",
        detail=found.absent if found and found.absent else "without the protocol; run by run beside the cluster",
    )
    yield Figure(
        name="  share of it reached",
        value=share.median if share else None,
        unit="",
        target=SHARE_OF_FLOOR,
        at_least=True,
        detail=f"median of {len(share.runs)} pairs of runs, {share.lowest:g} to {share.highest:g}" if share else "",
    )


def _starts(report: BenchReport) -> Iterator[Figure]:
    found = report.measured.starts
    took = found.seconds if found else None
    spread = f"median of {len(took.runs)}, {took.lowest:g} to {took.highest:g}" if took else ""
    yield Figure(
        name="a further node, start to ready",
        value=took.median if took else None,
        unit="s",
        target=START_SECONDS,
        detail=found.absent if found and found.absent else spread,
    )


def _wakes(report: BenchReport) -> Iterator[Figure]:
    found = report.measured.wakes
    yield from _latencies("wake across nodes", found.latencies if found else None, (WAKE_P50_MS, WAKE_P99_MS))


def _idle(report: BenchReport) -> Iterator[Figure]:
    found = report.measured.idle_polls
    held, during, before, after = (found.held, found.during, found.before, found.after) if found else (0,) + (None,) * 3
    yield Figure(
        name="idle polls held by one node",
        value=held if found else None,
        unit="polls",
        target=IDLE_POLLS,
        at_least=True,
        detail=f"each for {found.shortest:g} to {found.longest:g} s, taken in within {found.opened_within:g} s"
        if found and found.shortest
        else "",
    )
    moments = f"{before.used:g} before, {after.used:g} afterwards" if before and after else ""
    yield Figure(
        name="  memory of that node meanwhile",
        value=during.used if during else None,
        unit="MB",
        target=IDLE_MEMORY_MB,
        detail=moments + (f"; anonymous {during.anonymous:g}" if during else ""),
    )
    yield from _latencies("  /api/health of it meanwhile", found.health if found else None, (None, IDLE_HEALTH_P99_MS))


def _latencies(
    name: str, found: Latencies | None, targets: tuple[float | None, float | None] = (None, None)
) -> Iterator[Figure]:
    p50, p99 = (found.p50, found.p99) if found else (None, None)
    detail = f"of {found.count}, slowest {found.slowest:g}" if found else ""
    yield Figure(name=f"{name}, p50", value=p50, unit="ms", target=targets[0])
    yield Figure(name=f"{name}, p99", value=p99, unit="ms", target=targets[1], detail=detail)


def bench_as_data(report: BenchReport) -> dict[str, Any]:
    """The whole result. Keys are stable; add, never rename."""
    measured = report.measured
    return {
        "schema": BENCH_SCHEMA,
        "exit_code": int(report.exit_code),
        "machine": asdict(report.machine) | {"load_after": report.load_after, "engine": report.engine},
        "client": CLIENT,
        "addresses": dict(measured.addresses),
        "addressed": measured.addressed,
        "plan": asdict(report.plan),
        "figures": [asdict(one) | {"met": one.met} for one in figures(report)],
        **_parts_as_data(report),
        "weak": measured.weak,
        "left": _left(report),
        **ended_as_data(report),
    }


def _parts_as_data(report: BenchReport) -> dict[str, Any]:
    """Each measurement whole, without the thousands of single durations."""
    measured = report.measured
    directions = measured.wakes.directions if measured.wakes else ()
    wakes = [
        {
            "waiting": one.waiting,
            "starting": one.starting,
            "latencies": asdict(one.latencies) if one.latencies else None,
            "surely_held": one.surely_held,
        }
        for one in directions
    ]
    sources = {"used": MEMORY_SOURCE, "anonymous": ANONYMOUS_SOURCE}
    return {
        "cycles": asdict(measured.cycles) if measured.cycles else None,
        "cores_during_cycles": measured.cores.used if measured.cores else {},
        "processor_ms_per_cycle": _per_cycle(report),
        "floor": asdict(measured.floor) if measured.floor else None,
        "starts": asdict(measured.starts) if measured.starts else None,
        "wakes": wakes,
        "idle_polls": asdict(measured.idle_polls) | {"memory": sources} if measured.idle_polls else None,
    }


def _per_cycle(report: BenchReport) -> dict[str, float]:
    """Milliseconds of processor time by container, all that ran meanwhile included: health checks too."""
    measured = report.measured
    return measured.cores.milliseconds_each(measured.cycles.completed) if measured.cores and measured.cycles else {}


def _left(report: BenchReport) -> dict[str, int]:
    """What stays in a cluster that stays."""
    ledger = report.measured.ledger
    if not report.left_running:
        return {}
    return {"workers": ledger.workers, "completed": ledger.completed, "open": ledger.open}


def print_bench(report: BenchReport) -> None:
    """What was measured where, the table, what is weak, and how it ended as the last line."""
    from rich.table import Table

    out = console()
    for line in _circumstances(report):
        out.print(line, markup=False, soft_wrap=True)
    table = Table("Measured", box=None, pad_edge=False)
    for column in ("Value", "Target", "Met"):
        table.add_column(column, justify="right")
    table.add_column("More")
    for one in figures(report):
        table.add_row(*_row(one))
    out.print(table)
    for line in _notes(report):
        out.print(line, markup=False, soft_wrap=True)
    print_ending(out, report)
    colour = "yellow" if report.exit_code else "green"
    out.print(_last_line(report), style=f"bold {colour}", markup=False, soft_wrap=True)


def _circumstances(report: BenchReport) -> Iterator[str]:
    yield f"Machine: {report.machine.shown} before and {report.load_after:.2f} after; engine {report.engine}"
    yield f"Client: {CLIENT} (Python {report.machine.python})"
    if report.measured.addressed:
        yield f"Addressed: {report.measured.addressed}"


def _row(one: Figure) -> tuple[str, ...]:
    value = "not measured" if one.value is None else f"{one.value:g} {one.unit}".rstrip()
    target = "" if one.target is None else f"{'≥' if one.at_least else '≤'} {one.target:g}"
    met = {None: "", True: "yes", False: "no"}[one.met]
    return one.name, value, target, met, one.detail


def _notes(report: BenchReport) -> Iterator[str]:
    measured = report.measured
    if each := _per_cycle(report):
        shares = sorted(each.items(), key=lambda share: -share[1])
        yield "Processor time per cycle: " + ", ".join(f"{name} {used:g} ms" for name, used in shares)
    for one in measured.wakes.directions if measured.wakes else ():
        if one.latencies:
            pair = f"start on {one.starting}, poll on {one.waiting}"
            yield f"Wakes, {pair}: p50 {one.latencies.p50:g} ms, p99 {one.latencies.p99:g} ms; {one.surely_held}"
    if measured.idle_polls:
        yield f"Memory: {MEMORY_SOURCE}; anonymous: {ANONYMOUS_SOURCE}"
    if left := _left(report):
        told = "{workers} worker registrations, {completed} completed workflows, {open} open ones"
        yield f"Left in the cluster: {told.format(**left)}"
    for why in measured.weak:
        yield f"Weak: {why}"


def _last_line(report: BenchReport) -> str:
    settings, measured = report.cluster.settings, report.measured
    met = [one.met for one in figures(report) if one.met is not None]
    word = "Stopped" if report.problem else "Too weak to judge" if measured.weak else "Measured"
    return (
        f"{word} ({settings.db.value}, {settings.nodes} nodes; {sum(met)} of {len(met)} measured targets met; "
        f"{report.seconds:.1f} s; exit {int(report.exit_code)})"
    )
