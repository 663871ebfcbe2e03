"""When a schedule fires: its spec read strictly, and the next occurrence after a moment. Pure: no clock, no database.

Cron expressions are read in the spec's timezone; intervals are ISO-8601 durations, counted from the epoch plus offset.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from dw_refserver.validation import LONGEST_TIMEOUT, Fields

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_OF_A_KIND = 20
_MOST_CANDIDATES = 300
"""More minutes than any clock has ever been put back by."""

_SECONDS = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
_DURATION = re.compile(
    r"P(?=.)(?:(?P<weeks>\d{1,9})W)?(?:(?P<days>\d{1,9})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,9})S)?)?",
    re.ASCII,
)


@dataclass(frozen=True)
class Spec:
    """What has been read. An interval is (every, offset) in seconds."""

    crons: tuple[str, ...]
    intervals: tuple[tuple[int, int], ...]
    zone: tzinfo

    def next_after(self, now: datetime) -> datetime | None:
        """The first occurrence after `now`, in UTC; None if there is none within half a century."""
        return min(self._each_after(now.astimezone(UTC)), default=None)

    def _each_after(self, now: datetime) -> Iterator[datetime]:
        for expression in self.crons:
            if found := _cron_after(expression, self.zone, now):
                yield found
        for every, offset in self.intervals:
            passed = (now - _EPOCH) // timedelta(seconds=1) - offset
            yield _EPOCH + timedelta(seconds=(passed // every + 1) * every + offset)


def _cron_after(expression: str, zone: tzinfo, now: datetime) -> datetime | None:
    """The expression's next moment. Where clocks go back, candidates may name moments that have passed; they count
    once, so the search goes on behind them."""
    for candidate in islice(CronSim(expression, now.astimezone(zone)), _MOST_CANDIDATES):
        moment = candidate.astimezone(UTC)
        if moment > now:
            return moment
    return None


def read(fields: Fields) -> Spec | None:
    """The spec in these fields; None, with what is wrong noted there, if it can't be used."""
    fields.only("cron_expressions", "intervals", "timezone")
    zone, crons = _zone(fields), fields.texts("cron_expressions")
    intervals = [_interval(fields, number, given) for number, given in enumerate(fields.items("intervals"))]
    for name, values in (("cron_expressions", crons), ("intervals", intervals)):
        if len(values) > _MOST_OF_A_KIND:
            fields.fail(name, f"The {name} field must not have more than {_MOST_OF_A_KIND} items.")
            return None
    for number, expression in enumerate(crons):
        _check_cron(fields, f"cron_expressions.{number}", expression, zone)
    if not crons and not intervals:
        fields.fail("cron_expressions", "The spec field needs at least one cron expression or interval.")
    return None if fields.errors else Spec(tuple(crons), tuple(intervals), zone)


def _zone(fields: Fields) -> tzinfo:
    name = fields.text("timezone", most=64)
    if name in (None, "UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # no such name, no name at all, a folder of names
        fields.fail("timezone", "The timezone field must be a name in the time zone database, such as Europe/Berlin.")
    return UTC


def _check_cron(fields: Fields, name: str, expression: Any, zone: tzinfo) -> None:
    if name in fields.errors:
        return
    try:
        if len(expression.split()) != 5:
            fields.fail(name, "The cron expression must have five parts: minute, hour, day, month, day of the week.")
        elif _cron_after(expression, zone, _EPOCH) is None:
            fields.fail(name, "The cron expression never fires.")
    except CronSimError as error:
        fields.fail(name, f"The cron expression can't be read: {error}.")


def _interval(fields: Fields, number: int, given: Any) -> tuple[int, int]:
    inner = Fields(given if isinstance(given, dict) else {})
    inner.only("every", "offset")
    every, offset = _duration(inner, "every", least=1), _duration(inner, "offset", least=0)
    fields.adopt(f"intervals.{number}", inner)
    return every, offset


def _duration(fields: Fields, name: str, least: int) -> int:
    """The duration's seconds; the least if there is none or it was wrong."""
    text = fields.text(name, required=least > 0)
    if text is None:
        return least
    found = _DURATION.fullmatch(text)
    seconds = sum(int(count or 0) * _SECONDS[unit] for unit, count in found.groupdict().items()) if found else 0
    if found is None:
        units = "weeks, days, hours, minutes and seconds"
        fields.fail(name, f"The {name} field must be an ISO-8601 duration of whole {units}, such as PT30S.")
    elif not least <= seconds <= LONGEST_TIMEOUT:
        fields.fail(name, f"The {name} field must be from {least} to {LONGEST_TIMEOUT} seconds.")
    else:
        return seconds
    return least
