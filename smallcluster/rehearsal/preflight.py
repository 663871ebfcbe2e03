"""What refuses a rehearsal before anything is stopped: its images, its plan, the files of both releases, the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smallcluster import files
from smallcluster.errors import AskedWronglyError, ClusterBrokenError
from smallcluster.left_behind import BACKUPS
from smallcluster.rehearsal import backup
from smallcluster.rehearsal import plan as plans
from smallcluster.rehearsal.plan import Plan
from smallcluster.static import own
from smallcluster.verdicts import Finding, Verdict, merged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smallcluster.cluster import Cluster
    from smallcluster.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How an upgrade is to be rehearsed, as it was typed."""

    rollback: bool = False
    on_failure: str = "stop"
    force: bool = False
    backups: str = ""
    bootstrap_seconds: str = ""


def make_plan(before: Cluster, after: Cluster, wishes: Wishes) -> Plan:
    """The plan of an upgrade; what follows a failure is `stop` or `rollback`.

    Raises AskedWronglyError where it can't be meant: the image is not newer, or a word or a number is none of those.
    """
    if wishes.on_failure not in ("stop", "rollback"):
        raise AskedWronglyError(
            f"--on-failure={wishes.on_failure} is neither stop nor rollback.",
            then="repeat the command with one of them.",
        )
    one, other = before.images["server"], after.images["server"]
    newer = plans.newer(one.version, other.version)
    if (one.id == other.id or newer is False) and not wishes.force:
        raise AskedWronglyError(
            "The image to upgrade to is not newer than the one to upgrade from.",
            seen=f"from {one.version} ({one.ref}) to {other.version} ({other.ref})",
            why="the two were swapped, or a tag was given to an older build.",
            then="correct --from and --to, or repeat the command with --force.",
        )
    return Plan(
        database=before.settings.db.value, nodes=before.settings.nodes, from_image=one.ref, from_id=one.id,
        from_version=one.version, to_image=other.ref, to_id=other.id, to_version=other.version,
        world=plans.world_of(before), rollback=wishes.rollback, on_failure_rollback=wishes.on_failure == "rollback",
        backups=str(Path(wishes.backups).absolute() if wishes.backups else before.settings.folder / BACKUPS),
        bootstrap_seconds=_seconds(wishes.bootstrap_seconds),
    )  # fmt: skip


def _seconds(asked: str) -> float:
    try:
        seconds = float(asked or plans.BOOTSTRAP_SECONDS)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise AskedWronglyError(
            f"--bootstrap-seconds={asked} is no number of seconds, from 1 to 86400.", then="repeat it with one."
        )
    return seconds


def refuse_other_images(plan: Plan, before: Cluster, after: Cluster) -> None:
    """Raise AskedWronglyError where a name of the plan leads to another image than when the plan was made."""
    pairs = ((plan.from_image, plan.from_id, before), (plan.to_image, plan.to_id, after))
    moved = [f"{ref} was {was}, and is {one.images['server'].id}" for ref, was, one in pairs
             if one.images["server"].id != was]  # fmt: skip
    if moved:
        raise AskedWronglyError(
            "An image is no longer the one that the plan was made for.",
            seen="; ".join(moved),
            why="its tag was given to another build meanwhile.",
            then="give the tag back to the plan's image (`docker tag`), then repeat the command.",
        )


def refuse_broken_files(before: Cluster, after: Cluster, folder: Path, progress: Progress) -> None:
    """Raise ClusterBrokenError for files that break the contract, MachineCannotError for too little room."""
    with progress.step("looking at the files of both, and at the disk") as step:
        for cluster in (before, after):
            findings = own.findings(cluster.settings, cluster.compose)
            broken = [one.check for one in findings if one.verdict is Verdict.BROKEN]
            if broken:
                db = cluster.settings.db.value
                raise ClusterBrokenError(
                    "The files break the contract.", seen=", ".join(broken),
                    why="an env file, or one in compose/ or nginx/, was changed.",
                    then=f"`invoke check --db={db}` tells each by its line.",
                )  # fmt: skip
        files.refuse_unwritable(folder / "probe.dump")
        step.done(f"they hold; {backup.refuse_too_little_room(before, folder)}")


def refuse_red(found: Sequence[Finding], plan: Plan) -> None:
    """Raise ClusterBrokenError where the smoke of the cluster as it is, before anything is done to it, is not green."""
    if merged(found) is not Verdict.HOLDS:
        wrong = [one.check for one in found if one.verdict is not Verdict.HOLDS]
        raise ClusterBrokenError(
            "The cluster to upgrade does not hold the contract before anything is done to it.",
            seen=", ".join(wrong),
            why="it was broken before; an upgrade would only hide by what.",
            then=f"`invoke smoke --db={plan.database}` tells what is wrong with it.",
        )
