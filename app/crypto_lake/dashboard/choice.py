"""What a picture is of: which intervals, from when to when, and how fresh that is. Pure.

A picture has a bounded number of bars, whatever is asked for: the interval grows with the range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from crypto_lake.access.errors import InvalidArgumentError
from crypto_lake.access.times import Span, as_seconds, as_span, interval_name, whole_intervals

RANGES: Final = ("5m", "15m", "1h", "6h", "1d", "7d", "30d", "90d", "365d")
LONGEST_FIRST_RANGE: Final = "6h"
INTERVALS: Final = ("1s", "5s", "15s", "1m", "5m", "15m", "1h", "4h", "1d")
AUTO: Final = "auto"
"""In place of an interval: by the range."""
OWN_RANGE: Final = "from … to …"
"""In place of a range: two times are given."""
REFRESHES: Final = ("off", "15s", "30s", "1m", "5m")

AUTO_BARS: Final = 500
MOST_BARS: Final = 2000
MOST_SYMBOLS: Final = 6

# A directory gets bars with each transformation, which is every hour at the slowest usual setting; a bucket gets days
# that are final, 48 h after their end at the latest.
STALE_SECONDS: Final = 2 * 3600
STALE_SECONDS_IN_A_BUCKET: Final = 3 * 86400

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Choice:
    """The length of the bars, and what to say where that is not what was asked for."""

    seconds: int
    told: str = ""

    @property
    def name(self) -> str:
        return interval_name(self.seconds)


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` on and before `end`, both at an interval's beginning."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> int:
        return round((self.end - self.start).total_seconds())


def first_range(known_seconds: float | None) -> str:
    """What a visitor sees first: six hours, or of a lake that is younger than that the shortest range that holds all.

    known_seconds: from the first bar until now; None where there is none, or it is long ago.
    """
    if known_seconds is None:
        return LONGEST_FIRST_RANGE
    fitting = [name for name in RANGES if as_seconds(name) >= known_seconds]
    return min([*fitting, LONGEST_FIRST_RANGE], key=as_seconds)


def choose(range_seconds: float, asked: str = AUTO) -> Choice:
    """Bars for a range of this length. The finest interval that is offered and gives few enough of them."""
    if asked == AUTO:
        return Choice(_finest(range_seconds, AUTO_BARS))
    seconds = as_seconds(asked)
    if range_seconds / seconds <= MOST_BARS:
        return Choice(seconds)
    found = _finest(range_seconds, MOST_BARS)
    return Choice(
        found,
        f"{asked} would be {range_seconds / seconds:,.0f} bars, more than the {MOST_BARS:,} of a picture: "
        f"these are of {interval_name(found)}. Choose a shorter range for {asked}.",
    )


def _finest(range_seconds: float, most_bars: int) -> int:
    for name in INTERVALS:
        seconds = as_seconds(name)
        if range_seconds / seconds <= most_bars:
            return seconds
    longest = as_seconds(INTERVALS[-1])
    return longest * max(1, -int(-range_seconds // (longest * most_bars)))


def own_range(start: str, end: str) -> Span:
    """Two times as they were typed. InvalidArgumentError where one is missing or none."""
    if not start.strip() or not end.strip():
        raise InvalidArgumentError("give both times, such as 2024-08-08T13:00 and 2024-08-09 (UTC)")
    return as_span(start, end)


def window_of(span: Span, seconds: int) -> Window:
    """The intervals that begin in the span: the ones that a query with the same times gives."""
    whole = whole_intervals(span, seconds)
    if whole.start is None or whole.end is None or whole.start >= whole.end:
        raise InvalidArgumentError(f"no interval of {interval_name(seconds)} begins {span}")
    return Window(whole.start, whole.end)


def latest_window(range_seconds: int, seconds: int, known_until: datetime, now: datetime) -> Window:
    """The last `range_seconds`. `known_until`: the end of the last second that has a bar.

    It ends now while that leaves something to see, so that what is not there yet is seen to be missing; else with what
    is known. A lake whose clock is ahead of this one ends with what is known, too.
    """
    is_near = timedelta(0) <= now - known_until < timedelta(seconds=range_seconds)
    length = timedelta(seconds=seconds)
    end = now if is_near else known_until
    end += (_EPOCH - end) % length
    count = max(1, -(-range_seconds // seconds))
    return Window(max(_EPOCH, end - count * length), end)


@dataclass(frozen=True, slots=True)
class Freshness:
    """Until when there are bars of a symbol. `age_seconds`: None where there are none, or they are ahead of `now`."""

    symbol: str
    known_until: datetime | None
    age_seconds: float | None
    level: Literal["fresh", "stale", "none"]


def freshness(
    known_until: Mapping[str, datetime | None], now: datetime, stale_seconds: float
) -> list[Freshness]:
    found: list[Freshness] = []
    for symbol, until in known_until.items():
        if until is None:
            found.append(Freshness(symbol, None, None, "none"))
            continue
        age = (now - until).total_seconds()
        found.append(
            Freshness(symbol, until, age if age >= 0 else None, "stale" if age > stale_seconds else "fresh")
        )
    return found


def stale_words(found: Sequence[Freshness]) -> str:
    """What to say of symbols whose bars are old or not there; nothing where all are fresh."""
    lines: list[str] = []
    for one in found:
        if one.level == "none":
            lines.append(f"{one.symbol}: there are no bars")
        elif one.level == "stale" and one.known_until is not None and one.age_seconds is not None:
            lines.append(
                f"{one.symbol}: bars end {one.known_until:%Y-%m-%d %H:%M:%S}Z, {age_words(one.age_seconds)} ago"
            )
    return "; ".join(lines)


def age_words(seconds: float) -> str:
    """90061 -> `1 d 1 h`; 75 -> `1 min 15 s`: its two greatest units."""
    whole = max(0, round(seconds))
    parts = (
        (whole // 86400, "d"),
        (whole // 3600 % 24, "h"),
        (whole // 60 % 60, "min"),
        (whole % 60, "s"),
    )
    first = next((index for index, (count, _) in enumerate(parts) if count), 3)
    words = [f"{count} {unit}" for count, unit in parts[first : first + 2] if count]
    return " ".join(words) or "0 s"
