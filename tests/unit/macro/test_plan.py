"""Which days are asked for and taken, and how long is waited."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.macro.days import Values, day_end_us
from crypto_lake.macro.plan import (
    LATE_US,
    LONGEST_WAIT_SECONDS,
    SETTLE_US,
    Span,
    expected,
    finished,
    is_over,
    span_to_update,
    today_of,
    wait_seconds,
)
from crypto_lake.macro.provider import Answer, RateLimited, Unavailable

ZONE = "America/New_York"
dates = st.dates(date(2017, 1, 1), date(2030, 1, 1))


def us(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * 10**6  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.none() | dates, dates, st.integers(0, 40), dates)
def test_an_update_asks_from_before_the_latest_day_to_today(
    latest: date | None, start: date, revisit: int, today: date
) -> None:
    span = span_to_update(latest, start, revisit, today)
    assert span.first <= span.last
    assert today in span or (latest is not None and today < latest)
    if latest is None:
        assert span.first == min(start, today)
    else:
        assert latest in span
        assert max(start, latest - timedelta(days=revisit)) >= span.first or span.first == latest


@settings(max_examples=60, deadline=None)
@given(dates, st.integers(-3, 3), st.integers(0, 86399))
def test_a_day_counts_only_when_it_is_over(day: date, off: int, second: int) -> None:
    values = Values(None, None, None, 1.0, 0, "USD", ZONE)
    now_us = day_end_us(day + timedelta(days=off), ZONE) - second * 10**6
    taken = finished(Answer("X", ZONE, {day: values}), Span(day, day), now_us)
    assert (day in taken) == (now_us >= day_end_us(day, ZONE) + SETTLE_US)


def test_the_latest_day_is_over_half_an_hour_after_its_session() -> None:
    close_us = us(2024, 8, 8, 20)  # 16:00 in New York
    answer = Answer("^GSPC", ZONE, {}, session=(date(2024, 8, 8), close_us))
    assert us(2024, 8, 8, 20, 30) == close_us + SETTLE_US
    assert not is_over(date(2024, 8, 8), answer, close_us + SETTLE_US - 1)
    assert is_over(date(2024, 8, 8), answer, close_us + SETTLE_US)
    assert is_over(date(2024, 8, 7), answer, close_us)
    assert not is_over(date(2024, 8, 9), answer, close_us + SETTLE_US)


def test_days_that_were_not_asked_for_are_not_taken() -> None:
    day, values = date(2024, 8, 8), Values(None, None, None, 1.0, 0, "USD", ZONE)
    answer = Answer("X", ZONE, {day: values})
    assert finished(answer, Span(day + timedelta(days=1), day + timedelta(days=2)), us(2030, 1, 1)) == {}


@settings(max_examples=60, deadline=None)
@given(dates, st.integers(0, 10), st.integers(-5 * 86400, 20 * 86400))
def test_days_are_expected_a_day_after_their_end(first: date, length: int, offset_seconds: int) -> None:
    span = Span(first, first + timedelta(days=length))
    now_us = day_end_us(first, ZONE) + offset_seconds * 10**6
    found = expected(span, ZONE, now_us)
    for n in range(length + 1):
        day = first + timedelta(days=n)
        due = now_us >= day_end_us(day, ZONE) + LATE_US
        assert due == (found is not None and day in found)


def test_today_is_the_day_of_who_has_it_first() -> None:
    assert today_of(us(2024, 8, 8, 12)) == date(2024, 8, 9)
    assert today_of(us(2024, 8, 8, 9)) == date(2024, 8, 8)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 200),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(0, 10_000),
    st.booleans(),
)
def test_waits_grow_to_a_limit_and_are_as_long_as_asked_for(
    failures: int, chance: float, asked: float | None, limited: bool
) -> None:
    error = (
        RateLimited("x", series="X", hint="", retry_after_seconds=asked)
        if limited
        else Unavailable("x", series="X", hint="")
    )
    wait = wait_seconds(error, failures, chance)
    own = max(wait_seconds(error, failures, 0.0), asked or 0.0) if limited else wait
    assert wait >= (asked or 0.0) or not limited
    assert 0 < wait <= max(LONGEST_WAIT_SECONDS, (asked or 0.0) if limited else 0.0)
    assert wait_seconds(error, failures + 1, chance) >= wait
    assert own <= wait


@pytest.mark.parametrize(("failures", "least"), [(1, 15.0), (2, 30.0), (3, 60.0)])
def test_a_limit_is_waited_for_longer(failures: int, least: float) -> None:
    assert wait_seconds(RateLimited("x", series="X", hint=""), failures, 0.0) == least
    assert wait_seconds(Unavailable("x", series="X", hint=""), failures, 0.0) < least
