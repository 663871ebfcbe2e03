"""Budgets: how many tasks may be leased at once, as the environment sets them. Pure; `admission` enforces them.

Limits on dispatches per minute are not there: names and fields that set one have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

GROUPS = {"workflow_tasks": "workflow", "activity_tasks": "activity"}
"""The kinds of task by their name in an override."""

_FIELDS = {
    "max_active_leases": "queue",
    "max_active_leases_per_queue": "queue",
    "max_active_leases_per_namespace": "namespace",
}
_WITHOUT_EFFECT = {
    "max_dispatches_per_minute", "max_dispatches_per_minute_per_queue", "max_dispatches_per_minute_per_namespace",
    "dispatch_budget_group", "budget_group", "max_dispatches_per_minute_per_budget_group",
}  # fmt: skip
_MOST = 1_000_000_000


@dataclass(frozen=True)
class Budget:
    """Limits on the active leases of one kind of task; None is no limit."""

    queue: int | None = None
    namespace: int | None = None

    @property
    def limited(self) -> bool:
        """Whether there is anything to keep to."""
        return self.queue is not None or self.namespace is not None


@dataclass(frozen=True)
class Budgets:
    """The budget per kind of task, and the overrides: key, then kind, then scope; 0 there is no limit."""

    general: Mapping[str, Budget]
    overrides: Mapping[str, Mapping[str, Mapping[str, int | None]]]

    def of(self, kind: str, namespace: str, queue: str) -> Budget:
        """What holds for one kind of task on one queue: per limit, the first key that has it; null is the general."""
        general = self.general[kind]
        if not self.overrides:
            return general
        keys = (f"{namespace}:{queue}", f"{namespace}:*", queue, "*")
        fields = [self.overrides.get(key, {}).get(kind, {}) for key in keys]

        def first(scope: str) -> int | None:
            limit = next((field[scope] for field in fields if scope in field), None)
            return getattr(general, scope) if limit is None else limit or None

        return Budget(first("queue"), first("namespace"))


def overrides_of(text: str) -> dict[str, dict[str, dict[str, int | None]]]:
    """Read the overrides; a ValueError says in half a sentence what can't be used."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError:
        given = None
    if not isinstance(given, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - said to a person, like what follows
    return {key: _kinds(key, kinds) for key, kinds in given.items()}


def _kinds(key: str, given: Any) -> dict[str, dict[str, int | None]]:
    if not isinstance(given, dict) or not given.keys() <= GROUPS.keys():
        raise ValueError(f"must have objects workflow_tasks and activity_tasks alone under '{key}'")
    return {GROUPS[group]: _limits(f"{key}.{group}", limits) for group, limits in given.items()}


def _limits(where: str, given: Any) -> dict[str, int | None]:
    if not isinstance(given, dict):
        raise ValueError(f"must have an object at '{where}'")  # noqa: TRY004
    for name, limit in given.items():
        if name not in _FIELDS and name not in _WITHOUT_EFFECT:
            raise ValueError(f"has a field '{name}' at '{where}' that is no limit")
        if name in _FIELDS and not _is_limit(limit):
            raise ValueError(f"must have a whole number or null for '{name}' at '{where}'")
    return {_FIELDS[name]: limit and max(limit, 0) for name, limit in given.items() if name in _FIELDS}


def _is_limit(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST)
