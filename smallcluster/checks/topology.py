"""What runs: the bootstrap job, the one scheduler and its passes, nothing restarted, nothing private published."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from smallcluster import waiting
from smallcluster.checks.base import Live, Need, check
from smallcluster.containers import BALANCER, Container, instant
from smallcluster.errors import ClusterBrokenError
from smallcluster.settings import Database
from smallcluster.verdicts import Judgement, broken, holds, unknown

PASSES = {
    "schedule:evaluate": re.compile(r"No schedules due\.|schedule:evaluate: \d+ fired"),
    "activity:timeout-enforce": re.compile(r"No expired activity executions\.|activity:timeout-enforce: \d+ timed out"),
    "history:prune": re.compile(r"No expired runs to prune\.|history:prune: \d+ pruned"),
}
"""How each pass tells that it ran: the published server's idle sentence, or the reference server's count of items.

A line that a pass could not run, or a start-up line that only names the passes, is no proof.
"""

FIRST_ROUND_SECONDS = 15.0
"""How long a scheduler that has just started may take for its first round (published rhythm: 10 s)."""

LOG_LINES = 2000
"""How much of the scheduler's log is read: many rounds, of however long a life."""

NEVER = datetime(1, 1, 2, tzinfo=UTC)
"""The engine writes the year 1 for what has not happened."""

PRIVATE_PORTS = {"redis": 6379, Database.MYSQL.value: 3306, Database.PGSQL.value: 5432}


@dataclass(frozen=True)
class Topology:
    """The project's containers by service, which API nodes the settings ask for, and what stands outside."""

    containers: Mapping[str, Container]
    nodes: tuple[str, ...]
    outside: tuple[str, ...] = ()


@dataclass(frozen=True)
class SchedulerLog:
    """What the scheduler printed, and how many seconds the look waited for a first round."""

    container: Container | None
    text: str
    waited: float


@dataclass(frozen=True)
class Door:
    """A try to reach a private service from the host: the port, and how the try ended."""

    service: str
    port: int
    open: bool


@dataclass(frozen=True)
class Privacy:
    """The private containers, and what answers on the host at their usual ports."""

    containers: Mapping[str, Container]
    doors: tuple[Door, ...]
    outside: tuple[str, ...] = ()


def topology(live: Live) -> Topology:
    """Ask the engine for every container of the project."""
    return Topology(live.cluster.containers(), live.nodes, live.settings.outside)


def scheduler_log(live: Live) -> SchedulerLog:
    """Read the scheduler's log; where it has only just started, wait for its first whole round."""
    container = live.cluster.containers().get("scheduler")
    if container is None:
        return SchedulerLog(None, "", 0.0)
    seen = {"text": ""}

    def missing() -> str | None:
        seen["text"] = live.cluster.log_of(container, tail=LOG_LINES)
        absent = [name for name, pattern in PASSES.items() if not pattern.search(seen["text"])]
        return f"the scheduler's first round ({', '.join(absent)})" if absent else None

    began = time.monotonic()
    if container.running:
        with suppress(ClusterBrokenError):  # the judge sees the log without the pass, and names it
            waiting.until_none("three passes ran", missing, deadline=FIRST_ROUND_SECONDS, say=live.say)
    else:
        missing()
    return SchedulerLog(container, seen["text"], time.monotonic() - began)


def privacy(live: Live) -> Privacy:
    """Look at what the private containers publish, and knock at their usual ports on the host."""
    found = live.cluster.containers()
    services = ("redis", live.settings.db.value)
    doors = tuple(Door(name, PRIVATE_PORTS[name], _answers(PRIVATE_PORTS[name])) for name in services)
    own: dict[str, Container] = {name: found[name] for name in ("database", "redis") if name in found}
    return Privacy(own, doors, live.settings.outside)


