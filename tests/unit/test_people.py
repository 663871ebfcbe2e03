"""The edge to a person: each kind of stop has its exit code and its words, and no traceback gets through."""

from __future__ import annotations

import json
import signal

import docker.errors
import pytest
import requests
from invoke.exceptions import Exit

from smallcluster import interrupts, people
from smallcluster.errors import (
    AskedWronglyError,
    ClusterBrokenError,
    ExitCode,
    InterruptedRunError,
    MachineCannotError,
    PersonError,
)


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (ClusterBrokenError("x"), 10),
        (InterruptedRunError("x"), 11),
        (interrupts.Interruption(InterruptedRunError("x")), 11),
        (AskedWronglyError("x"), 12),
        (MachineCannotError("x"), 13),
        (PersonError("x"), 14),
        (KeyboardInterrupt(), 11),
        (ZeroDivisionError("division"), 14),
        (PermissionError(13, "Permission denied", "/somewhere/lock"), 13),
        (requests.ConnectionError("the engine went away"), 13),
        (docker.errors.APIError("server error"), 13),
    ],
)
def test_every_stop_has_its_exit_code(problem: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> ExitCode:
        raise problem

    with pytest.raises(Exit) as caught:
        people.run(body, debug=False)
    assert caught.value.code == code
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.strip()
    assert "Traceback" not in seen.err


def test_success_returns_so_that_verbs_can_be_chained() -> None:
    people.run(lambda: ExitCode.HOLDS, debug=False)


def test_debug_shows_the_traceback_of_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> ExitCode:
        raise ZeroDivisionError

    with pytest.raises(Exit):
        people.run(body, debug=True)
    assert "Traceback" in capsys.readouterr().err


def test_as_json_a_stop_is_json_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> ExitCode:
        raise AskedWronglyError("What.", seen="this", why="that", then="do")

    with pytest.raises(Exit):
        people.run(body, debug=False, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 12
    assert told["problem"] == {"what": "What.", "seen": "this", "why": "that", "then": "do", "exit_code": 12}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_becomes_an_exception_so_that_teardown_runs(number: signal.Signals) -> None:
    torn_down = []
    with pytest.raises(interrupts.Interruption, match=number.name), interrupts.as_exceptions():
        try:
            signal.raise_signal(number)
        finally:
            torn_down.append(True)
    assert torn_down


def test_a_signal_during_a_teardown_is_raised_after_it_so_that_no_further_verb_starts() -> None:
    reached = []
    with pytest.raises(interrupts.Interruption), interrupts.as_exceptions():
        with interrupts.shielded():
            signal.raise_signal(signal.SIGINT)
            reached.append("the rest of the teardown")
        reached.append("never")
    assert reached == ["the rest of the teardown"]


def test_one_more_signal_does_not_cut_a_teardown_short_but_the_second_does() -> None:
    reached = []
    with pytest.raises(interrupts.Interruption), interrupts.as_exceptions(), interrupts.shielded():
        signal.raise_signal(signal.SIGINT)
        reached.append("after the first")
        signal.raise_signal(signal.SIGINT)
        reached.append("never")
    assert reached == ["after the first"]


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interrupts.as_exceptions():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_in_a_delicate_moment_is_raised_after_it() -> None:
    reached = []
    with pytest.raises(interrupts.Interruption), interrupts.as_exceptions():
        with interrupts.deferred():
            signal.raise_signal(signal.SIGTERM)
            reached.append("the rest of the moment")
        reached.append("never")
    assert reached == ["the rest of the moment"]
