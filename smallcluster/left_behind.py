"""What verbs that have ended left of a cluster: what was begun and is not over, and what is kept on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from smallcluster.lifecycle import DEFECT_MARK, REHEARSAL_MARK
from smallcluster.settings import Database, project_name
from smallcluster.teardown import volumes_of

if TYPE_CHECKING:
    from docker import DockerClient

BACKUPS = "backups"
"""Where in a cluster's state folder backups go that nobody asked to have elsewhere."""


def upgraded_volume(project: str, moment: str) -> str:
    """The name of the volume that keeps the upgraded data of a rehearsal that went back."""
    return f"{project}_upgraded-{moment}"


def left_behind(client: DockerClient, database: Database, folder: Path) -> list[str]:
    """A sentence for each thing, with what to type about it. `folder` is the cluster's state folder."""
    return [*_begun(database, folder), *_kept(client, database, folder)]


def _begun(database: Database, folder: Path) -> Iterator[str]:
    rehearse = f"`invoke rehearse --db={database.value}"
    if (folder / REHEARSAL_MARK).exists():
        yield f"A rehearsal is not over: {rehearse} --resume` goes on, {rehearse} --abandon` puts the old release back."
    if (folder / DEFECT_MARK).exists():
        yield f"A planted defect was left in it, or is in it now: `invoke down --db={database.value}` takes it away."


def _kept(client: DockerClient, database: Database, folder: Path) -> Iterator[str]:
    upgraded = upgraded_volume(project_name(database), "")
    for name in sorted(one.name for one in volumes_of(client, project_name(database)) if one.name.startswith(upgraded)):
        yield f"Kept: the upgraded data of a rehearsal that went back; `docker volume rm {name}` gives it up."
    dumps = [path.stat().st_size for path in (folder / BACKUPS).glob("*.dump")]
    if dumps:
        many, size = f"{len(dumps)} backup{'s' if len(dumps) > 1 else ''}", f"{sum(dumps) / 1e6:.1f} MB"
        yield f"Kept: {many}, {size}, in {folder / BACKUPS}."
