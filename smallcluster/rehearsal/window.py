"""The steps while clients are not served, from the workers' drain to the scheduler's start."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from smallcluster import evidence, files, interrupts, render, waiting
from smallcluster.bodies import text
from smallcluster.checks.topology import is_scheduler
from smallcluster.cluster import UP_DEADLINE
from smallcluster.containers import BALANCER, instant
from smallcluster.errors import ClusterBrokenError
from smallcluster.rehearsal import backup, prober
from smallcluster.rehearsal.world import Say, World

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster

STOP_SECONDS = 15
SERVED_IN_A_ROW = 3
"""Answers by which nginx is believed to serve anew: its old process answers as before until it ends."""
ANEW = "--force-recreate"
_COUNT_MIGRATIONS = "select count(*) from migrations"
MAINTENANCE_TYPE = "application/json"
MAINTENANCE = json.dumps({"error": "maintenance", "message": "The cluster is being upgraded.", "retryable": True})


def drain_workers(world: World, say: Say) -> list[str]:
    """Let every worker finish what it holds."""
    say("waiting for the workers to finish what they hold")
    names = world.work.workers
    late = world.work.drain()
    if not names:
        return ["the workers had ended with the run that was cut off: they drain when they are left alone"]
    if late:
        return [f"{name} did not end in time and was ended; its leases expire by themselves" for name in late]
    return [f"{len(names)} workers have ended by themselves"]


def stop_scheduler(world: World, _: Say) -> list[str]:
    """Stop it, and see that there is none; while clients are still served, make what only the window needs."""
    _make_job(world)
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


def stop_nodes(world: World, _: Say) -> list[str]:
    """Stop every node, and see that its program has ended: nothing can be acknowledged any more."""
    world.before.stop_all(world.nodes, STOP_SECONDS, world.ran.died)
    return [f"{name} has ended" for name in world.nodes]


def back_up(world: World, _: Say) -> list[str]:
    """Dump the database to a file, no part of the evidence (that is shown around), and read what the tables hold."""
    folder, project = Path(world.journal.plan.backups), world.before.settings.project
    backup.forget_parts(folder, project)
    path = folder / f"{project}-{time.strftime('%Y%m%d-%H%M%S')}.dump"
    facts = world.facts
    world.query("select 1")  # a client, where the run that had one was cut off
    with ThreadPoolExecutor(max_workers=1) as beside:  # nothing writes: both see the same
        with interrupts.deferred():  # threads are born here
            reading = beside.submit(backup.tables, world.before.settings.db, world.query, facts.tables)
        try:
            copy = backup.take(world.before, path)
            facts.held = reading.result()
        except BaseException:
            world.hang_up()  # or its answer would be waited for, which may never come
            raise
    facts.copy = copy
    rows = sum(table.rows for table in facts.held.values())
    return [f"{copy.path}: {copy.size} bytes, SHA-256 {copy.sha256}",
            f"{len(facts.held)} tables, {rows} rows, in {copy.seconds:.1f} s"]  # fmt: skip


def _begun(work: Callable[[World], None], world: World) -> Future[None]:
    """Begin work beside the steps; it is waited for where it is needed, or at the end of the run."""
    pool = ThreadPoolExecutor(max_workers=1)
    begun = pool.submit(work, world)
    pool.shutdown(wait=False)
    return begun


def _make_job(world: World) -> None:
    """Make the new image's bootstrap job, which is not started before its step; read which schema it will find."""
    world.facts.tables = backup.table_names(world.before.settings.db, world.query)
    world.facts.schema["bootstrap"] = schema_version(world)
    render.render_env(world.after.settings)
    world.after.start_alone(["bootstrap"], ANEW, "--no-start")


def _make_nodes(world: World) -> None:
    """Make the new nodes' containers, and start none; what the old ones said is kept before."""
    found, image = world.before.containers(), world.before.images["server"]
    old = [name for name in world.nodes if name in found and found[name].image_id == image.id]
    evidence.collect_logs(world.kept, world.before, world.logs, only=old)
    world.after.start_alone(world.nodes, ANEW, "--no-start")


def _start(cluster: Cluster, services: Sequence[str]) -> None:
    """Start containers that were made for this; where they were not, make them anew."""
    found = [one for one in map(cluster.container, services) if one is not None]
    made = [one for one in found if one.status == "created" and one.image_id == cluster.image_for(one.service).id]
    if len(made) == len(services):
        cluster.start_made(made)
    else:
        cluster.start_alone(services, ANEW)


def bootstrap(world: World, say: Say, step: str = "bootstrap") -> list[str]:
    """Run the new image's job, once, with nothing else started for it.

    Meanwhile the new nodes' containers are made: clients wait for each second of this.
    """
    render.render_env(world.after.settings)
    if step not in world.facts.schema:
        world.facts.schema[step] = schema_version(world)
        world.journal.save()
    if not _was_run(world, step):
        _start(world.after, ["bootstrap"])
    with interrupts.deferred():  # a thread is born here
        world.making = _begun(_make_nodes, world)
    status = _ended(world, say)
    if status:
        raise ClusterBrokenError(
            f"The new image's bootstrap job ended with status {status}.",
            seen=_job_said(world, 8),
            why="a migration that the data, or this database, does not allow.",
            then=f"`invoke logs --db={world.journal.plan.database} --service=bootstrap` has all of it.",
        )
    versions = f"schema {world.facts.schema[step]} before, {schema_version(world)} after"
    return [
        versions,
        *_job_said(world, 3).splitlines(),
    ]  # in this order: the engine still takes the job's networks down


