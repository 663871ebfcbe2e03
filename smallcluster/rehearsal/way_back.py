"""The way back: the upgraded data kept under a name, the backup restored into a fresh volume, the old image on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from smallcluster import render, waiting
from smallcluster.cluster import UP_DEADLINE
from smallcluster.containers import ONE_OFF_LABEL, PROJECT_LABEL, SERVICE_LABEL
from smallcluster.errors import ClusterBrokenError, MachineCannotError
from smallcluster.left_behind import upgraded_volume
from smallcluster.rehearsal import backup, proofs, window
from smallcluster.rehearsal.world import Say, World

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster

WRITES = 3
"""How many runs are started and finished on the new version, to be given up."""


@dataclass
class WayBack:
    """The way back from `forward`, whose sides are swapped in `world`."""

    forward: World
    world: World

    @classmethod
    def of(cls, forward: World) -> WayBack:
        """The way back of an upgrade, which may have stopped anywhere."""
        forward.settle_making()
        old, new = forward.before, forward.after
        return cls(forward, replace(forward, before=new, after=old, logs="logs-upgraded", making=None, session=None))

    def work(self) -> Mapping[str, Callable[[Say], list[str]]]:
        """What each step does; the smoke is the verb's own."""
        world = self.world
        return {
            "write-on-new": self._write,
            "drain-again": lambda say: window.drain_workers(world, say),
            "stop-scheduler-again": lambda say: window.stop_scheduler(world, say),
            "close-again": lambda say: window.close_balancer(world, say),
            "stop-new-nodes": lambda say: window.stop_nodes(world, say),
            "keep-upgraded": self._keep,
            "restore": self._restore,
            "old-bootstrap": lambda say: window.bootstrap(world, say, "old-bootstrap"),
            "start-old-nodes": lambda say: window.start_nodes(world, say),
            "open-again": lambda say: window.open_balancer(world, say),
            "start-workers-again": lambda say: window.start_workers(world, say),
            "start-old-scheduler": lambda say: window.start_scheduler(world, say),
            "compare-back": self._compare,
        }

    def _write(self, _: Say) -> list[str]:
        work = self.forward.work
        names = [f"new-{number}" for number in range(WRITES)]
        for name in names:
            work.start("plain", name)
        left = work.await_closed([one for one in work.started if "-new-" in one])
        if left:
            raise ClusterBrokenError("What was written on the new version is not finished.", seen=", ".join(left))
        return [f"{len(names)} runs started and finished"]

    def _keep(self, say: Say) -> list[str]:
        """Copy the upgraded database's volume, its database stopped, and see that the copy is as large."""
        cluster, facts = self.world.before, self.world.facts
        window.stop(cluster, ["database"])
        data = _data_volume(cluster)
        if facts.kept_volume:  # of a run that was killed: nobody knows how much of it is there
            _without(lambda: cluster.client.volumes.get(facts.kept_volume).remove(force=True))
        facts.kept_volume = upgraded_volume(cluster.settings.project, time.strftime("%Y%m%d-%H%M%S"))
        self.world.journal.save()
        say(f"copying {data} to {facts.kept_volume}")
        cluster.client.volumes.create(facts.kept_volume, labels={PROJECT_LABEL: cluster.settings.project})
        mounts = {data: {"bind": "/from", "mode": "ro"}, facts.kept_volume: {"bind": "/to", "mode": "rw"}}
        labels = {PROJECT_LABEL: cluster.settings.project, SERVICE_LABEL: "copy", ONE_OFF_LABEL: "True"}
        command = "cp -a /from/. /to/ && du -s --apparent-size --bytes /from /to"
        try:
            told: bytes = cluster.client.containers.run(
                cluster.images[cluster.settings.db.value].id, ["-c", command], entrypoint=["sh"], user="0",
                volumes=mounts, remove=True, network_mode="none", labels=labels,
            )  # fmt: skip
        except Exception as problem:
            raise MachineCannotError(
                f"The upgraded data could not be copied to the volume {facts.kept_volume}.", seen=str(problem)[-600:],
                why="the disk is full.", then="nothing was removed: the database's own volume is as it was.",
            ) from None  # fmt: skip
        sizes = [line.split("\t")[0] for line in told.decode().splitlines()]
        if len(sizes) != 2 or sizes[0] != sizes[1]:
            raise ClusterBrokenError(
                "The copy of the upgraded data is not as large as the data.", seen=", ".join(sizes)
            )
        return [f"volume {facts.kept_volume}: {sizes[1]} bytes, as many as the database's own"]

    def _restore(self, say: Say) -> list[str]:
        """Have a fresh volume, the backup in it, and every table as it was."""
        facts, cluster = self.world.facts, self.world.after
        copy = facts.copy
        if copy is None or not self.world.journal.done("keep-upgraded"):
            raise RuntimeError("the upgraded data must be kept, and a backup be there, before anything is removed")
        backup.verify(copy)
        render.render_env(cluster.settings)
        self.world.hang_up()  # its client would end with the database's container
        _fresh_database(cluster, say)
        say("restoring the backup")
        backup.restore(cluster, copy, cluster.settings.value("DB_DATABASE"))
        found = backup.tables(cluster.settings.db, cluster.query)
        if found != facts.held:
            wrong = sorted(name for name in {*found, *facts.held} if found.get(name) != facts.held.get(name))
            raise ClusterBrokenError("What was restored is not what the database held.", seen=", ".join(wrong))
        return [f"{len(found)} tables, {sum(table.rows for table in found.values())} rows, all as they were"]

    def _compare(self, _: Say) -> list[str]:
        """What was there before must be there again; what came later is given up, and named."""
        work = self.forward.work
        problems = [*work.problems_back(), *self.world.beside()]
        if problems:
            raise ClusterBrokenError(
                "The way back does not lead to where it began.", seen="\n".join(problems[:20]),
                why="the backup is not whole, or the old release does not read it.",
                then="read operations.jsonl in the evidence folder",
            )  # fmt: skip
        lost = sorted(set(work.started) - set(work.before))
        return [
            f"{len(work.before)} runs from before the backup are there, with their histories",
            f"given up: {len(lost)} acknowledged runs that came after it ({', '.join(lost)}), and whatever was "
            "completed since; operations.jsonl has each",
            f"the upgraded data is kept in the volume {self.world.facts.kept_volume}",
            proofs.ran_alone(self.world),
        ]


def _data_volume(cluster: Cluster) -> str:
    """The volume that the database's container has its data in; copies that were kept before are others."""
    return f"{cluster.settings.project}_data"


def _fresh_database(cluster: Cluster, say: Say) -> None:
    """The database's container on a new, empty volume; the one before is removed, as a copy of it is kept."""
    found = cluster.containers().get("database")
    if found is not None:
        cluster.client.containers.get(found.id).remove(force=True)
    _without(lambda: cluster.client.volumes.get(_data_volume(cluster)).remove())
    cluster.start_alone(["database"])

    def healthy() -> str | None:
        one = cluster.containers().get("database")
        return None if one and one.health == "healthy" else "the database"

    waiting.until_none("the database is healthy", healthy, deadline=UP_DEADLINE, say=say)


def _without(remove: Callable[[], None]) -> None:
    """Remove what a run that was killed may have removed already."""
    from docker.errors import NotFound

    with suppress(NotFound):
        remove()
