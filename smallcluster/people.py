"""The edge between the library and a person: exit codes, messages instead of tracebacks, interrupts."""

from __future__ import annotations

import io
import json
import sys
import traceback
from collections.abc import Callable

from smallcluster import interrupts
from smallcluster.errors import ExitCode, InterruptedRunError, PersonError


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


def _guarded(body: Callable[[], ExitCode], *, debug: bool, as_json: bool) -> ExitCode:
    try:
        with interrupts.as_exceptions():
            return body()
    except PersonError as problem:
        return _tell(problem, as_json=as_json)
    except interrupts.Interruption as stop:
        return _tell(stop.problem, as_json=as_json)
    except KeyboardInterrupt:
        return _tell(InterruptedRunError("Stopped by Ctrl-C."), as_json=as_json)
    except BrokenPipeError:  # the reader of our output went away; there is nobody to tell
        sys.stderr.close()
        return ExitCode.UNKNOWN
    except Exception as problem:
        if debug:
            traceback.print_exc()
        return _tell(_bug(problem, debug=debug), as_json=as_json)


def _tell(problem: PersonError, *, as_json: bool) -> ExitCode:
    from smallcluster.report.machine import problem_as_data

    sys.stderr.write(f"{problem}\n")
    if as_json:
        sys.stdout.write(json.dumps({"problem": problem_as_data(problem), "exit_code": int(problem.code)}) + "\n")
    return problem.code


def _bug(problem: Exception, *, debug: bool) -> PersonError:
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return PersonError(
        f"The harness itself broke: {type(problem).__name__} in {frame.name}.",
        seen=f"{problem} ({frame.filename.rpartition('/')[2]}:{frame.lineno})",
        why="a defect of the harness; the cluster was not judged.",
        then="" if debug else "repeat the command with --debug and report what it prints.",
    )