def _job_said(world: World, lines: int) -> str:
    job = world.after.container("bootstrap")
    return world.after.redacted(world.after.log_of(job, tail=lines).strip()) if job else ""


def _was_run(world: World, step: str) -> bool:
    """Whether a run that was killed has started the job: it goes on by itself, and must not be run a second time."""
    job, first = world.after.container("bootstrap"), world.journal.first(step)
    if job is None or first is None or job.image_id != world.after.images["server"].id or job.status == "created":
        return False
    return instant(job.started_at).timestamp() >= first.began and (job.running or job.exit_code == 0)


def _ended(world: World, say: Say) -> int:
    seconds = world.journal.plan.bootstrap_seconds
    try:
        return world.after.await_bootstrap(say, seconds, world.ran.died)
    except ClusterBrokenError:
        job = world.after.container("bootstrap")
        if job is None:
            raise
        world.after.client.containers.get(job.id).stop(timeout=STOP_SECONDS)
        raise ClusterBrokenError(
            f"The new image's bootstrap job did not end within {seconds:g} s, and was stopped.",
            seen=_job_said(world, 8) or "it said nothing",
            why="it waits for something that it does not get, or the data needs longer to be migrated.",
            then="give it longer with --bootstrap-seconds, in a rehearsal that is begun anew.",
        ) from None


def schema_version(world: World) -> str:
    """What the migrations' own table says, in whichever form the server keeps it."""
    if "alembic_version" in world.facts.tables:
        return ", ".join(world.query("select version_num from alembic_version"))
    if "migrations" in world.facts.tables:
        return f"{world.query(_COUNT_MIGRATIONS)[0]} migrations"
    return "not told"


def start_nodes(world: World, say: Say) -> list[str]:
    """Make the nodes anew from the new image, and wait until each is ready and says the new version."""
    if world.making is not None:
        world.making.result()
    _start(world.after, world.nodes)
    found = world.after.containers()
    routes = world.after.routes(found)
    other = [
        name for name, one in found.items() if name in world.nodes and one.image_id != world.after.image_for(name).id
    ]
    if other:
        raise ClusterBrokenError("A node of another image runs.", seen=", ".join(other), then="invoke status")
    waiting.until_none(
        "every new node is ready", lambda: world.after.unready(world.nodes, routes), deadline=60, say=say
    )
    told, wanted = _versions(world, routes), world.after.settings.value("APP_VERSION")
    if wanted and set(told.values()) != {wanted}:
        raise ClusterBrokenError(
            f"A node does not say that it is {wanted}.", seen=", ".join(f"{name}: {one}" for name, one in told.items()),
            why="the image holds another release than its name says, or APP_VERSION is exported as another one.",
        )  # fmt: skip
    return [f"{name}: {world.after.images['server'].ref}, version {told[name]}, ready" for name in world.nodes]


def _versions(world: World, routes: Mapping[str, str]) -> dict[str, str]:
    """What each node says that it is, asked as a worker."""
    value = world.after.settings.value
    apis = {name: prober.api_for(name, routes[name], value, world.kept.exchange) for name in world.nodes}
    answers = {name: api.get("/api/cluster/info", "worker").body for name, api in apis.items()}
    return {name: text(body.get("version")) for name, body in answers.items()}


def open_balancer(world: World, say: Say) -> list[str]:
    """Give the balancer its configuration back; it looks the nodes' addresses up anew."""
    conf = world.after.settings.folder / "nginx" / "nginx.conf"
    files.write_public(conf, render.nginx_conf(world.after.settings))
    world.after.reload_balancer()
    routes, in_a_row = world.after.routes(), 0

    def unready() -> str | None:
        nonlocal in_a_row
        missing = world.after.unready([BALANCER], routes)
        in_a_row = 0 if missing else in_a_row + 1
        return missing or (None if in_a_row == SERVED_IN_A_ROW else "nginx's old process to be gone")

    waiting.until_none("ready through the balancer", unready, deadline=20, say=say)
    return [f"ready through the balancer, {SERVED_IN_A_ROW} times in a row"]


def start_workers(world: World, say: Say) -> list[str]:
    """Start as many workers as were drained, and see that each is registered."""
    began = datetime.now(UTC)
    world.work.start_workers()
    names = world.work.workers

    def missing() -> str | None:
        there = world.work.registered(began)
        return ", ".join(name for name in names if name not in there) or None

    waiting.until_none("each worker is registered", missing, deadline=30, say=say)
    return [f"{name} is registered" for name in names]


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


def stop(cluster: Cluster, services: list[str]) -> None:
    """Stop services. Raises ClusterBrokenError where Compose can't."""
    outcome = cluster.compose.run("stop", "--timeout", str(STOP_SECONDS), *services, deadline=UP_DEADLINE)
    if outcome.status:
        raise ClusterBrokenError(f"Compose could not stop {', '.join(services)}.", seen=cluster.redacted(outcome.tail))
