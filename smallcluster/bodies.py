"""Reads answers' bodies as they came: any JSON may stand where the protocol has an object, a list or a number."""

from __future__ import annotations

from typing import Any


def mapping(value: object) -> dict[str, Any]:
    """The value where it is a JSON object; empty where it is anything else."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[dict[str, Any]]:
    """The objects in a JSON list, in order; empty where it is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def text(value: object) -> str:
    """The value where it is a text; empty where it is anything else."""
    return value if isinstance(value, str) else ""


def whole(value: object) -> int:
    """The value where it is a whole number; 0 where it is anything else (JSON's true is no number)."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def seconds(value: object) -> float | None:
    """The value where it is a length of time that can be waited for; None where it is anything else."""
    sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 86_400
    return float(value) if sound else None  # type: ignore[arg-type]
