"""Says what is going on, on stderr, so that no silence lasts longer than two seconds.

Results go to stdout and never through here: `--json` output stays clean. In a CI log that knows groups, a step is one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TextIO

from smallcluster import interrupts

LONGEST_SILENCE = 1.7
"""Seconds after which a running step says that it is still running; with the ticker's grain it stays under 2."""


@dataclass(frozen=True)
class Phase:
    """One finished step: its name, how long it took, in seconds, and the parts that it consisted of."""

    name: str
    seconds: float
    parts: tuple[Phase, ...] = ()


@dataclass
class Step:
    """A step that is running. `say` what it is waiting for; the last word is repeated while it is silent."""

    name: str
    progress: Progress
    detail: str = ""
    result: str = ""
    started: float = field(default_factory=time.monotonic)

    def say(self, detail: str) -> None:
        """Show what the step is doing now (one line)."""
        if detail != self.detail:
            self.detail = detail
            self.progress.line(f"  … {detail}")

    def waits_for(self, what: str) -> None:
        """Name what the step waits for now, to be shown only if that takes long."""
        self.detail = f"waiting for {what}"

    def done(self, result: str) -> None:
        """Set the words that end the step's closing line."""
        self.result = result

    @property
    def elapsed(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self.started


class Progress:
    """Prints steps as they start, go on and end; keeps their durations for the phase table.

    `workflow_log` says that the lines go to a GitHub Actions log, which folds groups and shows annotations.
    """

    def __init__(self, stream: TextIO | None = None, *, workflow_log: bool = False) -> None:
        self.workflow_log = workflow_log
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()
        self._deaf = False
        self._open = 0
        self._last = time.monotonic()
        self.phases: list[Phase] = []

    def line(self, text: str) -> None:
        """Print one line at once."""
        with self._lock:
            self._put(text)

    def _begin(self, name: str) -> None:
        """Print a step's first line. It opens a group where no other step runs: groups don't nest, nor overlap."""
        with self._lock:
            self._open += 1
            group = "::group::" if self.workflow_log and self._open == 1 else ""
            self._put(f"{group}▶ {name}")

    def _end(self, text: str) -> None:
        """Print a step's last line, outside of the group where the last running step closes it, to be seen unfolded."""
        with self._lock:
            self._open -= 1
            if self.workflow_log and not self._open:
                self._put("::endgroup::")
            self._put(text)

    def _put(self, text: str) -> None:
        self._last = time.monotonic()
        if not self._deaf:
            self._write(text.rstrip("\n") + "\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # whoever read this has gone; the work, teardown above all, must go on
            self._deaf = True

    def split(self, parts: Sequence[Phase]) -> None:
        """Say what the step that has just ended consisted of."""
        self.phases[-1] = replace(self.phases[-1], parts=tuple(parts))

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Run a named step: a start line, a sign of life every two seconds, a line with its duration."""
        step = Step(name, self)
        over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(step, over), daemon=True)
        failed = True
        try:
            with interrupts.deferred():
                self._begin(name)
                ticker.start()
            yield step
            failed = False
        finally:
            over.set()
            ticker.join()
            self.phases.append(Phase(name, step.elapsed))
            mark = "✗" if failed else "✓"
            tail = f": {step.result}" if step.result and not failed else ""
            self._end(f"{mark} {name}{tail} ({step.elapsed:.1f} s)")

    def _tick(self, step: Step, over: threading.Event) -> None:
        while not over.wait(0.25):
            if time.monotonic() - self._last >= LONGEST_SILENCE:
                what = step.detail or step.name
                self.line(f"  … still at it after {step.elapsed:.0f} s: {what}")
