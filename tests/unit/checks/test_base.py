"""What a check does around its judge: shared looks, looks that fail, looks that it may not take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smallcluster import checks
from smallcluster.api import Credentials
from smallcluster.checks.base import Check, Live, Need
from smallcluster.checks.rhythm import ROUND_SECONDS
from smallcluster.paths import CHECKOUT
from smallcluster.settings import Settings
from smallcluster.verdicts import Judgement, holds


class Nothing:
    """A cluster that may not be looked at."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


@pytest.fixture
def live(settings: Settings) -> Live:
    cluster = Nothing(settings)
    return Live(cluster=cluster, routes={}, credentials=Credentials("", "", ""), record=lambda _: None)  # type: ignore[arg-type]


def looked(live: Live) -> Judgement:
    return holds(f"looked at {len(live.nodes)} nodes")


CHECK = Check(
    id="looks",
    title="It looks",
    rules=("smoke.health",),
    probe=looked,
    judge=lambda seen: seen,
    needs=frozenset({Need.ENGINE, Need.DATABASE}),
    waits=2.0,
)


def test_a_check_that_may_look_judges_and_states_its_wait(live: Live) -> None:
    finding = CHECK.run(live)
    assert (finding.verdict.value, finding.waits) == ("holds", 2.0)


def test_a_check_that_lacks_what_it_needs_is_unknown_and_names_it(live: Live) -> None:
    live.offers = frozenset({Need.ENGINE})
    finding = CHECK.run(live)
    assert (finding.verdict.value, finding.waits) == ("unknown", 0.0)
    assert (
        finding.judgement.cause
        == "this check needs a database of the cluster's own, and its client, which is not to be had here."
    )


def test_a_look_that_fails_is_unknown_and_says_why(live: Live) -> None:
    def fails(_: Live) -> Judgement:
        raise ConnectionError("the engine is gone")

    finding = replace(CHECK, probe=fails).run(live)
    assert finding.verdict.value == "unknown"
    assert "ConnectionError: the engine is gone" in finding.judgement.evidence[0]


def test_ids_are_unique_and_titles_are_sentences() -> None:
    assert len({check.id for check in checks.ALL}) == len(checks.ALL)
    assert all(check.title[0].isupper() or check.title[0] == "/" for check in checks.ALL)
    assert all(check.rules for check in checks.ALL)


def test_the_rhythm_that_waits_are_stated_in_is_the_rendered_one() -> None:
    env = (CHECKOUT / "env" / "cluster.env").read_text()
    assert f"\nDW_SCHEDULER_INTERVAL_SECONDS={ROUND_SECONDS:g}\n" in env
