"""The plan of a stop-the-world upgrade, in the note's order: what is done, why, what verifies it, how it is undone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallcluster import files
from smallcluster.errors import AskedWronglyError

if TYPE_CHECKING:
    from smallcluster.cluster import Cluster


@dataclass(frozen=True)
class Planned:
    """One step as a person reads it. `undone` empty: there is nothing to undo."""

    id: str
    title: str
    why: str
    verified: str
    undone: str = ""


STEPS: tuple[Planned, ...] = (
    Planned("drain-workers", "Drain the workers", "so that nothing is begun which the stop would cut through",
            "every worker process has ended by itself; one that has not is named, and its lease left to expire",
            "start the workers again"),
    Planned("stop-scheduler", "Stop the scheduler", "so that no pass writes while the schema changes",
            "no container of the project runs the maintenance loop", "start it again"),
    Planned("close-balancer", "Have the balancer answer 503",
            "so that clients are told to come back instead of being refused a connection",
            "503 with Retry-After and a JSON body, from a configuration that names no node",
            "give it its configuration"),
    Planned("stop-nodes", "Stop the API nodes",
            "so that no acknowledged write can fall between the backup and the stop",
            "no node's program runs", "start them again"),
    Planned("back-up", "Back the database up", "so that there is a way back",
            "a file with its size and SHA-256, and what every table held when it was written"),
    Planned("bootstrap", "Run the new image's bootstrap job",
            "so that no new node ever serves an old schema",
            "the job has ended with status 0, and the schema's version is told before and after",
            "restore the backup into a fresh volume: a migrated schema is not migrated back"),
    Planned("start-nodes", "Start the new nodes", "",
            "each is ready and says the new version; none of the old image runs", "stop them"),
    Planned("open-balancer", "Give the balancer its nodes back", "their addresses are others now",
            "ready through the balancer, and every node answers behind it", "have it answer 503"),
    Planned("start-workers", "Start the workers", "", "each is registered", "drain them"),
    Planned("start-scheduler", "Start the scheduler", "", "exactly one container runs the maintenance loop", "stop it"),
    Planned("smoke", "Smoke the new cluster", "so that the contract is known to hold on it", "every check holds"),
    Planned("compare", "Compare the recorded work", "so that nothing acknowledged is known to be lost or doubled",
            "every run is there once and finished, and its history begins with what it was"),
    Planned("prove-backup", "Prove the backup", "so that the way back is one",
            "restored beside it, every table the same"),
    Planned("measure-floor", "Measure the least that the window can take", "so that its length can be judged",
            "a copy of the backup was dumped, migrated, and a node on it was ready"),
)  # fmt: skip
"""Those up to start-scheduler are the window; the rest proves it, while clients are served."""
WAY_BACK: tuple[Planned, ...] = (
    Planned("write-on-new", "Write on the new version", "so that there is something that the way back gives up",
            "each run is acknowledged and finished"),
    Planned("drain-again", "Drain the workers", "", "every worker process has ended by itself", "start them again"),
    Planned("stop-scheduler-again", "Stop the scheduler", "", "no container runs the maintenance loop",
            "start it again"),
    Planned("close-again", "Have the balancer answer 503", "", "503 with Retry-After and a JSON body",
            "give it its configuration"),
    Planned("stop-new-nodes", "Stop the nodes", "", "no node's program runs", "start them again"),
    Planned("keep-upgraded", "Keep the upgraded data", "so that the only copy of it is not at risk",
            "a volume of its own that holds as many bytes", "remove that volume"),
    Planned("restore", "Restore the backup into a fresh volume", "",
            "every table holds what it held when the backup was taken",
            "the upgraded data is in the volume that was kept"),
    Planned("old-bootstrap", "Run the old image's bootstrap job", "so that the old one calls the schema its own",
            "the job has ended with status 0", ""),
    Planned("start-old-nodes", "Start the old nodes", "", "each is ready; none of the new image runs", "stop them"),
    Planned("open-again", "Give the balancer its nodes back", "", "ready through the balancer",
            "have it answer 503"),
    Planned("start-workers-again", "Start the workers", "", "each is registered", "drain them"),
    Planned("start-old-scheduler", "Start the scheduler", "", "exactly one container runs the maintenance loop",
            "stop it"),
    Planned("smoke-old", "Smoke the old cluster", "", "every check holds"),
    Planned("compare-back", "Compare the recorded work", "so that it is known what the way back gave up",
            "everything acknowledged before the backup is there; what came later is named"),
)  # fmt: skip
"""The way back, from wherever the way forward has come to."""
UNDO: tuple[Planned, ...] = tuple(
    step for step in WAY_BACK
    if step.id not in ("write-on-new", "keep-upgraded", "restore", "start-workers-again", "compare-back")
)  # fmt: skip
"""What puts the old release back where its data was not touched yet."""
WINDOW = ("close-balancer", "stop-nodes", "back-up", "bootstrap", "start-nodes", "open-balancer")
"""The steps that clients feel."""
BOOTSTRAP_SECONDS = 180.0


@dataclass(frozen=True)
class Plan:
    """What will be done to which cluster, from which image to which."""

    database: str
    nodes: int
    from_image: str
    from_id: str
    from_version: str
    to_image: str
    to_id: str
    to_version: str
    world: str
    """A hash of what ran when the plan was made: another one later means that it is no longer this plan's."""
    backups: str
    """The folder that the backup goes to."""
    bootstrap_seconds: float = BOOTSTRAP_SECONDS
    """How long the bootstrap job may take before it counts as hung."""
    rollback: bool = False
    """Whether the way back is rehearsed, too."""
    on_failure_rollback: bool = False
    """Whether the way back is gone where a step fails that comes after the backup."""

    @property
    def steps(self) -> tuple[Planned, ...]:
        """Every step that there is to be."""
        return (*STEPS, *(WAY_BACK if self.rollback else ()))

    def as_data(self) -> dict[str, Any]:
        """The plan with its steps."""
        return asdict(self) | {"steps": [asdict(step) for step in self.steps]}


