"""What a rehearsal must still know after kill -9: its plan, its steps so far, and what they found out.

One file in the cluster's state folder, written whole at every turn, private because it holds leases. While it is there,
a rehearsal is under way or was cut off: no other verb changes the cluster, and `--resume` or `--abandon` goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smallcluster import files
from smallcluster.api import JsonBody
from smallcluster.errors import AskedWronglyError, ExitCode, PersonError
from smallcluster.lifecycle import REHEARSAL_MARK
from smallcluster.rehearsal import plan as plans
from smallcluster.rehearsal.backup import Backup, Table
from smallcluster.rehearsal.plan import STEPS, UNDO, WAY_BACK, Plan, Planned
from smallcluster.settings import Settings

SCHEMA = 1
CUT_OFF = "The run was cut off in this step."
_PLANNED = {step.id: step for step in (*STEPS, *WAY_BACK)}


@dataclass
class Done:
    """One attempt of a step. Times are seconds since the epoch; `ended` 0: it is under way, or was cut off."""

    step: Planned
    began: float
    ended: float = 0.0
    seen: tuple[str, ...] = ()
    problem: PersonError | None = None

    @property
    def seconds(self) -> float:
        """How long it took; 0 where nobody saw its end."""
        return max(self.ended - self.began, 0.0)

    @property
    def verified(self) -> bool:
        """Whether it came to its end, and that end was as it must be."""
        return self.ended > 0 and self.problem is None

    @property
    def told(self) -> tuple[str, ...]:
        """What it saw, or why it did not."""
        if self.problem is not None:
            return (self.problem.what, *self.problem.seen.splitlines())
        return self.seen if self.ended else (CUT_OFF,)


@dataclass
class Facts:
    """What the steps found out and later ones need."""

    tables: list[str] = field(default_factory=list)
    """The tables' names, read before the window."""
    held: dict[str, Table] = field(default_factory=dict)
    """What each table held when nothing wrote any more."""
    copy: Backup | None = None
    schema: dict[str, str] = field(default_factory=dict)
    """The schema's version before a bootstrap job, by the job's step."""
    leases: dict[str, str] = field(default_factory=dict)
    """What became of each lease that was held through the window, by workflow."""
    kept_volume: str = ""
    """The upgraded data's volume, once it is chosen; whole once that step is done."""
    floor: dict[str, float] = field(default_factory=dict)
    """The least that the window can take: seconds, by what takes them."""


@dataclass
class Work:
    """What the workload must still know; the acknowledged operations are in operations.jsonl."""

    mark: str
    generation: int = 0
    """How often the preparation was begun anew: part of the names, so that nothing is started twice."""
    ready: bool = False
    """Whether everything is in flight."""
    due: int = 0
    """When the schedule comes due, seconds since the epoch."""
    leased: list[JsonBody] = field(default_factory=list)
    """Workflow tasks that the rehearsal itself holds leases of, into the window."""
    before: dict[str, list[JsonBody]] = field(default_factory=dict)
    """Histories, by workflow, as they were when nothing was written any more."""


