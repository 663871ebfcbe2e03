"""What refuses a rehearsal before anything is stopped."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smallcluster.errors import AskedWronglyError, ClusterBrokenError
from smallcluster.rehearsal import preflight
from smallcluster.rehearsal.preflight import Wishes, make_plan, refuse_other_images, refuse_red
from smallcluster.verdicts import Finding, broken, holds, unknown


def cluster(version: str, identity: str) -> Any:
    settings = SimpleNamespace(db=SimpleNamespace(value="pgsql"), nodes=2, folder=Path("/state/pgsql"))
    image = SimpleNamespace(ref=f"server:{version}", id=identity, version=version)
    return SimpleNamespace(images={"server": image}, settings=settings, containers=dict)


def test_a_plan_has_what_was_asked_for() -> None:
    made = make_plan(cluster("0.1.0", "1"), cluster("0.2.0", "2"), Wishes(backups="b", bootstrap_seconds="7"))
    assert (made.from_id, made.to_id, made.bootstrap_seconds) == ("1", "2", 7.0)
    assert made.backups == str(Path("b").absolute())
    assert make_plan(cluster("0.1.0", "1"), cluster("0.2.0", "2"), Wishes()).backups == "/state/pgsql/backups"


@pytest.mark.parametrize(
    ("versions", "ids", "wishes"),
    [
        (("0.2.0", "0.1.0"), ("1", "2"), Wishes()),
        (("0.1.0", "0.2.0"), ("1", "1"), Wishes()),
        (("0.1.0", "0.2.0"), ("1", "2"), Wishes(on_failure="cry")),
        (("0.1.0", "0.2.0"), ("1", "2"), Wishes(bootstrap_seconds="0")),
        (("0.1.0", "0.2.0"), ("1", "2"), Wishes(bootstrap_seconds="soon")),
        (("0.1.0", "0.2.0"), ("1", "2"), Wishes(bootstrap_seconds="nan")),
    ],
)
def test_what_no_plan_is_made_of(versions: tuple[str, str], ids: tuple[str, str], wishes: Wishes) -> None:
    before, after = (cluster(*one) for one in zip(versions, ids, strict=True))
    with pytest.raises(AskedWronglyError):
        make_plan(before, after, wishes)


def test_force_takes_one_that_is_not_newer() -> None:
    assert make_plan(cluster("0.2.0", "1"), cluster("0.1.0", "2"), Wishes(force=True)).to_version == "0.1.0"


def test_the_same_tag_with_another_digest_is_refused() -> None:
    before, after = cluster("0.1.0", "1"), cluster("0.2.0", "2")
    plan = make_plan(before, after, Wishes())
    refuse_other_images(plan, before, after)
    with pytest.raises(AskedWronglyError) as refused:
        refuse_other_images(plan, before, cluster("0.2.0", "3"))
    assert refused.value.seen == "server:0.2.0 was 2, and is 3"


@pytest.mark.parametrize(
    ("judgement", "refused"),
    [(holds("x"), False), (unknown("x", cause="c"), True), (broken("x", expected="e", cause="c"), True)],
)
def test_only_a_green_cluster_is_upgraded(judgement: Any, refused: bool) -> None:
    plan = make_plan(cluster("0.1.0", "1"), cluster("0.2.0", "2"), preflight.Wishes())
    found = [Finding(check="a", title="A", rules=(), judgement=judgement, seconds=0.0)]
    if not refused:
        refuse_red(found, plan)
        return
    with pytest.raises(ClusterBrokenError) as stop:
        refuse_red(found, plan)
    assert stop.value.seen == "a"
