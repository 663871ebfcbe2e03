"""What a run waits for besides its tasks: it is kept with the run and changed only under the run's lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

GROUP = ("parallel_group_id", "parallel_group_kind", "parallel_group_base_sequence", "parallel_group_size",
         "parallel_group_index", "parallel_group_path")  # fmt: skip
"""What a command says about the parallel group that it is a member of, the innermost one and all on the path to it."""


class Signal(NamedTuple):
    """A signal that no workflow task has been completed with. `sequence` is its event's."""

    id: str
    name: str
    sequence: int


@dataclass(frozen=True)
class Waiting:
    """The open condition wait, signals not yet applied, and how many members of each outermost group are open.

    The wait is kept as its events have it, and besides with `event_sequence`, the place of the one that opened it.
    """

    condition: Mapping[str, Any] | None = None
    signals: tuple[Signal, ...] = ()
    groups: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Waiting:
        """Read what `stored` has written."""
        if not stored:
            return NOTHING
        signals = tuple(Signal(*signal) for signal in stored["signals"])
        return cls(stored["condition"], signals, stored["groups"])

    def stored(self) -> dict[str, Any] | None:
        """What is kept: nothing if there is nothing."""
        if self == NOTHING:
            return None
        return {**vars(self), "signals": [[*signal] for signal in self.signals]}

    def without(self, seen: int) -> Waiting:
        """All but the signals up to this event."""
        return replace(self, signals=tuple(signal for signal in self.signals if signal.sequence > seen))

    def joined(self, parallel: Mapping[str, Any]) -> Waiting:
        """One more open member of a group."""
        name = _outermost(parallel)
        return replace(self, groups={**self.groups, name: self.groups.get(name, 0) + 1})

    def left(self, parallel: Mapping[str, Any] | None) -> tuple[Waiting, bool]:
        """A step has ended; the second value says whether it was alone or the last of its outermost group."""
        name = _outermost(parallel) if parallel else None
        if name is None or name not in self.groups:
            return self, True
        others = self.groups[name] - 1
        groups = {key: count for key, count in self.groups.items() if key != name}
        return replace(self, groups=groups | ({name: others} if others else {})), not others


NOTHING = Waiting()


def told_of(wait: Mapping[str, Any]) -> dict[str, Any]:
    """What events say about a wait."""
    return {name: value for name, value in wait.items() if name != "event_sequence"}


def _outermost(parallel: Mapping[str, Any]) -> str:
    name: str = parallel["parallel_group_path"][0]["parallel_group_id"]
    return name


def signal_context(signal: Signal) -> dict[str, Any]:
    """What a workflow task that a signal has woken resumes from."""
    return {"workflow_wait_kind": "signal", "open_wait_id": f"signal:{signal.id}",
            "resume_source_kind": "workflow_signal", "resume_source_id": signal.id,
            "workflow_signal_id": signal.id, "signal_name": signal.name,
            "workflow_event_type": "SignalReceived"}  # fmt: skip
