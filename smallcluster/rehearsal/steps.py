"""The steps of the plan, each doing its work and giving what it saw; what it can't verify stops the plan."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smallcluster import database, files, render, waiting
from smallcluster.checks.topology import is_scheduler
from smallcluster.cluster import UP_DEADLINE
from smallcluster.containers import BALANCER
from smallcluster.errors import ClusterBrokenError
from smallcluster.rehearsal import backup
from smallcluster.rehearsal.backup import Backup, Table

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster
    from smallcluster.rehearsal.workload import Workload

Say = Callable[[str], None]
STOP_SECONDS = 15
ANEW = "--force-recreate"
_COUNT_MIGRATIONS = "select count(*) from migrations"
MAINTENANCE_TYPE = "application/json"
MAINTENANCE = json.dumps({"error": "maintenance", "message": "The cluster is being upgraded.", "retryable": True})


@dataclass
class World:
    """What the steps work on: the cluster as it was, as it shall be, the work on it, and what was found out."""

    before: Cluster
    after: Cluster
    work: Workload
    held: dict[str, Table] = field(default_factory=dict)
    copy: Backup | None = None
    schema: tuple[str, str] = ("", "")
    leases: dict[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The API nodes."""
        return self.after.settings.node_names


def drain_workers(world: World, say: Say) -> list[str]:
    """Let every worker finish what it holds."""
    say("waiting for the workers to finish what they hold")
    late = world.work.drain()
    if late:
        return [f"{name} did not end in time and was ended; its leases expire by themselves" for name in late]
    return ["every worker has ended by itself"]


def stop_scheduler(world: World, _: Say) -> list[str]:
    """Stop it, and see that there is none."""
    stop(world.before, ["scheduler"])
    running = [one.service for one in world.before.containers().values() if one.running and is_scheduler(one)]
    if running:
        raise ClusterBrokenError("A scheduler still runs.", seen=", ".join(running), then="invoke status")
    return ["no container runs the maintenance loop"]


def close_balancer(world: World, say: Say) -> list[str]:
    """Give the balancer a configuration without nodes, and see what it answers."""
    conf = world.before.settings.folder / "nginx" / "nginx.conf"
    files.write_public(conf, maintenance_conf())
    world.before.reload_balancer()
    seen: list[str] = []

    def closed() -> str | None:
        seen[:] = [_maintenance_answer(world.before)]
        return None if seen[0].startswith("503") else f"503, not {seen[0]}"

    waiting.until_none("the balancer answers 503", closed, deadline=10, say=say)
    return seen


def maintenance_conf() -> str:
    """The balancer's configuration while nothing serves; it names no upstream, so no address of one is looked up."""
    return (
        "worker_processes 1;\npid /tmp/nginx.pid;\nerror_log /dev/stderr warn;\nevents { worker_connections 4000; }\n"
        "http {\n    access_log /dev/stdout;\n    server {\n        listen 8080;\n"
        f"        default_type {MAINTENANCE_TYPE};\n        location / {{\n"
        f"            add_header Retry-After 5 always;\n            return 503 '{MAINTENANCE}';\n"
        "        }\n    }\n}\n"
    )


def _maintenance_answer(cluster: Cluster) -> str:
    import requests

    try:
        answer = requests.get(f"{cluster.routes()[BALANCER]}/api/ready", timeout=3)
        answer.json()
    except (requests.RequestException, KeyError, ValueError) as problem:
        return type(problem).__name__
    return (
        f"{answer.status_code}, Retry-After {answer.headers.get('Retry-After')}, {answer.headers.get('Content-Type')}"
    )


def stop_nodes(world: World, say: Say) -> list[str]:
    """Stop every node, and see that none runs; then keep what the tables hold."""
    stop(world.before, list(world.nodes))
    found = world.before.containers()
    running = [name for name in world.nodes if name in found and found[name].running]
    if running:
        raise ClusterBrokenError("A node still runs.", seen=", ".join(running), then="invoke status")
    say("reading what the tables hold")
    world.held = backup.tables(world.before)
    return [f"{name} {found[name].described}" for name in world.nodes]


def back_up(world: World, _: Say) -> list[str]:
    """Dump the database to a file; in the state folder, because evidence is shown around."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}.dump"
    world.copy = backup.take(world.before, world.before.settings.folder / "backups" / name)
    rows = sum(table.rows for table in world.held.values())
    return [f"{world.copy.path}: {world.copy.size} bytes, SHA-256 {world.copy.sha256}",
            f"{len(world.held)} tables, {rows} rows, in {world.copy.seconds:.1f} s"]  # fmt: skip


def bootstrap(world: World, say: Say) -> list[str]:
    """Run the new image's job, once, with nothing else started for it."""
    render.render_env(world.after.settings)
    version = schema_version(world.after)
    world.after.start_alone(["bootstrap"], ANEW)
    job = world.after.await_bootstrap(say)
    if job.exit_code:
        raise ClusterBrokenError(
            f"The new image's bootstrap job ended with status {job.exit_code}.",
            seen=world.after.redacted(world.after.log_of(job, tail=8).strip()),
            why="a migration that the data, or this database, does not allow.",
            then="invoke logs --service=bootstrap",
        )
    world.schema = (version, schema_version(world.after))
    return [f"schema {world.schema[0]} before, {world.schema[1]} after", *world.after.log_of(job, tail=3).splitlines()]


