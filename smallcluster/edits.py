"""Edits of texts that must still be there: what defects and releases of the bundled server are made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """One text that stands once in a file, and what stands there instead."""

    old: str
    new: str

    def applied(self, text: str) -> str:
        """The text with the edit in it. Raises ValueError where the old text does not stand there exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(f"stands there {text.count(self.old)} times, not once: {self.old!r}")
        return text.replace(self.old, self.new)