def _answers(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as knock:
        knock.settimeout(1.0)
        return knock.connect_ex(("127.0.0.1", port)) == 0


@check("bootstrap-completed-once", "runs.bootstrap", probe=topology, needs=[Need.ENGINE])
def bootstrap_completed_once(seen: Topology) -> Judgement:
    """The bootstrap job ended with status 0, before any node started."""
    job = seen.containers.get("bootstrap")
    if job is None:
        return broken("no bootstrap container", expected="one finished job", cause="it was removed by hand.")
    evidence = [f"bootstrap {job.described}, finished {job.finished_at}"]
    if job.status != "exited" or job.exit_code != 0:
        return broken(
            *evidence,
            expected="exited with status 0",
            cause="a migration failed, or the database refused the job.",
            then="invoke logs --service=bootstrap",
        )
    started = {name: seen.containers[name].started_at for name in seen.nodes if name in seen.containers}
    evidence += [f"{name} started {at}" for name, at in started.items()]
    early = [name for name, at in started.items() if NEVER < instant(at) < instant(job.finished_at)]
    if early:
        return broken(
            *evidence,
            expected="bootstrap finished before any node started",
            cause=f"{', '.join(early)} started beside the job, or the job was run again by Compose.",
            then="invoke down, then invoke up",
        )
    return holds(*evidence)


@check("containers-steady", "runs.steady", "shape.nodes", probe=topology, needs=[Need.ENGINE])
def containers_steady(seen: Topology) -> Judgement:
    """Every container of the topology runs; none is unhealthy, restarted by the engine or short of memory."""
    own = (name for name in ("database", "redis") if name not in seen.outside)
    wanted = (*own, *seen.nodes, BALANCER, "scheduler")
    evidence, wrong = [], []
    for service in wanted:
        container = seen.containers.get(service)
        described = container.described if container else "not there"
        evidence.append(f"{service}: {described}")
        if container is None or not _steady(container):
            wrong.append(service)
    if not wrong:
        return holds(*evidence)
    return broken(
        *evidence,
        expected="running, not unhealthy, never restarted",
        cause=f"{wrong[0]} died, was stopped, or never became healthy.",
        then=f"invoke logs --service={wrong[0]}",
    )


def _steady(container: Container) -> bool:
    troubled = container.oom_killed or container.restarts or container.health == "unhealthy"
    return container.running and not troubled


@check(
    "one-scheduler", "scheduler.one", "operator.one-scheduler", "outside.duplicate-schedulers", probe=topology,
    needs=[Need.ENGINE],
)  # fmt: skip
def one_scheduler(seen: Topology) -> Judgement:
    """Exactly one container runs the maintenance loop."""
    running = [one for one in seen.containers.values() if one.running and is_scheduler(one)]
    evidence = [f"{one.service}: {' '.join(one.command)}" for one in running]
    if len(running) == 1:
        return holds(*evidence)
    return broken(
        *(evidence or ["no running container has the scheduler's command"]),
        expected="exactly one running scheduler",
        cause="it was stopped or died." if not running else "a second maintenance loop was added.",
        then="invoke status",
    )


@check("scheduler-passes-ran", "scheduler.passes", probe=scheduler_log, needs=[Need.ENGINE])
def scheduler_passes_ran(seen: SchedulerLog) -> Judgement:
    """The scheduler's three passes have run."""
    if seen.container is None:
        return unknown("no scheduler container", cause="there is no log to read.", then="invoke status")
    lines = {name: _last_match(pattern, seen.text) for name, pattern in PASSES.items()}
    absent = [name for name, line in lines.items() if line is None]
    evidence = [f"{name}: {line or 'never'}" for name, line in lines.items()]
    if not absent:
        return holds(*evidence)
    return broken(
        *evidence,
        f"waited {seen.waited:.1f} s; scheduler {seen.container.described}",
        expected="each pass ran at least once",
        cause="the scheduler's command leaves a pass out, or an earlier pass fails.",
        then="invoke logs --service=scheduler",
    )


@check("private-services", "operator.private-services", probe=privacy, needs=[Need.ENGINE])
def private_services(seen: Privacy) -> Judgement:
    """Database and Redis publish no port and share no network with the host."""
    evidence, open_ones = [], []
    for name, container in seen.containers.items():
        bare = not container.published and not container.bindings and container.network_mode != "host"
        what = "publishes nothing" if bare else f"publishes {_openings(container)}"
        evidence.append(f"{name} {what}; networks {', '.join(container.networks)}")
        if not bare:
            open_ones.append(name)
    evidence += [_knock(door) for door in seen.doors]
    if open_ones:
        return broken(
            *evidence,
            expected="no published port and no host network",
            cause=f"a ports: entry was added to {' and '.join(open_ones)}.",
            then="remove it from compose/, then invoke down and invoke up",
        )
    if seen.outside:
        stands = f"{' and '.join(seen.outside)} outside of this cluster"
        return unknown(*evidence, cause=f"who can reach the {stands} can't be seen from here.")
    if len(seen.containers) < 2:
        return unknown(*evidence, cause="database or Redis is not there.", then="invoke status")
    return holds(*evidence)


def is_scheduler(container: Container) -> bool:
    """Whether a container runs the maintenance loop, by its command or its name."""
    words = " ".join(container.command)
    return bool(re.search(r"\bscheduler\b|schedule:evaluate", words)) or container.service == "scheduler"


def _openings(container: Container) -> str:
    if container.network_mode == "host":
        return "everything (host network)"
    return ", ".join(container.published or container.bindings)


def _knock(door: Door) -> str:
    if door.open:
        return f"127.0.0.1:{door.port} answers, but not for this cluster: another program listens there"
    return f"127.0.0.1:{door.port} ({door.service}) lets nobody in"


def _last_match(pattern: re.Pattern[str], text: str) -> str | None:
    matching = [line for line in text.splitlines() if pattern.search(line)]
    return matching[-1].strip() if matching else None
