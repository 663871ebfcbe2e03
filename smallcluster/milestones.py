"""Reads Compose's progress lines: what to tell a person, and when each part of the start was done."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from smallcluster.progress import Phase, Step

_LINE = re.compile(r"Container (?P<name>\S+)\s+(?P<word>\w+)\Z")
_TOLD = {"Started": "started", "Healthy": "healthy", "Exited": "done", "Error": "failed"}


class Milestones:
    """Collects the moments of one `docker compose up`, in seconds since it began."""

    def __init__(self, project: str, step: Step) -> None:
        self._project, self._step = project, step
        self._began = time.monotonic()
        self._at: dict[tuple[str, str], float] = {}

    def line(self, text: str) -> None:
        """Take one line of Compose's: passed on in short where it means something, whole where it is unusual."""
        found = _LINE.search(text)
        if found:
            self._note(self._service(found["name"]), found["word"])
        elif not re.match(r"(Network|Volume|Image) ", text.strip()):
            self._step.say(text)

    def _note(self, service: str, word: str) -> None:
        if (service, word) in self._at:
            return
        self._at[service, word] = time.monotonic() - self._began
        if word in _TOLD:
            self._step.say(f"{service} {_TOLD[word]}")
        if awaited := sorted(name for name, seen in self._at if seen == "Waiting" and not self._ended(name)):
            self._step.waits_for(", ".join(awaited))

    def _ended(self, service: str) -> bool:
        return any((service, word) in self._at for word in ("Healthy", "Exited", "Error"))

    def _service(self, container: str) -> str:
        return re.sub(r"-\d+\Z", "", container.removeprefix(f"{self._project}-"))

    def phases(self, nodes: Iterable[str]) -> list[Phase]:
        """The start cut into the contract's steps; a step whose end Compose did not tell is left out."""
        ends = (
            ("networks, volume, containers made", self._first("Starting")),
            ("database and Redis healthy", self._last("Healthy", ("database", "redis"))),
            ("bootstrap completed", self._last("Exited", ("bootstrap",))),
            ("nodes ready", self._last("Healthy", nodes)),
            ("balancer started", self._last("Started", ("balancer",))),
        )
        phases, before = [], 0.0
        for name, end in ends:
            if end is not None:
                phases.append(Phase(name, max(end - before, 0.0)))
                before = end
        return phases

    def _first(self, word: str) -> float | None:
        return min((at for (_, seen), at in self._at.items() if seen == word), default=None)

    def _last(self, word: str, services: Iterable[str]) -> float | None:
        times = [self._at.get((service, word)) for service in services]
        known = [at for at in times if at is not None]
        return max(known) if known and len(known) == len(times) else None
