"""The edge between the library and a person: exit codes, messages instead of tracebacks, interrupts."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from smallcluster import engine, interrupts
from smallcluster.errors import AskedWronglyError, ExitCode, InterruptedRunError, MachineCannotError, PersonError


def run(body: Callable[[], ExitCode], *, debug: bool, as_json: bool = False) -> None:
    """Run a verb's body and leave with its exit code; returns only on success, so that verbs can be chained.

    Raises invoke.Exit with every other code.
    """
    from invoke.exceptions import Exit

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of another encoding gets ? for ✓, not an error
            stream.reconfigure(errors="replace")
    code = _guarded(body, debug=debug, as_json=as_json)
    if code is not ExitCode.HOLDS:
        raise Exit(code=int(code))


def confirm(question: str, *, then: str) -> None:
    """Ask a person, whose silence is a no. Raises AskedWronglyError where the answer is no, or nobody is there."""
    if not sys.stdin.isatty():
        raise AskedWronglyError("Nobody is there to be asked.", why="this is no terminal.", then=then)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise AskedWronglyError("Nothing was done.", why="the answer was not yes.", then=then)


def _guarded(body: Callable[[], ExitCode], *, debug: bool, as_json: bool) -> ExitCode:
    try:
        with interrupts.as_exceptions():
            return body()
    except BrokenPipeError:  # the reader of our output has gone: nobody learns the verdict
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - for the interpreter's last flush
        return ExitCode.UNKNOWN
    except (Exception, interrupts.Interruption, KeyboardInterrupt) as stop:
        problem = _explained(stop, debug=debug)
        if debug and not isinstance(stop, PersonError | interrupts.Interruption):
            traceback.print_exc()
        return _tell(problem, as_json=as_json)


def _explained(stop: BaseException, *, debug: bool) -> PersonError:
    """What a person is told about whatever ended a verb: no traceback reaches anybody who did not ask for it."""
    if isinstance(stop, PersonError):
        return stop
    if isinstance(stop, interrupts.Interruption):
        return stop.problem
    if isinstance(stop, KeyboardInterrupt):
        return InterruptedRunError("Stopped by Ctrl-C.")
    of_the_engine = engine.trouble(stop) if isinstance(stop, Exception) else None
    if of_the_engine:
        return of_the_engine
    return _of_the_machine(stop) if isinstance(stop, OSError) else _bug(stop, debug=debug)


def _tell(problem: PersonError, *, as_json: bool) -> ExitCode:
    from smallcluster.report.machine import problem_as_data

    with suppress(OSError, ValueError):  # a reader that has gone changes no exit code
        sys.stderr.write(f"{problem}\n")
        if as_json:
            told = {"problem": problem_as_data(problem), "exit_code": int(problem.code)}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
    return problem.code


def _of_the_machine(problem: OSError) -> PersonError:
    return MachineCannotError(
        f"The machine refuses: {problem.strerror or problem}.",
        seen=str(problem.filename or type(problem).__name__),
        why="a file or folder belongs to another user, or the disk is full or read-only.",
        then="look with `ls -l` and `df -h` there, then repeat the command.",
    )


def _bug(problem: BaseException, *, debug: bool) -> PersonError:
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return PersonError(
        f"The harness itself broke: {type(problem).__name__} in {frame.name}.",
        seen=f"{problem} ({frame.filename.rpartition('/')[2]}:{frame.lineno})",
        why="a defect of the harness; the cluster was not judged.",
        then="" if debug else "repeat the command with --debug and report what it prints.",
    )
