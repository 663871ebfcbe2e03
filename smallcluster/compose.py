"""Runs `docker compose` for one project: bounded in time, its progress passed on, its output kept for messages."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, BinaryIO

from smallcluster import interrupts, locks
from smallcluster.errors import MachineCannotError


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a Compose command ended: exit status, and everything it printed."""

    status: int
    output: str

    @property
    def tail(self) -> str:
        """The last lines, for a message."""
        return "\n".join(self.output.strip().splitlines()[-8:])


@dataclass(frozen=True, slots=True)
class Piped:
    """A Compose command that runs, its output to be read."""

    process: subprocess.Popen[bytes]
    words: BinaryIO

    @property
    def stdin(self) -> IO[bytes] | None:
        """What it reads, where that was asked for."""
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes] | None:
        """What it writes."""
        return self.process.stdout

    def kill(self) -> None:
        """End it at once, with its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def finished(self) -> tuple[str, int]:
        """Wait for its end: the end of what it said on its standard error, and its status."""
        status = self.process.wait()
        self.words.seek(0)
        return self.words.read().decode(errors="replace").strip()[-2000:], status


@dataclass(frozen=True)
class Compose:
    """One Compose project: which files, which variables, which name."""

    command: tuple[str, ...]
    project: str
    files: tuple[Path, ...]
    variables: Mapping[str, str]
    profiles: tuple[str, ...] = ()
    guard: Path | None = None
    """A file that each command holds a lock of until it ends, so that it is known of even if we are killed."""

    def argv(self, arguments: Sequence[str]) -> list[str]:
        """The whole command line of `docker compose ARGUMENTS` for this project."""
        options = ["--ansi", "never", "--progress", "plain", "--project-name", self.project]
        for file in self.files:
            options += ["--file", str(file)]
        for profile in self.profiles:
            options += ["--profile", profile]
        return [*self.command, *options, *arguments]

    def run(self, *arguments: str, deadline: float = 120.0, say: Callable[[str], None] | None = None) -> Outcome:
        """Run it to its end or for `deadline` seconds; `say` gets each line as it comes.

        Returns the outcome whatever the status. Raises MachineCannotError at the deadline. The child has a
        session of its own, so that Ctrl-C reaches only the harness, which then ends the child.
        """
        expired = threading.Event()
        with ExitStack() as ending:
            with interrupts.deferred():
                process = self._spawn(arguments)
                ending.callback(_close, process)
                ending.callback(_end, process)
                late = threading.Timer(deadline, _end_late, (process, expired))
                ending.callback(late.cancel)
                late.start()
            output = _collect(process, say)
        if expired.is_set() and process.returncode != 0:
            raise MachineCannotError(
                f"`docker compose {arguments[0]}` did not end within {deadline:.0f} s.",
                seen=Outcome(process.returncode, output).tail,
                why="a container never became ready, or the engine is overloaded.",
                then="look with `invoke status` and `invoke logs`, then `invoke down`.",
            )
        return Outcome(process.returncode, output)

    @contextmanager
    def piped(self, *arguments: str, deadline: float, stdin: BinaryIO | int | None = None) -> Iterator[Piped]:
        """Run it with its standard output, and input, as bytes; ended at the deadline, or when the block ends early."""
        with TemporaryFile() as words, ExitStack() as ending:
            with interrupts.deferred(), self._guarded() as guards:
                process = subprocess.Popen(
                    self.argv(arguments),
                    stdin=stdin or subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=words,
                    env=self.environment(),
                    start_new_session=True,
                    pass_fds=guards,
                )
                ending.callback(_end, process)
                late = threading.Timer(deadline, _end, (process,))
                ending.callback(late.cancel)
                late.start()
            assert process.stdout is not None  # noqa: S101 - it was asked for above
            with process.stdout:
                yield Piped(process, words)

    def _spawn(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        with self._guarded() as guards:
            return subprocess.Popen(
                self.argv(arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=self.environment(),
                start_new_session=True,
                pass_fds=guards,
            )

    @contextmanager
    def _guarded(self) -> Iterator[tuple[int, ...]]:
        if self.guard is None:
            yield ()
            return
        with locks.handed_on(self.guard) as descriptor:
            yield (descriptor,)

    def environment(self) -> dict[str, str]:
        """The child's environment: ours, less what could change the project's meaning, plus its variables."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}
        return kept | dict(self.variables)


def _collect(process: subprocess.Popen[str], say: Callable[[str], None] | None) -> str:
    assert process.stdout is not None  # noqa: S101 - it was asked for three lines above
    lines = []
    with process.stdout:
        for line in process.stdout:
            lines.append(line)
            if say and line.strip():
                say(line.strip())
    process.wait()
    return "".join(lines)


def _end_late(process: subprocess.Popen[str], expired: threading.Event) -> None:
    expired.set()
    _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    """End the child and its children, if it still runs: first politely, then not."""
    with interrupts.shielded():
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is not None:
                return
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(timeout=5)


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdout is not None:
        process.stdout.close()
