"""Numbers and what they are held against. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from smallcluster.settings import Database

CYCLES_A_SECOND = {Database.PGSQL: 150.0, Database.MYSQL: 100.0}
SHARE_OF_FLOOR = 0.6
CYCLE_P99_MS = 50.0
WAKE_P50_MS, WAKE_P99_MS = 5.0, 25.0
START_SECONDS = 1.5
IDLE_POLLS = 5000
IDLE_MEMORY_MB, IDLE_HEALTH_P99_MS = 250.0, 50.0
"""Targets. They are for the bundled server on two cores; MB is a million bytes."""


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all don't exceed (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(rank, 1) - 1]


@dataclass(frozen=True)
class Latencies:
    """Many measured durations, in milliseconds."""

    count: int
    p50: float
    p99: float
    slowest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latencies | None:
        """Sum up durations in seconds; None where there are none."""
        if not seconds:
            return None
        p50, p99 = percentile(seconds, 50), percentile(seconds, 99)
        return cls(len(seconds), *(round(one * 1000, 2) for one in (p50, p99, max(seconds))))


@dataclass(frozen=True)
class Spread:
    """The same figure from several runs."""

    median: float
    lowest: float
    highest: float
    runs: tuple[float, ...]

    @classmethod
    def of(cls, runs: Sequence[float]) -> Spread | None:
        """Sum up runs; None where there are none."""
        if not runs:
            return None
        found = tuple(round(one, 2) for one in runs)
        return cls(round(median(found), 2), min(found), max(found), found)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number for the table. `value` None: not measured. `at_least`: the target is a floor, else a ceiling."""

    name: str
    value: float | None
    unit: str
    target: float | None = None
    at_least: bool = False
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none or nothing was measured."""
        if self.value is None or self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target
