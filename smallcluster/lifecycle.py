"""When `up` may act on what is already there. The contract knows stop-the-world changes only, so a running
cluster is never changed in place."""

from __future__ import annotations

from smallcluster import interrupts, render
from smallcluster.cluster import Cluster
from smallcluster.errors import AskedWronglyError
from smallcluster.progress import Progress


def up(cluster: Cluster, progress: Progress) -> dict[str, str]:
    """Bring the cluster up, or find it up already; returns its addresses by route.

    A failed or interrupted start of a cluster that was not there leaves nothing behind. Raises
    AskedWronglyError where a cluster runs with other settings than the ones asked for now.
    """
    there = cluster.presence()
    render.render(cluster.settings)
    if there and all(one.running for name, one in cluster.containers().items() if name != "bootstrap"):
        _refuse_other_settings(cluster)
        progress.line(f"{cluster.settings.project} is up already.")
        return cluster.routes()
    try:
        cluster.up(progress)
    except BaseException:
        if not there:
            with interrupts.shielded():
                cluster.down(progress)
        raise
    return cluster.routes()


def _refuse_other_settings(cluster: Cluster) -> None:
    differing = cluster.services_with_other_configuration()
    if differing:
        db = cluster.settings.db.value
        raise AskedWronglyError(
            f"The {db} cluster runs already, with other settings than the ones rendered now.",
            seen=f"changed for {', '.join(differing)}",
            why="env/, an exported variable or an image changed since it was started.",
            then=f"the contract is stop-the-world: `invoke down --db={db}`, then `invoke up --db={db}`.",
        )
