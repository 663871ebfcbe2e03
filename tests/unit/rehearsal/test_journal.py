"""What a rehearsal still knows after kill -9, and what it does from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallcluster.errors import AskedWronglyError, ClusterBrokenError, ExitCode
from smallcluster.rehearsal import journal as journals
from smallcluster.rehearsal import plan as plans
from smallcluster.rehearsal import settle
from smallcluster.rehearsal.backup import Backup, Table
from smallcluster.rehearsal.journal import Done, Facts, Journal, Work
from smallcluster.rehearsal.plan import STEPS, UNDO, WAY_BACK, Plan

PLAN = Plan(
    database="pgsql", nodes=2, from_image="old", from_id="1", from_version="0.1.0", to_image="new", to_id="2",
    to_version="0.2.0", world="w", backups="/backups", rollback=True,
)  # fmt: skip


def journal(tmp_path: Path, *done: str, begun: str = "", brought_up: bool = False) -> Journal:
    """One in which some steps are done, and another was cut off."""
    made = Journal(tmp_path / "rehearsal.json", PLAN, tmp_path, brought_up, Work("abc123"))
    planned = {step.id: step for step in (*STEPS, *WAY_BACK)}
    made.attempts = [Done(planned[one], 1.0, 2.0, ("seen",)) for one in done]
    made.attempts += [Done(planned[begun], 3.0)] if begun else []
    return made


def test_everything_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    problem = ClusterBrokenError("not so", seen="x", why="y", then="z")
    made = journal(tmp_path, "drain-workers", begun="stop-scheduler")
    made.attempts.append(Done(STEPS[2], 4.0, 5.0, (), problem))
    made.facts = Facts(held={"runs": Table(3, "f")}, copy=Backup(Path("/b/x.dump"), 7, "abc", 1.5),
                       schema={"bootstrap": "0004"}, floor={"dump": 0.5})  # fmt: skip
    made.work.leased, made.work.before = [{"task_id": "1"}], {"w": [{"id": "1"}]}
    made.gaps = [(1.0, 2.0)]
    made.save()
    assert made.path.stat().st_mode & 0o777 == 0o600, "it holds leases"
    read = journals.read(made.path)
    told = read.attempts[2].problem
    assert told is not None
    assert (str(told), told.code) == (str(problem), ExitCode.BROKEN)
    read.attempts[2].problem = made.attempts[2].problem = None
    assert read == made


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"schema": 99}', '{"schema": 1}'])
def test_what_is_not_there_or_no_journal_is_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "rehearsal.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AskedWronglyError):
        journals.read(path)


def test_a_step_counts_by_its_last_attempt(tmp_path: Path) -> None:
    made = journal(tmp_path, "drain-workers", begun="stop-scheduler")
    assert (made.done("drain-workers"), made.done("stop-scheduler"), made.begun("stop-scheduler")) == (
        True,
        False,
        True,
    )
    assert made.stands == "'Stop the scheduler' was cut off"
    made.attempts.append(Done(STEPS[1], 5.0, 6.0))
    assert made.done("stop-scheduler")
    assert [one.id for one in made.left_to_do()[:1]] == ["close-balancer"]


@pytest.mark.parametrize(
    ("begun", "abandoned"),
    [
        ("", ()),
        ("drain-workers", tuple(step.id for step in UNDO)),
        ("back-up", tuple(step.id for step in UNDO)),
        ("bootstrap", tuple(step.id for step in WAY_BACK if step.id != "write-on-new")),
        ("restore", tuple(step.id for step in WAY_BACK if step.id != "write-on-new")),
    ],
)
def test_data_that_was_not_touched_is_not_restored(begun: str, abandoned: tuple[str, ...], tmp_path: Path) -> None:
    done = ["bootstrap"] if begun == "restore" else []
    made = journal(tmp_path, *done, begun=begun)
    assert tuple(step.id for step in made.left_to_abandon()) == abandoned
    assert journal(tmp_path, *done, begun=begun, brought_up=True).left_to_abandon() == []
    assert {"keep-upgraded", "restore"}.isdisjoint(step.id for step in UNDO)


WINDOW = ("drain-workers", "stop-scheduler", "close-balancer", "stop-nodes", "back-up", "bootstrap", "start-nodes")


@pytest.mark.parametrize(
    ("done", "begun", "serves", "schedules"),
    [
        ((), "", True, True),
        (WINDOW[:1], "stop-scheduler", True, False),
        (WINDOW[:2], "close-balancer", False, False),
        (WINDOW, "open-balancer", False, False),
        ((*WINDOW, "open-balancer"), "start-workers", True, False),
        ((*WINDOW, "open-balancer", "start-workers", "start-scheduler"), "smoke", True, True),
        ((*WINDOW, "open-balancer", "start-scheduler"), "stop-scheduler-again", True, False),
        ((*WINDOW, "open-balancer", "start-scheduler", "stop-scheduler-again"), "close-again", False, False),
        ((*WINDOW, "open-balancer", "start-scheduler", "close-again"), "restore", False, True),
        ((*WINDOW, "close-again", "start-old-nodes", "open-again", "start-old-scheduler"), "smoke-old", True, True),
    ],
)
def test_what_should_run_when_it_is_taken_up(
    done: tuple[str, ...], begun: str, serves: bool, schedules: bool, tmp_path: Path
) -> None:
    made = journal(tmp_path, *done, begun=begun)
    assert (settle.serving(made), settle.scheduling(made)) == (serves, schedules)


def test_a_run_is_the_saved_plans_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plans.refuse_another(PLAN, path)
    plans.save(PLAN, path)
    plans.refuse_another(PLAN, path)
    for change in ({"world": "other"}, {"to_id": "3"}, {"rollback": False}):
        with pytest.raises(AskedWronglyError, match="saved plan") as refused:
            plans.refuse_another(plans.told_from(PLAN.as_data() | change), path)
        assert next(iter(change)) in refused.value.seen
    path.write_text("{}")
    with pytest.raises(AskedWronglyError, match="is no plan"):
        plans.refuse_another(PLAN, path)
