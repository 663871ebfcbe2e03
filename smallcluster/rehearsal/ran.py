"""What ran beside what, from the engine's own events: no old node beside a new one, and never two schedulers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smallcluster import files, interrupts
from smallcluster.containers import PROJECT_LABEL, SERVICE_LABEL

if TYPE_CHECKING:
    from docker import DockerClient

EVENTS = "events.jsonl"
LOOK, RUNS, START, DIE = "look", "runs", "start", "die"
"""`look` begins a watch, with a `runs` for each container that runs by then; `start` and `die` are the engine's."""
_NO_NODE = ("bootstrap", "scheduler")


@dataclass(frozen=True, slots=True)
class Event:
    """A container that was found running, started or died. `at`: seconds since the epoch, by the engine's clock."""

    at: float
    what: str
    container: str = ""
    service: str = ""
    image: str = ""
    """Its reference, or its id where it was made from that."""
    status: int = 0
    """With which it died."""


@dataclass
class Watcher:
    """Keeps the engine's events for as long as it watches."""

    path: Path
    problem: str = ""
    """Why it could not go on watching, where it could not."""
    _dead: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, event: Event) -> None:
        """Append one event to events.jsonl as it comes."""
        with self._lock, self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(event)) + "\n")
            self._dead.pop(event.container, None)
            if event.what == DIE:
                self._dead[event.container] = event.status

    def died(self, container: str) -> int | None:
        """The status with which a container, by its id, died while this watched; None if not, or if it runs again."""
        with self._lock:
            return self._dead.get(container)

    def events(self) -> list[Event]:
        """Everything so far, that of runs which were cut off included."""
        with self._lock:
            return [Event(**told) for told in files.json_lines(self.path)]

    def _read(self, stream: Any) -> None:  # noqa: ANN401 - the stubs don't know the stream's class
        try:
            for told in stream:
                self.keep(_event(told))
        except Exception as failure:  # whatever ends it: from then on nothing is known, and that is said
            self.problem = f"{type(failure).__name__}: {failure}"


def _event(told: Mapping[str, Any]) -> Event:
    attributes = told["Actor"]["Attributes"]
    return Event(told["timeNano"] / 1e9, told["Action"], told["Actor"]["ID"], attributes.get(SERVICE_LABEL, ""),
                 attributes.get("image", ""), int(attributes.get("exitCode", 0)))  # fmt: skip


@contextmanager
def watching(client: DockerClient, project: str, folder: Path) -> Iterator[Watcher]:
    """Watch a project's containers while the block runs."""
    watcher = Watcher(folder / EVENTS)
    mine = f"{PROJECT_LABEL}={project}"
    filters = {"type": "container", "event": [START, DIE], "label": mine}
    stream = client.events(decode=True, filters=filters)
    thread = threading.Thread(target=watcher._read, args=(stream,), daemon=True)
    try:
        watcher.keep(Event(time.time(), LOOK))
        for one in client.containers.list(filters={"label": mine}, ignore_removed=True):
            service, image = one.labels.get(SERVICE_LABEL, ""), one.attrs["Config"]["Image"]
            watcher.keep(Event(time.time(), RUNS, one.id or "", service, image))
        with interrupts.deferred():
            thread.start()
        yield watcher
    finally:
        stream.close()
        with interrupts.shielded():
            if thread.ident is not None:
                thread.join(timeout=5)


def beside(events: Sequence[Event], old: Sequence[str], new: Sequence[str]) -> list[str]:
    """What ran beside what it must not: nodes of an old image (its ref and id) beside a new one's; two schedulers."""
    running: dict[str, Event] = {}
    problems: list[str] = []
    for event in events:
        if event.what == LOOK:
            running.clear()
        elif event.what == DIE:
            running.pop(event.container, None)
        else:
            running[event.container] = event
            problems += _wrong(event, running, old, new)
    return problems


def _wrong(event: Event, running: Mapping[str, Event], old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    others = [one for one in running.values() if one.container != event.container]
    schedulers = [one for one in others if one.service == "scheduler"]
    if event.service == "scheduler" and schedulers:
        yield f"{_moment(event)}: a scheduler of {event.image} ran beside one of {schedulers[0].image}"
    for mine, theirs in ((old, new), (new, old)):
        nodes = [one for one in others if one.image in theirs and one.service not in _NO_NODE]
        if event.image in mine and event.service not in _NO_NODE and nodes:
            other = nodes[0]
            yield f"{_moment(event)}: {event.service} of {event.image} ran beside {other.service} of {other.image}"


def _moment(event: Event) -> str:
    return f"{datetime.fromtimestamp(event.at, UTC):%H:%M:%S}"
