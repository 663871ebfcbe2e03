"""Runs setup's slow commands: output to a log, the last line shown while it goes on, nothing left running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smallcluster.errors import MachineCannotError
from smallcluster.paths import STATE
from smallcluster.progress import Progress, Step
from smallcluster.setup.machine import Right

LOGS = STATE / "setup"
TAIL = 12
"""Lines of a failed command's output that go into the message."""
_BUILDER_PREFIX = re.compile(r"^#\d+ (\d+\.\d+ )?")


@dataclass
class Workshop:
    """Where setup works: how progress is shown, and which commands run now. Used from several threads."""

    progress: Progress
    right: Right
    running: set[subprocess.Popen[str]] = field(default_factory=set)
    closed: threading.Event = field(default_factory=threading.Event)

    def run(
        self,
        step: Step,
        command: Sequence[str],
        *,
        log: str,
        deadline: float,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command to its end, its output in `LOGS/log`; `step` shows its last line every two seconds.

        Raises MachineCannotError when it fails, or when it lasts longer than `deadline` seconds.
        """
        file = LOGS / log
        file.parent.mkdir(parents=True, exist_ok=True)
        process = self._start(command, {**os.environ, **(variables or {})})
        late = threading.Timer(deadline, end, [process])
        late.start()
        try:
            tail = _copy(process, file, step)
        finally:
            late.cancel()
            end(process)
            self.running.discard(process)
        if process.returncode:
            raise MachineCannotError(
                f"{step.name}: `{_short(command)}` {_ending(process.returncode)}.",
                seen="\n    ".join(["", *tail]).rstrip() or "it said nothing.",
                then=f"read {file}, then invoke setup",
            )

    def run_as_root(
        self, step: Step, command: Sequence[str], *, log: str, deadline: float, **variables: str | None
    ) -> None:
        """As `run`, as root: through sudo where this user isn't root. Variables with a value are handed over."""
        handed = [f"{name}={value}" for name, value in variables.items() if value is not None]
        prefix = ["env"] if self.right == "root" else ["sudo", "-n", "env"]
        self.run(step, [*prefix, *handed, *command], log=log, deadline=deadline)

    def stop(self) -> None:
        """End every command that runs now; none can be started any more."""
        self.closed.set()
        for process in list(self.running):
            end(process)

    def _start(self, command: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[str]:
        if self.closed.is_set():
            raise MachineCannotError(f"`{_short(command)}` was not begun: setup is being stopped.")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=variables,
            start_new_session=True,
        )
        self.running.add(process)
        return process


def end(process: subprocess.Popen[str]) -> None:
    """End a command and its children, if it still runs: politely, and after ten seconds not."""
    for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=patience)
        except (ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
            continue


def _copy(process: subprocess.Popen[str], file: Path, step: Step) -> list[str]:
    """Copy a command's output to its log; returns the last lines."""
    assert process.stdout is not None  # noqa: S101 - it was asked for where the process was started
    tail: list[str] = []
    with file.open("a") as log, process.stdout as output:
        for line in output:
            log.write(line)
            if text := line.strip():
                tail = [*tail[1 - TAIL :], text]
                step.detail = f"{file.stem}: {_BUILDER_PREFIX.sub('', text)[:100]}"
    process.wait()
    return tail


def _short(command: Sequence[str]) -> str:
    words = [word for word in command if "=" not in word and word not in ("env", "sudo", "-n")]
    return " ".join([Path(words[0]).name, *words[1:3]])


def _ending(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"
