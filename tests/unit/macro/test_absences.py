"""Holidays and gaps told apart."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.macro.absences import Peer, absences
from crypto_lake.macro.holidays import holidays_of, market_of
from crypto_lake.macro.plan import Span

FIRST = date(2024, 8, 5)
some_days = st.sets(st.integers(0, 20).map(lambda n: FIRST + timedelta(days=n)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), some_days, some_days, some_days, some_days)
def test_each_weekday_is_there_or_absent_for_one_reason(
    length: int, there: set[date], empty: set[date], holidays: set[date], peer: set[date]
) -> None:
    span = Span(FIRST, FIRST + timedelta(days=length))
    found = absences(
        span, there, empty=empty, holidays=dict.fromkeys(holidays, "rest"), peers=[Peer("^VIX", peer)]
    )
    weekdays = {FIRST + timedelta(days=n) for n in range(length + 1) if n % 7 < 5}
    assert [one.day for one in found] == sorted(weekdays - there)
    for one in found:
        if one.day in holidays:
            assert (one.kind, one.why) == ("holiday", "rest")
        elif one.day in empty or one.day in peer:
            assert one.kind == "gap"
        else:
            assert one.kind == "unconfirmed"


@settings(max_examples=60, deadline=None)
@given(some_days, some_days, some_days)
def test_a_witness_more_never_makes_a_gap_less(there: set[date], peer: set[date], other: set[date]) -> None:
    span = Span(FIRST, FIRST + timedelta(days=20))

    def gaps(*peers: set[date]) -> set[date]:
        found = absences(span, there, holidays={}, peers=[Peer("A", days) for days in peers])
        return {one.day for one in found if one.kind == "gap"}

    assert gaps(peer) <= gaps(peer, other)


@pytest.mark.parametrize(
    ("year", "closed"),
    [
        # As the New York Stock Exchange published them; 2025 with the day of mourning.
        (2021, "01-01 01-18 02-15 04-02 05-31 07-05 09-06 11-25 12-24"),
        (2022, "01-17 02-21 04-15 05-30 06-20 07-04 09-05 11-24 12-26"),
        (2024, "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25"),
        (2025, "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25"),
    ],
)
def test_holidays_of_new_york(year: int, closed: str) -> None:
    span = Span(date(year, 1, 1), date(year, 12, 31))
    found = holidays_of("^GSPC", "America/New_York", span)
    assert found is not None
    assert sorted(day for day in found if day.weekday() < 5) == [
        date.fromisoformat(f"{year}-{day}") for day in closed.split()
    ]


def test_yields_rest_with_the_bond_market_too() -> None:
    span = Span(date(2024, 10, 1), date(2024, 11, 20))
    assert holidays_of("^GSPC", "America/New_York", span) == {}
    assert holidays_of("^TNX", "America/Chicago", span) == {
        date(2024, 10, 14): "Columbus Day",
        date(2024, 11, 11): "Veterans Day",
    }


def test_where_a_calendar_is_not_known_it_is_said() -> None:
    span = Span(date(2024, 1, 1), date(2024, 1, 3))
    holidays = holidays_of("^N225", "Asia/Tokyo", span)
    assert holidays is None
    found = absences(span, {date(2024, 1, 2)}, holidays=holidays, peers=[Peer("TOPIX", {date(2024, 1, 3)})])
    assert [(one.kind, one.why) for one in found] == [
        (
            "unconfirmed",
            "the exchange's holidays are not known here, and no other series of this market has the day",
        ),
        ("gap", "TOPIX had a trading day"),
    ]
    assert market_of("America/Chicago") == market_of("America/New_York") != market_of("Asia/Tokyo")
