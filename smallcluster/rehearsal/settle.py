"""Takes up a rehearsal that was cut off: what a killed run left behind is removed, what should run is started."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from smallcluster import waiting
from smallcluster.cluster import UP_DEADLINE
from smallcluster.containers import BALANCER, ONE_OFF_LABEL, PROJECT_LABEL

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster
    from smallcluster.rehearsal.journal import Journal
    from smallcluster.rehearsal.world import World

READY_SECONDS = 60.0


def settle(world: World, say: Callable[[str], None]) -> str:
    """Have the services run that should by now, after a kill, a reboot or an engine's restart; tells what was done.

    Containers are started as they are, never made anew: that, and the bootstrap job, is the steps' to do.
    """
    cluster, journal = world.before, world.journal
    removed = _remove_helpers(cluster)
    should = [*cluster.settings.own, BALANCER]
    serve = serving(journal)
    should += [*world.nodes] if serve else []
    should += ["scheduler"] if scheduling(journal) else []
    started = _start(cluster, should)
    say("waiting for the database")
    _await_healthy(cluster, say)
    if serve:
        if started:
            cluster.reload_balancer()
        waiting.until_none(
            "every node is ready", lambda: cluster.unready([*world.nodes, BALANCER]), deadline=READY_SECONDS, say=say
        )
    if journal.done("start-workers") and not journal.begun("drain-again") and not journal.abandoned:
        world.work.start_workers()
    words = [*(f"{name} started" for name in started), *(f"{name} removed" for name in removed)]
    return f"{journal.stands}; {', '.join(words) or 'everything that should run runs'}"


def serving(journal: Journal) -> bool:
    """Whether the nodes should run and the balancer pass to them, by the steps that were begun and done."""
    if any(journal.begun(one) for one in ("close-again", "stop-new-nodes", "start-old-nodes")):
        return journal.done("open-again")
    return not journal.begun("close-balancer") or journal.done("open-balancer")


def scheduling(journal: Journal) -> bool:
    """Whether the scheduler should run, by the steps that were begun and done."""
    if any(journal.begun(one) for one in ("stop-scheduler-again", "start-old-scheduler")):
        return journal.done("start-old-scheduler")
    return not journal.begun("stop-scheduler") or journal.done("start-scheduler")


def _remove_helpers(cluster: Cluster) -> list[str]:
    """Remove further nodes, one-off jobs and copiers: whoever started them is gone."""
    labels = [f"{PROJECT_LABEL}={cluster.settings.project}", f"{ONE_OFF_LABEL}=True"]
    found = cluster.client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
    for one in found:
        one.remove(force=True)
    return [str(one.name) for one in found]


def _start(cluster: Cluster, services: list[str]) -> list[str]:
    found, started = cluster.containers(), []
    for name in services:
        if name in found and not found[name].running:
            cluster.client.containers.get(found[name].id).start()
            started.append(name)
    missing = [name for name in cluster.settings.own if name not in found]
    if missing:  # the restore was cut off between the old volume and the new one; it is done again from the backup
        cluster.start_alone(missing)
    return [*started, *missing]


def _await_healthy(cluster: Cluster, say: Callable[[str], None]) -> None:
    def unhealthy() -> str | None:
        found = cluster.containers()
        return ", ".join(name for name in cluster.settings.own if found[name].health != "healthy") or None

    waiting.until_none("database and Redis are healthy", unhealthy, deadline=UP_DEADLINE, say=say)
