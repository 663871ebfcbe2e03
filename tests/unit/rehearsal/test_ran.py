"""What ran beside what, by the engine's events."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallcluster.rehearsal import ran
from smallcluster.rehearsal.ran import DIE, LOOK, RUNS, START, Event, Watcher

OLD, NEW = ("server:old", "sha256:old"), ("server:new", "sha256:new")


def events(*told: str) -> list[Event]:
    """`start a server:new` is a start of the container a, which is of service server-a unless it says `as x`."""
    found = []
    for number, line in enumerate(told):
        what, container, image, *service = line.split()
        found.append(Event(float(number), what, container, service[0] if service else f"server-{container}", image))
    return found


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        (("runs a server:old", "die a -", "start b server:new"), 0),
        (("runs a server:old", "start b server:new"), 1),
        (("runs a sha256:new", "start b server:new", "start c server:old"), 1),
        (("runs a server:old", "start j server:new bootstrap"), 0),
        (("start s server:old scheduler", "die s -", "start t server:new scheduler"), 0),
        (("start s server:new scheduler", "start t server:new scheduler"), 1),
        (("runs a server:old", "look - -", "start b server:new"), 0),
        (("runs a server:old", "look - -", "runs a server:old", "start b server:new"), 1),
        (("runs p redis redis", "start b server:new"), 0),
    ],
)
def test_beside(told: tuple[str, ...], seen: int) -> None:
    assert len(ran.beside(events(*told), OLD, NEW)) == seen


def test_what_is_told_names_both_and_the_moment() -> None:
    (told,) = ran.beside(events("runs a server:old", "start b server:new"), OLD, NEW)
    assert told == "00:00:01: server-b of server:new ran beside server-a of server:old"


def test_events_are_kept_and_read_back_and_a_death_is_known(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path / ran.EVENTS)
    kept = [Event(1.0, LOOK), Event(1.0, RUNS, "a", "server-a", "x"), Event(2.0, DIE, "a", "server-a", "x", 3)]
    for one in kept:
        watcher.keep(one)
    assert (watcher.events(), watcher.died("a"), watcher.died("b")) == (kept, 3, None)
    watcher.keep(Event(3.0, START, "a", "server-a", "x"))
    assert watcher.died("a") is None