@dataclass
class Journal:
    """The rehearsal as it stands."""

    path: Path
    plan: Plan
    folder: Path
    """Its evidence."""
    brought_up: bool
    """Whether the cluster is the rehearsal's own, to be taken down at its end."""
    work: Work
    facts: Facts = field(default_factory=Facts)
    attempts: list[Done] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """When nobody was at work, seconds since the epoch: from the last word of a killed run to its resumption."""
    abandoned: bool = False
    at: float = 0.0
    """When it was last written, seconds since the epoch."""

    def save(self) -> None:
        """Write it, whole or not at all."""
        self.at = time.time()
        plain = asdict(self) | {"schema": SCHEMA, "path": str(self.path), "folder": str(self.folder)}
        plain["attempts"] = [_attempt_as_data(one) for one in self.attempts]
        if self.facts.copy is not None:
            plain["facts"]["copy"]["path"] = str(self.facts.copy.path)
        files.write_private(self.path, json.dumps(plain) + "\n")

    def remove(self) -> None:
        """Forget it: the rehearsal is over, or its cluster is gone."""
        self.path.unlink(missing_ok=True)

    def first(self, step: str) -> Done | None:
        """A step's first attempt."""
        return next((one for one in self.attempts if one.step.id == step), None)

    def last(self, step: str) -> Done | None:
        """A step's last attempt."""
        return next((one for one in reversed(self.attempts) if one.step.id == step), None)

    def done(self, step: str) -> bool:
        """Whether a step was done, by its last attempt."""
        last = self.last(step)
        return last is not None and last.verified

    def begun(self, step: str) -> bool:
        """Whether a step was ever begun."""
        return self.last(step) is not None

    def now(self, steps: Sequence[Planned]) -> list[Done]:
        """The last attempts, in the order of their steps."""
        last = (self.last(step.id) for step in steps)
        return [one for one in last if one is not None]

    @property
    def going_back(self) -> bool:
        """Whether the way back was begun."""
        return any(self.begun(step.id) for step in WAY_BACK)

    def left_to_do(self) -> list[Planned]:
        """The steps that are not done yet, on the way that it is on."""
        steps = WAY_BACK if self.going_back else self.plan.steps
        return [step for step in steps if not self.done(step.id)]

    def left_to_abandon(self) -> list[Planned]:
        """The steps that put the old release back from here: none where nothing was stopped."""
        if self.brought_up or not self.attempts:
            return []
        touched = self.begun("bootstrap")  # from then on the data may be the new release's
        steps = [step for step in WAY_BACK if step.id != "write-on-new"] if touched else UNDO
        return [step for step in steps if not self.done(step.id)]

    @property
    def stands(self) -> str:
        """How far it has come, in a few words."""
        if not self.attempts:
            return "nothing was stopped yet"
        last = self.attempts[-1]
        how = "done" if last.verified else "failed" if last.problem else "cut off"
        return f"{last.step.title!r} was {how}"


def path_of(settings: Settings) -> Path:
    """Where a cluster's rehearsal is written down."""
    return settings.folder / REHEARSAL_MARK


def read(path: Path) -> Journal:
    """A rehearsal that was cut off. Raises AskedWronglyError where there is none, or it can't be read."""
    try:
        return _told_from(path, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise AskedWronglyError(
            "There is no rehearsal to go on with.",
            seen=f"no {path}",
            why="it came to its end, or its cluster was taken down.",
            then="begin one with `invoke rehearse`.",
        ) from None
    except (ValueError, KeyError, TypeError) as problem:
        raise AskedWronglyError(
            f"{path} can't be read.",
            seen=f"{type(problem).__name__}: {problem}",
            why="another release of the harness wrote it, or it was edited.",
            then="take that release to end the rehearsal; the backups are beside it, and nothing was removed.",
        ) from None


def _told_from(path: Path, data: Mapping[str, Any]) -> Journal:
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']} instead of {SCHEMA}")
    facts = dict(data["facts"])
    facts["held"] = {name: Table(**one) for name, one in facts["held"].items()}
    if facts["copy"] is not None:
        facts["copy"] = Backup(**facts["copy"] | {"path": Path(facts["copy"]["path"])})
    return Journal(
        path=path,
        plan=plans.told_from(data["plan"]),
        folder=Path(data["folder"]),
        brought_up=data["brought_up"],
        work=Work(**data["work"]),
        facts=Facts(**facts),
        attempts=[_attempt(one) for one in data["attempts"]],
        gaps=[(since, until) for since, until in data["gaps"]],
        abandoned=data["abandoned"],
        at=data["at"],
    )


def _attempt_as_data(done: Done) -> dict[str, Any]:
    problem = done.problem
    told = None if problem is None else {"code": int(problem.code), "what": problem.what, "seen": problem.seen,
                                         "why": problem.why, "then": problem.then}  # fmt: skip
    return {"step": done.step.id, "began": done.began, "ended": done.ended, "seen": done.seen, "problem": told}


def _attempt(data: Mapping[str, Any]) -> Done:
    told = data["problem"]
    problem = None
    if told is not None:
        problem = PersonError(told["what"], seen=told["seen"], why=told["why"], then=told["then"])
        problem.code = ExitCode(told["code"])
    return Done(_PLANNED[data["step"]], data["began"], data["ended"], tuple(data["seen"]), problem)
