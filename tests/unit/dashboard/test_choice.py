"""What a picture is of: never too many bars, whole intervals, and an end that shows what is missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.access.errors import InvalidArgumentError
from crypto_lake.access.times import Span, as_seconds
from crypto_lake.dashboard.choice import (
    AUTO_BARS,
    INTERVALS,
    MOST_BARS,
    RANGES,
    age_words,
    choose,
    first_range,
    freshness,
    latest_window,
    own_range,
    stale_words,
    window_of,
)

NOW = datetime(2024, 8, 8, 13, 0, 7, tzinfo=UTC)


@given(st.integers(1, 9000 * 86400))
def test_a_range_of_any_length_gives_no_more_bars_than_a_picture_holds(length: int) -> None:
    assert length / choose(length).seconds <= AUTO_BARS
    for asked in INTERVALS:
        found = choose(length, asked)
        assert length / found.seconds <= MOST_BARS
        assert bool(found.told) == (found.seconds != as_seconds(asked))
        assert found.seconds >= as_seconds(asked)


def test_a_young_lake_is_shown_in_a_range_that_it_fills() -> None:
    hour = 3600
    asked = (-5, 20, 300, 301, 900, 901, hour, hour + 1, 6 * hour, 5 * 86400, None)
    fitting = ["5m"] * 3 + ["15m"] * 2 + ["1h"] * 2 + ["6h"] * 4
    assert [first_range(known) for known in asked] == fitting


def test_the_interval_is_the_finest_that_fits() -> None:
    found = {name: choose(as_seconds(name)).name for name in RANGES}
    assert found == {
        "5m": "1s",
        "15m": "5s",
        "1h": "15s",
        "6h": "1m",
        "1d": "5m",
        "7d": "1h",
        "30d": "4h",
        "90d": "1d",
        "365d": "1d",
    }
    assert choose(900, "1s").name == "1s"
    told = choose(7 * 86400, "1s")
    assert told.name == "15m"
    assert "604,800 bars" in told.told


@given(
    st.sampled_from(RANGES),
    st.sampled_from(INTERVALS),
    st.integers(-400 * 86400, 400 * 86400),
    st.integers(0, 86400),
)
def test_the_latest_window_ends_where_the_bars_do_or_now(
    range_name: str, every: str, age: int, second: int
) -> None:
    length = as_seconds(range_name)
    seconds = choose(length, every).seconds
    now = NOW + timedelta(seconds=second)
    known = now - timedelta(seconds=age)
    window = latest_window(length, seconds, known, now)
    assert window.start.timestamp() % seconds == window.end.timestamp() % seconds == 0
    assert length <= window.seconds < length + seconds
    # Something that is known is always in it, and nothing after now but the interval's rest.
    assert window.start < known <= window.end
    shows_until = now if 0 <= age < length else known
    assert timedelta(0) <= window.end - shows_until < timedelta(seconds=seconds)


def test_two_times_of_ones_own() -> None:
    window = window_of(own_range("2024-08-08T13:00:30", " 2024-08-08T14:00:01 "), 60)
    assert (window.start.minute, window.end.hour, window.end.minute) == (1, 14, 1)
    for start, end, word in (
        ("", "2024-08-08", "both"),
        ("yesterday", "2024-08-08", "no time"),
        ("2024-08-09", "2024-08-08", "nothing"),
    ):
        with pytest.raises(InvalidArgumentError, match=word):
            own_range(start, end)
    with pytest.raises(InvalidArgumentError, match="no interval"):
        window_of(Span(NOW, NOW + timedelta(seconds=10)), 3600)


def test_stale_is_said_of_those_that_are() -> None:
    known = {
        "NEW": NOW - timedelta(minutes=1),
        "OLD": NOW - timedelta(hours=3),
        "NONE": None,
        "AHEAD": NOW + timedelta(days=1),
    }
    found = freshness(known, NOW, 7200)
    assert [one.level for one in found] == ["fresh", "stale", "none", "fresh"]
    assert found[3].age_seconds is None
    assert stale_words(found) == "OLD: bars end 2024-08-08 10:00:07Z, 3 h ago; NONE: there are no bars"
    assert stale_words(found[:1]) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.6, "1 min"), (75, "1 min 15 s"), (3600, "1 h"), (90061, "1 d 1 h"), (86405, "1 d")],
)
def test_an_age_in_words(seconds: float, words: str) -> None:
    assert age_words(seconds) == words
