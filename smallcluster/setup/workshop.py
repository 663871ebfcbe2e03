"""Runs setup's slow commands: output to a log, the last line shown while it goes on, nothing left running."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from smallcluster import interrupts
from smallcluster.errors import MachineCannotError
from smallcluster.paths import STATE
from smallcluster.progress import Progress, Step
from smallcluster.setup.machine import Right

LOGS = STATE / "setup"
TAIL = 12
"""Lines of a failed command's output that go into the message."""
PATIENCE = 10.0
_BUILDER_PREFIX = re.compile(r"^#\d+ (\d+\.\d+ )?")


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a command may last, and seconds that it gets to end by itself when it is told to."""

    deadline: float
    patience: float = PATIENCE


@dataclass
class Workshop:
    """Where setup works: how progress is shown, and which commands run now. Used from several threads."""

    progress: Progress
    right: Right
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    closed: threading.Event = field(default_factory=threading.Event)

    def run(
        self,
        step: Step,
        command: Sequence[str],
        *,
        log: str,
        limits: Limits,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command to its end, its output in `LOGS/log`; `step` shows its last line every two seconds.

        Raises MachineCannotError when it fails or lasts longer than its limits.
        """
        file = LOGS / log
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as output:
            output.write(f"$ {shlex.join(command)}\n".encode())
            output.flush()
            begin = output.tell()
            with ExitStack() as ending:
                with interrupts.deferred():
                    process = self._start(command, output, {**os.environ, **(variables or {})})
                    ending.callback(self.running.discard, process)
                    ending.callback(end, process, limits.patience)
                    late = threading.Timer(limits.deadline, end, [process, limits.patience])
                    ending.callback(late.cancel)
                    late.start()
                tail = _follow(process, file, begin, step)
        if process.returncode:
            raise MachineCannotError(
                f"{step.name}: `{_short(command)}` {_ending(process.returncode)}.",
                seen="\n    ".join(["", *tail]).rstrip() or "it said nothing.",
                then=f"read {file}, then invoke setup",
            )

    def run_as_root(
        self,
        step: Step,
        command: Sequence[str],
        *,
        log: str,
        limits: Limits,
        variables: Mapping[str, str | None] | None = None,
    ) -> None:
        """As `run`, as root: through sudo where this user isn't root. Variables with a value are handed over."""
        handed = [f"{name}={value}" for name, value in (variables or {}).items() if value is not None]
        prefix = ["env"] if self.right == "root" else ["sudo", "-n", "env"]
        self.run(step, [*prefix, *handed, *command], log=log, limits=limits)

    def stop(self) -> None:
        """End every command that runs now; none can be started any more."""
        self.closed.set()
        for process in list(self.running):
            end(process)

    def _start(self, command: Sequence[str], output: BinaryIO, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a command that writes straight to its log: nobody has to read on for it to be able to end."""
        if self.closed.is_set():
            raise MachineCannotError(f"`{_short(command)}` was not begun: setup is being stopped.")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )
        self.running.add(process)
        return process


def end(process: subprocess.Popen[bytes], patience: float = PATIENCE) -> None:
    """End a command and its children, if it still runs: politely, and after `patience` seconds not."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, PATIENCE)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=seconds)
        except (ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
            continue


def _follow(process: subprocess.Popen[bytes], file: Path, begin: int, step: Step) -> list[str]:
    """Show what a command writes to its log until it ends; returns the last lines."""
    tail: list[str] = []
    with file.open(errors="replace") as output:
        output.seek(begin)
        while True:
            ended = _ended(process)
            tail = [*tail, *(line.strip() for line in output if line.strip())][-TAIL:]
            if tail:
                step.detail = f"{file.stem}: {_BUILDER_PREFIX.sub('', tail[-1])[:100]}"
            if ended:
                return tail


def _ended(process: subprocess.Popen[bytes]) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.2)
    return process.returncode is not None


def _short(command: Sequence[str]) -> str:
    words = [word for word in command if "=" not in word and word not in ("env", "sudo", "-n")]
    return " ".join([Path(words[0]).name, *words[1:3]])


def _ending(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"