def schema_version(cluster: Cluster) -> str:
    """What the migrations' own table says, in whichever form the server keeps it."""
    tables = cluster.query(database.tables_query(cluster.settings.db))
    if "alembic_version" in tables:
        return ", ".join(cluster.query("select version_num from alembic_version"))
    if "migrations" in tables:
        return f"{cluster.query(_COUNT_MIGRATIONS)[0]} migrations"
    return "not told"


def start_nodes(world: World, say: Say) -> list[str]:
    """Make the nodes anew from the new image, and wait until each is ready."""
    world.after.start_alone(world.nodes, ANEW)
    waiting.until_none("every new node is ready", lambda: world.after.unready(world.nodes), deadline=60, say=say)
    found = world.after.containers()
    other = [
        name for name, one in found.items() if name in world.nodes and one.image_id != world.after.image_for(name).id
    ]
    if other:
        raise ClusterBrokenError("A node of another image runs.", seen=", ".join(other), then="invoke status")
    return [f"{name}: {world.after.images['server'].ref}, ready" for name in world.nodes]


def open_balancer(world: World, say: Say) -> list[str]:
    """Give the balancer its configuration back; it looks the nodes' addresses up anew."""
    conf = world.after.settings.folder / "nginx" / "nginx.conf"
    files.write_public(conf, render.nginx_conf(world.after.settings))
    world.after.reload_balancer()
    waiting.until_none("ready through the balancer", lambda: world.after.unready([BALANCER]), deadline=20, say=say)
    return ["ready through the balancer"]


def start_workers(world: World, _: Say) -> list[str]:
    """Start as many workers as were drained."""
    world.work.start_workers()
    return ["started"]


def start_scheduler(world: World, _: Say) -> list[str]:
    """Make the scheduler anew from the new image, and see that it is the only one."""
    world.after.start_alone(["scheduler"], ANEW)
    running = [one for one in world.after.containers().values() if one.running and is_scheduler(one)]
    if len(running) != 1 or running[0].image_id != world.after.images["server"].id:
        seen = ", ".join(f"{one.service} ({one.image})" for one in running) or "none"
        raise ClusterBrokenError(
            "There is not exactly one scheduler of the new image.", seen=seen, then="invoke status"
        )
    return [f"{running[0].service}: {running[0].image}"]


def compare(world: World, say: Say) -> list[str]:
    """See that everything acknowledged is there, once, finished, with its history."""
    work = world.work
    world.leases = work.finish()
    say("waiting for every run to be finished")
    left = work.await_closed(list(work.started))
    fired = work.scheduled_runs()
    problems = [*(f"{name} is not finished" for name in left), *work.problems()]
    if len(fired) != 1:
        problems.append(f"the schedule that came due started {len(fired)} runs instead of one: {', '.join(fired)}")
    if problems:
        raise ClusterBrokenError(
            "Recorded work did not come through.",
            seen="\n".join(problems[:20]),
            why="the new release loses, doubles or changes what the old one had acknowledged.",
            then="read operations.jsonl in the evidence folder",
        )
    kept = sum(map(len, work.before.values()))
    return [
        f"{len(work.started)} acknowledged runs, each there once and finished; {len(work.unknown)} starts unknown",
        f"{kept} events from before, each still where it was",
        "the schedule that came due was fired once",
        *(f"a lease held through the window: {name}, {outcome}" for name, outcome in world.leases.items()),
    ]


def prove_backup(world: World, say: Say) -> list[str]:
    """Restore the backup beside the database, and compare."""
    if world.copy is None:
        raise RuntimeError("there is no backup to prove")
    say("restoring it into a database of its own")
    proof = backup.prove(world.after, world.copy, world.held)
    if proof.differing:
        raise ClusterBrokenError("The backup is not what the database held.", seen="\n".join(proof.differing),
                                 why="the way back would not lead to where it began.")  # fmt: skip
    return [f"{len(proof.tables)} tables restored, all as they were, in {proof.seconds:.1f} s"]


def stop(cluster: Cluster, services: list[str]) -> None:
    """Stop services. Raises ClusterBrokenError where Compose can't."""
    outcome = cluster.compose.run("stop", "--timeout", str(STOP_SECONDS), *services, deadline=UP_DEADLINE)
    if outcome.status:
        raise ClusterBrokenError(f"Compose could not stop {', '.join(services)}.", seen=cluster.redacted(outcome.tail))


WORK: Mapping[str, Callable[[World, Say], list[str]]] = {
    "drain-workers": drain_workers,
    "stop-scheduler": stop_scheduler,
    "close-balancer": close_balancer,
    "stop-nodes": stop_nodes,
    "back-up": back_up,
    "bootstrap": bootstrap,
    "start-nodes": start_nodes,
    "open-balancer": open_balancer,
    "start-workers": start_workers,
    "start-scheduler": start_scheduler,
    "compare": compare,
    "prove-backup": prove_backup,
}
"""What each step of the plan does; the smoke is the verb's own."""
