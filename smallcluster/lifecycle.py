"""When `up` may act on what is already there.

The contract knows stop-the-world changes only, so a running cluster is never changed in place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from smallcluster import files, interrupts, render
from smallcluster.cluster import Cluster
from smallcluster.errors import AskedWronglyError
from smallcluster.progress import Progress


def up(cluster: Cluster, progress: Progress) -> dict[str, str]:
    """Bring the cluster up, or find it up already; returns its addresses by route.

    A failed or interrupted start of a cluster that was not there leaves nothing behind. Raises
    AskedWronglyError where a cluster runs with other settings than the ones asked for now.
    """
    there = cluster.presence()
    if there and all(one.running for name, one in cluster.containers().items() if name != "bootstrap"):
        _refuse_changes(cluster)
        progress.line(f"{cluster.settings.project} is up already.")
        return cluster.routes()
    try:
        start(cluster, progress)
    except BaseException:
        if not there:
            with interrupts.shielded():
                cluster.down(progress)
        raise
    return cluster.routes()


def start(cluster: Cluster, progress: Progress) -> None:
    """Render, bring up, and remember which files the cluster was started from."""
    render.render(cluster.settings)
    cluster.up(progress)
    files.write_private(cluster.settings.folder / "started.json", json.dumps(_digests(cluster), indent=2) + "\n")


def _refuse_changes(cluster: Cluster) -> None:
    changed = [*_changed_containers(cluster), *_changed_files(cluster)]
    if changed:
        db = cluster.settings.db.value
        raise AskedWronglyError(
            f"The {db} cluster runs already, with other settings than the ones asked for now.",
            seen="; ".join(changed),
            why="env/, compose/, nginx/, an exported variable or an image changed since it was started.",
            then=f"the contract is stop-the-world: `invoke down --db={db}`, then `invoke up --db={db}`.",
        )


def _changed_containers(cluster: Cluster) -> Iterator[str]:
    """What differs between a running container and what would be started now; names only, no values."""
    rendered = render.env_files(cluster.settings)
    for service, container in sorted(cluster.containers().items()):
        running = cluster.environment_of(container) if service in rendered else {}
        wanted = rendered.get(service, {})
        names = sorted(name for name, value in wanted.items() if running.get(name) != value)
        if names:
            yield f"{service} has another {', '.join(names)}"
        if container.image_id != cluster.image_for(service).id:
            yield f"{service} runs another image"


def _changed_files(cluster: Cluster) -> Iterator[str]:
    """Files that the cluster was started from and that are different now, where that was remembered."""
    memory = cluster.settings.folder / "started.json"
    before = json.loads(memory.read_text()) if memory.exists() else {}
    for name, digest in _digests(cluster).items():
        if before.get(name, digest) != digest:
            yield f"{name} was changed"


def _digests(cluster: Cluster) -> dict[str, str]:
    texts = {path.name: path.read_bytes() for path in cluster.compose.files}
    texts["nginx.conf"] = render.nginx_conf(cluster.settings).encode()
    return {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
