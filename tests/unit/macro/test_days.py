"""What is known of a day, and when: properties of merging and of observing anew."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.macro.days import Days, Seen, Values, at, changes, day_end_us, lost, merged, observed

FIRST = date(2024, 8, 5)
# Few values and times, so that they often meet.
values = st.builds(
    lambda close, volume: Values(None, 2.0, 1.0, close, volume, "USD", "America/New_York"),
    st.sampled_from([1.0, 1.5, 5564.41, float(np.float32(5564.41))]),
    st.sampled_from([None, 0, 7]),
)
days = st.integers(0, 2).map(lambda n: FIRST + timedelta(days=n))
tellings = st.lists(st.tuples(st.integers(0, 9), st.dictionaries(days, values, max_size=3)), max_size=6)


def lake(told: list[tuple[int, dict[date, Values]]]) -> Days:
    """What a lake knows after these tellings, in the order of their times."""
    known: Days = {}
    for now_us, one in sorted(told, key=lambda item: item[0]):
        known = observed(known, one, now_us)
    return known


lakes = tellings.map(lake)


@settings(max_examples=60, deadline=None)
@given(lakes, lakes)
def test_the_order_of_two_lakes_makes_no_difference(one: Days, other: Days) -> None:
    assert merged(one, other) == merged(other, one)


@settings(max_examples=60, deadline=None)
@given(lakes, lakes)
def test_merging_again_changes_nothing(one: Days, other: Days) -> None:
    both = merged(one, other)
    assert merged(both, one) == merged(both, other) == merged(both, both) == both


@settings(max_examples=60, deadline=None)
@given(lakes, lakes)
def test_nothing_that_was_known_is_lost(one: Days, other: Days) -> None:
    both = merged(one, other)
    assert lost(one, both) == lost(other, both) == []


@settings(max_examples=60, deadline=None)
@given(lakes)
def test_a_version_that_is_taken_out_is_found(known: Days) -> None:
    for day, history in known.items():
        for number in range(len(history)):
            rest = history[:number] + history[number + 1 :]
            told_before = {seen.values.meaning for seen in history[:number]}
            expected = [] if history[number].values.meaning in told_before else [day]
            assert lost(known, {**known, day: rest}) == expected


@settings(max_examples=60, deadline=None)
@given(lakes, lakes, st.integers(-1, 12))
def test_at_any_time_the_last_of_both_observations_holds(one: Days, other: Days, known_us: int) -> None:
    both = merged(one, other)
    for day in {*one, *other}:
        now, mine, theirs = (at(known.get(day, ()), known_us) for known in (both, one, other))
        latest = max((seen.known_us for seen in (mine, theirs) if seen), default=None)
        if now is None:
            assert latest is None
        else:
            held = {seen.values.meaning for seen in (mine, theirs) if seen and seen.known_us == latest}
            assert now.values.meaning in held


@settings(max_examples=60, deadline=None)
@given(lakes, st.dictionaries(days, values, max_size=3), st.integers(0, 20))
def test_what_is_told_is_the_latest_afterwards_and_telling_it_again_changes_nothing(
    known: Days, told: dict[date, Values], now_us: int
) -> None:
    after = observed(known, told, now_us)
    assert {day: after[day][-1].values.meaning for day in told} == {
        day: one.meaning for day, one in told.items()
    }
    assert {day: history for day, history in after.items() if day not in told} == {
        day: history for day, history in known.items() if day not in told
    }
    assert observed(after, told, now_us + 5) == after
    assert lost(known, after) == []


@settings(max_examples=60, deadline=None)
@given(lakes, st.dictionaries(days, values, max_size=3), st.integers(0, 20))
def test_changes_name_the_days_whose_values_are_others(
    known: Days, told: dict[date, Values], now_us: int
) -> None:
    after = observed(known, told, now_us)
    found = {change.day: change for change in changes(known, after)}
    for day, one in told.items():
        before = known[day][-1].values if day in known else None
        assert (day in found) == (before is None or before.meaning != one.meaning)
        if day in found:
            assert (found[day].before, found[day].now.meaning) == (before, one.meaning)
    assert found.keys() <= told.keys()


@settings(max_examples=60, deadline=None)
@given(lakes)
def test_times_rise_and_neighbours_differ(known: Days) -> None:
    for history in known.values():
        assert [seen.known_us for seen in history] == sorted({seen.known_us for seen in history})
        assert all(a.values.meaning != b.values.meaning for a, b in itertools.pairwise(history))


def test_a_clock_behind_what_is_known_never_makes_a_value_known_earlier() -> None:
    old, new = (Values(None, None, None, close, 0, "USD", "UTC") for close in (1.0, 2.0))
    known = observed({FIRST: (Seen(100, old),)}, {FIRST: new}, 50)
    assert [(seen.known_us, seen.values.close) for seen in known[FIRST]] == [(100, 1.0), (101, 2.0)]


def test_a_quote_with_and_without_the_tail_of_a_32_bit_float_is_the_same() -> None:
    told, kept = (Values(None, None, None, close, 0, "USD", "UTC") for close in (5564.41, 5564.41015625))
    assert told.meaning == kept.meaning
    assert Values(None, None, None, 5564.42, 0, "USD", "UTC").meaning != told.meaning


@pytest.mark.parametrize(
    ("close", "volume"), [(float("nan"), 0), (float("inf"), 0), (1.0, -1)], ids=["nan", "inf", "negative"]
)
def test_what_is_no_number_is_refused(close: float, volume: int) -> None:
    with pytest.raises(ValueError, match="is"):
        Values(None, None, None, close, volume, "USD", "UTC")


@settings(max_examples=60, deadline=None)
@given(
    st.dates(date(1990, 1, 1), date(2040, 1, 1)),
    st.sampled_from(["America/New_York", "Asia/Tokyo", "Europe/London", "America/Sao_Paulo", "Asia/Beirut"]),
)
def test_days_follow_one_another_and_have_about_24_hours(day: date, timezone: str) -> None:
    hours = (day_end_us(day + timedelta(days=1), timezone) - day_end_us(day, timezone)) / 3.6e9
    assert 22.9 <= hours <= 25.1
