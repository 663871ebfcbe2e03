"""When schedules fire: next occurrences ahead, aligned, in order; clocks that are put forward and back; odd texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dw_refserver.schedule_spec import Spec, read
from dw_refserver.validation import Fields
from hypothesis import given, settings
from hypothesis import strategies as st

patient = settings(deadline=None)  # what is slow here is the machine, now and then
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "America/Santiago",
         "Africa/Casablanca")  # fmt: skip
moments = st.datetimes(datetime(2020, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))
minutes = st.sampled_from(["*", "0", "30", "*/7", "15,45", "0-59", "59"])
hours = st.sampled_from(["*", "0", "1", "2", "3", "*/6", "0-4", "2,14"])
crons = st.builds("{} {} {} {} {}".format, minutes, hours, st.sampled_from(["*", "1", "29", "L"]),
                  st.sampled_from(["*", "2", "3,10", "*/4"]), st.sampled_from(["*", "SUN", "1-5"]))  # fmt: skip


def spec(**given: Any) -> Spec:
    fields = Fields(given)
    found = read(fields)
    assert found, fields.errors
    return found


def after(moment: datetime, cron: str, zone: str = "UTC") -> datetime:
    found = spec(cron_expressions=[cron], timezone=zone).next_after(moment)
    assert found
    return found


@patient
@given(moments, st.integers(1, 10_000_000), st.integers(0, 10_000_000))
def test_intervals_are_counted_from_the_epoch_plus_offset(now: datetime, every: int, offset: int) -> None:
    found = spec(intervals=[{"every": f"PT{every}S", "offset": f"PT{offset}S"}]).next_after(now)
    assert found
    assert now < found <= now + timedelta(seconds=every)
    assert (found - EPOCH - timedelta(seconds=offset)) % timedelta(seconds=every) == timedelta(0)


@patient
@given(moments, crons, st.sampled_from(ZONES))
def test_a_cron_occurrence_lies_ahead_and_on_a_minute(now: datetime, cron: str, zone: str) -> None:
    found = after(now, cron, zone)
    assert now < found
    assert (found.second, found.microsecond, found.utcoffset()) == (0, 0, timedelta(0))


@patient
@given(moments, st.timedeltas(timedelta(0), timedelta(days=3)), crons, st.sampled_from(ZONES[:4]))
def test_later_is_never_earlier(now: datetime, passed: timedelta, cron: str, zone: str) -> None:
    assert after(now, cron, zone) <= after(now + passed, cron, zone)


@patient
@given(moments, crons)
def test_nothing_lies_between_now_and_the_next(now: datetime, cron: str) -> None:
    """Whoever looks from any moment before the next occurrence sees that same one."""
    found = after(now, cron)
    assert after(found - timedelta(microseconds=1), cron) == found


@patient
@given(moments, crons, st.integers(1, 100_000))
def test_the_earliest_of_all_counts(now: datetime, cron: str, every: int) -> None:
    interval = {"every": f"PT{every}S"}
    apart = [after(now, cron), spec(intervals=[interval]).next_after(now)]
    assert spec(cron_expressions=[cron], intervals=[interval]).next_after(now) == min(apart)  # type: ignore[type-var]


def test_an_hour_that_is_left_out_fires_when_it_would_have_begun_to_be_over() -> None:
    """On 2026-03-29 in Berlin the clock goes from 01:59 to 03:00."""
    before, that_day = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert after(before, "30 2 * * *", "Europe/Berlin") == that_day
    assert after(that_day, "30 2 * * *", "Europe/Berlin") == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)


def test_an_hour_that_comes_twice_fires_a_daily_schedule_once() -> None:
    """On 2026-10-25 in Berlin the clock goes from 02:59 back to 02:00."""
    first, berlin = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "Europe/Berlin"
    assert after(first - timedelta(hours=1), "30 2 * * *", berlin) == first
    for passed in (timedelta(0), timedelta(minutes=20), timedelta(minutes=50), timedelta(minutes=70)):
        assert after(first + passed, "30 2 * * *", berlin) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert after(first + timedelta(minutes=31), "*/30 * * * *", berlin) == first + timedelta(hours=1)


@pytest.mark.parametrize(("zone", "hour"), [("UTC", 9), ("Asia/Kolkata", 3), ("America/New_York", 14)])
def test_crons_are_read_in_the_zone(zone: str, hour: int) -> None:
    found = after(datetime(2026, 1, 1, tzinfo=UTC), "0 9 * * *", zone)
    assert found == datetime(2026, 1, 1, 9, tzinfo=ZoneInfo(zone))
    assert found.hour == hour


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT1S", 1), ("PT90M", 5400), ("P1DT1H", 90_000), ("P2W", 1_209_600), ("PT1H2M3S", 3723)],
)
def test_durations(text: str, seconds: int) -> None:
    assert spec(intervals=[{"every": text}]).intervals == ((seconds, 0),)


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1", "1S", "PT1", "P1Y", "P1M", "PT1.5S", "PT-1S", "pt1s", "P1DT", "PT٣S"]
)
def test_what_is_no_duration(text: str) -> None:
    fields = Fields({"intervals": [{"every": text}]})
    assert read(fields) is None
    assert list(fields.errors) == ["intervals.0.every"]


@patient
@given(
    st.lists(st.text(max_size=12) | st.integers(), min_size=5, max_size=5).map(lambda parts: " ".join(map(str, parts)))
)
def test_any_text_is_a_cron_or_refused(text: str) -> None:
    fields = Fields({"cron_expressions": [text]})
    found = read(fields)
    assert (found is None) == bool(fields.errors)
    assert found is None or found.next_after(EPOCH)


cronlike = st.text("0123456789*,-/#LW ", min_size=1, max_size=6).map(lambda text: text.replace(" ", ""))


@patient
@given(st.lists(cronlike.filter(bool), min_size=5, max_size=5).map(" ".join), moments)
def test_any_text_that_looks_like_a_cron_is_one_or_refused(text: str, now: datetime) -> None:
    found = read(Fields({"cron_expressions": [text], "timezone": "Europe/Berlin"}))
    following = found and found.next_after(now)
    assert following is None or following > now


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(["every", "offset", "x"]), part),
    max_leaves=6,
)


@patient
@given(values)
def test_any_json_is_a_spec_or_refused(value: Any) -> None:
    for name in ("cron_expressions", "intervals", "timezone"):
        fields = Fields({name: value, "x": None})
        assert (read(fields) is None) == bool(fields.errors)
