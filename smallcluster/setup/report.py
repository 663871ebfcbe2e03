"""What setup and doctor say in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["present", "done", "missing"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a cluster needs: what was seen of it, and what to type where it is missing."""

    name: str
    state: State
    seen: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class SetupReport:
    """Everything that was looked at, and the seconds that it took altogether."""

    items: tuple[Item, ...]
    seconds: float

    @property
    def ready(self) -> bool:
        """Whether a cluster can be started on this machine now."""
        return all(item.state != "missing" for item in self.items)
