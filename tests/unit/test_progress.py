"""Progress: a sign of life within two seconds, durations for the phase table, nothing on stdout."""

from __future__ import annotations

import io
import threading
import time

import pytest

from smallcluster import asked
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


def groups_of(text: str) -> list[str]:
    """The group commands of a log, in their order."""
    return [line for line in text.splitlines() if line.startswith(("::group::", "::endgroup::"))]


def test_in_a_workflow_log_a_step_is_a_group_and_its_result_stands_outside() -> None:
    stream = io.StringIO()
    progress = Progress(stream, workflow_log=True)
    with progress.step("up") as step:
        step.say("creating")
        step.done("three things")
    *lines, last = stream.getvalue().splitlines()
    assert lines == ["::group::▶ up", "  … creating", "::endgroup::"]
    assert last.startswith("✓ up: three things (")


def test_elsewhere_there_are_no_groups() -> None:
    stream = io.StringIO()
    with Progress(stream).step("up"):
        pass
    assert groups_of(stream.getvalue()) == []


def test_a_step_within_a_step_opens_no_group_and_closes_none() -> None:
    stream = io.StringIO()
    progress = Progress(stream, workflow_log=True)
    with pytest.raises(ZeroDivisionError), progress.step("outer"):
        with progress.step("inner"):
            pass
        raise ZeroDivisionError
    assert groups_of(stream.getvalue()) == ["::group::▶ outer", "::endgroup::"]
    assert stream.getvalue().splitlines()[1] == "▶ inner"
    assert stream.getvalue().splitlines()[-1].startswith("✗ outer (")
    with progress.step("next"):
        pass
    assert groups_of(stream.getvalue())[2:] == ["::group::▶ next", "::endgroup::"]


def test_steps_at_the_same_time_share_one_group_that_the_last_one_closes() -> None:
    stream = io.StringIO()
    progress, go_on = Progress(stream, workflow_log=True), threading.Event()

    def other() -> None:
        with progress.step("second"):
            go_on.wait(10)

    with progress.step("first"):
        thread = threading.Thread(target=other)
        thread.start()
        while "▶ second" not in stream.getvalue():
            assert thread.is_alive()
    assert groups_of(stream.getvalue()) == ["::group::▶ first"]
    go_on.set()
    thread.join()
    assert groups_of(stream.getvalue()) == ["::group::▶ first", "::endgroup::"]


@pytest.mark.parametrize(("value", "grouped"), [("true", True), ("", False), (None, False)])
def test_the_runner_says_who_reads_the_log(monkeypatch: pytest.MonkeyPatch, value: str | None, grouped: bool) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    if value is not None:
        monkeypatch.setenv("GITHUB_ACTIONS", value)
    assert asked.progress().workflow_log is grouped
