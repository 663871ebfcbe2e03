"""The steps after the window, which prove it: the recorded work compared, the backup restored, the floor measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smallcluster.errors import ClusterBrokenError
from smallcluster.rehearsal import backup, floor
from smallcluster.rehearsal.world import Say, World

if TYPE_CHECKING:
    from smallcluster.rehearsal.backup import Backup


def compare(world: World, say: Say) -> list[str]:
    """See that everything acknowledged is there, once, finished, with its history; and what ran beside what."""
    work = world.work
    world.facts.leases |= work.finish()
    world.journal.save()
    say("waiting for every run to be finished")
    left = work.await_closed(list(work.started))
    fired = work.scheduled_runs()
    problems = [*(f"{name} is not finished" for name in left), *work.problems(), *world.beside()]
    if len(fired) != 1:
        problems.append(f"the schedule that came due started {len(fired)} runs instead of one: {', '.join(fired)}")
    if problems:
        raise ClusterBrokenError(
            "Recorded work did not come through.",
            seen="\n".join(problems[:20]),
            why="the new release loses, doubles or changes what the old one had acknowledged.",
            then="read operations.jsonl and events.jsonl in the evidence folder",
        )
    kept = sum(map(len, work.before.values()))
    return [
        f"{len(work.started)} acknowledged runs, each there once and finished; {len(work.unknown)} starts unknown",
        f"{kept} events from before, each still where it was",
        "the schedule that came due was fired once",
        *(f"a lease held through the window: {name}, {outcome}" for name, outcome in world.facts.leases.items()),
        ran_alone(world),
    ]


def ran_alone(world: World) -> str:
    """That nothing ran beside what it must not, and from how much that is known."""
    return f"no old node and no second scheduler ran beside the new ones, by {len(world.ran.events())} engine events"


def prove_backup(world: World, say: Say) -> list[str]:
    """Restore the backup beside the database, and compare."""
    say("restoring it into a database of its own")
    proof = backup.prove(world.after, _copy(world), world.facts.held, world.scratch)
    if proof.differing:
        raise ClusterBrokenError("The backup is not what the database held.", seen="\n".join(proof.differing),
                                 why="the way back would not lead to where it began.")  # fmt: skip
    return [f"{len(proof.tables)} tables restored, all as they were, in {proof.seconds:.1f} s"]


def measure_floor(world: World, say: Say) -> list[str]:
    """Time what can't be left out of a window, alone."""
    patience = world.journal.plan.bootstrap_seconds
    world.facts.floor = floor.measure(world.after, _copy(world), world.scratch, patience, say)
    return [floor.told(world.facts.floor, None)]


def _copy(world: World) -> Backup:
    if world.facts.copy is None:
        raise RuntimeError("there is no backup")
    return world.facts.copy
