"""When `up` may act on what is already there.

The contract knows stop-the-world changes only, so a running cluster is never changed in place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime

from smallcluster import evidence, files, interrupts, render
from smallcluster.cluster import Cluster, Standing
from smallcluster.errors import AskedWronglyError, MachineCannotError, PersonError
from smallcluster.progress import Progress

DEFECT_MARK = "defect-planted"
"""A file in a cluster's state folder while `invoke defects` is at work; one that was killed leaves a defect planted."""

REHEARSAL_MARK = "rehearsal.json"
"""A file there while `invoke rehearse` is at work; where one was cut off, the cluster is half of each release."""


def up(cluster: Cluster, progress: Progress) -> dict[str, str]:
    """Bring the cluster up, or find it up already; returns its addresses by route.

    A failed or interrupted start of a cluster that was not there leaves its evidence and nothing else. Raises
    AskedWronglyError where a cluster runs with other settings than the ones asked for now, MachineCannotError
    where only a part of it runs.
    """
    if cluster.standing_or_half() is not Standing.ABSENT:
        refuse_leftovers(cluster)
    standing = cluster.standing()
    if standing is Standing.LIMPING:
        raise _limping(cluster)
    if standing is Standing.RUNNING:
        refuse_changes(cluster)
        progress.line(f"{cluster.settings.project} is up already.")
        cluster.await_ready(progress)
        return cluster.routes()
    try:
        start(cluster, progress)
    except BaseException as stop:
        if standing is Standing.ABSENT:
            _leave_evidence_only(cluster, progress, stop)
        raise
    return cluster.routes()


def _leave_evidence_only(cluster: Cluster, progress: Progress, stop: BaseException) -> None:
    with interrupts.shielded():
        kept = evidence.begin("up", cluster.settings, datetime.now().astimezone())
        evidence.collect(kept, cluster)
        cluster.down(progress)
        if isinstance(stop, PersonError):
            stop.then = f"everything was taken down again; read {kept.folder}/logs."


def _limping(cluster: Cluster) -> MachineCannotError:
    found = sorted(cluster.containers().items())
    states = (f"{name} {one.described}" for name, one in found if not one.running and name != "bootstrap")
    db = cluster.settings.db.value
    return MachineCannotError(
        f"Only a part of the {db} cluster runs.",
        seen=", ".join(states),
        why="a container died or was stopped; starting it anew would run the bootstrap job beside running nodes.",
        then=f"`invoke logs --db={db}` tells why; `invoke down --db={db}`, then `invoke up --db={db}`.",
    )


def bootstrap(cluster: Cluster, progress: Progress) -> str:
    """Run the one-shot job again on a cluster that is there; returns what it printed.

    Raises AskedWronglyError where the cluster was started from other settings, MachineCannotError where there is none.
    """
    if cluster.containers():
        refuse_leftovers(cluster)
        refuse_changes(cluster)
    return cluster.bootstrap(progress)


def start(cluster: Cluster, progress: Progress) -> None:
    """Render, bring up, and remember which files the cluster was started from."""
    render.render(cluster.settings)
    for mark in (DEFECT_MARK, REHEARSAL_MARK):  # of a cluster that is gone: one that is there was refused before
        (cluster.settings.folder / mark).unlink(missing_ok=True)
    cluster.up(progress)
    remember(cluster)


def remember(cluster: Cluster) -> None:
    """Remember which files a cluster was started from."""
    files.write_private(cluster.settings.folder / "started.json", json.dumps(_digests(cluster), indent=2) + "\n")


def refuse_leftovers(cluster: Cluster) -> None:
    """Raise AskedWronglyError where a verb that was killed has left the cluster as no other verb may take it."""
    db = cluster.settings.db.value
    if (cluster.settings.folder / REHEARSAL_MARK).exists():
        raise AskedWronglyError(
            f"A rehearsal of the {db} cluster was begun and did not come to its end.",
            seen=str(cluster.settings.folder / REHEARSAL_MARK),
            why="it was killed, or a step failed; the cluster is as that step left it.",
            then=f"`invoke rehearse --db={db} --resume` goes on from there, `--abandon` puts the old release back.",
        )
    if (cluster.settings.folder / DEFECT_MARK).exists():
        raise AskedWronglyError(
            f"A planted defect was left in the {db} cluster.",
            seen=str(cluster.settings.folder / DEFECT_MARK),
            why="`invoke defects` was killed before it could put everything back.",
            then=f"`invoke down --db={db}`, then `invoke up --db={db}`.",
        )


def refuse_changes(cluster: Cluster) -> None:
    """Raise AskedWronglyError where a running cluster was started from other settings than the ones asked for now."""
    changed = [*_changed_containers(cluster), *_changed_files(cluster)]
    if changed:
        db = cluster.settings.db.value
        raise AskedWronglyError(
            f"The {db} cluster runs already, with other settings than the ones asked for now.",
            seen="; ".join(changed),
            why="env/, compose/, nginx/, an exported variable or an image changed since it was started.",
            then=f"take the change back, or, the contract being stop-the-world: `invoke down --db={db}`, "
            f"then `invoke up --db={db}`.",
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