def world_of(cluster: Cluster) -> str:
    """A hash of the containers that are there: which, made from what, running or not."""
    found = {name: (one.id, one.image_id, one.running) for name, one in sorted(cluster.containers().items())}
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def save(plan: Plan, path: Path) -> None:
    """Keep a plan, for the run that is to be this one."""
    files.write_private(path, json.dumps(plan.as_data(), indent=2) + "\n")


def refuse_another(plan: Plan, path: Path) -> None:
    """Raise AskedWronglyError where a plan was saved and this one differs from it: what ran, or what was asked for."""
    if not path.exists():
        return
    again = f"`invoke rehearse --db={plan.database} --plan`, with the same flags, makes a new one."
    try:
        saved = told_from(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError):
        raise AskedWronglyError(f"{path} is no plan.", why="it was edited, or another release wrote it.",
                                then=again) from None  # fmt: skip
    differing = [
        f"{name}: {getattr(saved, name)} when it was saved, {getattr(plan, name)} now"
        for name in Plan.__dataclass_fields__
        if getattr(saved, name) != getattr(plan, name)
    ]
    if differing:
        raise AskedWronglyError(
            f"This is not what the saved plan {path} was made for.",
            seen="; ".join(differing),
            why="the cluster or an image changed since, or other flags were given.",
            then=f"{again} Without a saved plan: remove that file.",
        )


def lines(plan: Plan) -> list[str]:
    """The plan as a person reads it."""
    told = [
        f"Upgrade of a {plan.database} cluster of {plan.nodes} nodes",
        f"  from {plan.from_version}, {plan.from_image}",
        f"  to   {plan.to_version}, {plan.to_image}",
        f"  the backup goes to {plan.backups}",
        "  and back again" if plan.rollback else "",
        "",
    ]
    for number, step in enumerate(plan.steps, 1):
        told.append(f"{number:2}. {step.title}{f', {step.why}' if step.why else ''}.")
        told.append(f"    verified: {step.verified}")
        told.append(f"    undone: {step.undone or 'nothing to undo'}")
    return told


def newer(before: str, after: str) -> bool | None:
    """Whether a version is newer than another; None where one of them is no version."""
    numbers = [_numbers(version) for version in (before, after)]
    if None in numbers:
        return None
    one, other = numbers
    return (other or ()) > (one or ())


def _numbers(version: str) -> tuple[int, ...] | None:
    parts = version.partition(" ")[0].split(".")
    return tuple(map(int, parts)) if parts and all(part.isdecimal() for part in parts) else None


def told_from(data: Mapping[str, Any]) -> Plan:
    """A plan that was saved."""
    return Plan(**{name: data[name] for name in Plan.__dataclass_fields__})
