"""Progress: a sign of life within two seconds, durations for the phase table, nothing on stdout."""

from __future__ import annotations

import io
import time

import pytest

from smallcluster.progress import Progress


def test_a_step_has_a_start_words_and_an_end() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.step("up") as step:
        step.say("creating")
        step.say("creating")
        step.done("three things")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["▶ up", "  … creating"]
    assert lines[2].startswith("✓ up: three things (")
    assert [phase.name for phase in progress.phases] == ["up"]


def test_a_failing_step_is_marked_and_timed() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with pytest.raises(ZeroDivisionError), progress.step("up"):
        raise ZeroDivisionError
    assert stream.getvalue().splitlines()[-1].startswith("✗ up (")
    assert len(progress.phases) == 1


def test_a_reader_that_has_gone_stops_no_work() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    progress, reached = Progress(Gone()), []
    with progress.step("down") as step:
        step.say("stopping")
        reached.append("the work")
    assert reached
    assert [phase.name for phase in progress.phases] == ["down"]


def test_a_silent_step_speaks_within_two_seconds() -> None:
    stream = io.StringIO()
    began = time.monotonic()
    with Progress(stream).step("quiet") as step:
        step.say("the database")
        while "still at it" not in stream.getvalue():
            assert time.monotonic() - began < 10
            time.sleep(0.02)
    assert "the database" in stream.getvalue().splitlines()[-2]
