"""Times and intervals as people give them. Pure. All times are UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from crypto_lake.access.errors import InvalidArgumentError

Time = datetime | date | str
"""A datetime (without a zone: UTC), a date (its midnight), or a text such as 2024-08-08, 2024-08-08T13:00, …Z."""

DAY_SECONDS: Final = 86_400
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}
_INTERVAL: Final = re.compile(r"([1-9]\d{0,8})([smhd])")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A year on each side is left, so that rounding up to an interval stays within what a datetime holds.
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9998, 1, 1, tzinfo=UTC)
LONGEST_SECONDS: Final = 366 * DAY_SECONDS


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` on and before `end`, in UTC. None: as far as there is data."""

    start: datetime | None = None
    end: datetime | None = None

    @property
    def first_day(self) -> str:
        """The first day that may hold something of it, as 2024-08-08; "" where it has no start."""
        return "" if self.start is None else f"{self.start:%Y-%m-%d}"

    @property
    def last_day(self) -> str:
        """The last such day; greater than any where it has no end."""
        return "9999-12-31" if self.end is None else f"{self.end - timedelta(microseconds=1):%Y-%m-%d}"

    def holds_day(self, day: str) -> bool:
        return self.first_day <= day <= self.last_day

    def __str__(self) -> str:
        if self.start is None and self.end is None:
            return "at any time"
        if self.end is None:
            return f"from {written(self.start)} on"
        if self.start is None:
            return f"before {written(self.end)}"
        return f"from {written(self.start)} to {written(self.end)}"


def as_utc(value: Time, name: str = "time") -> datetime:
    """A time in UTC. InvalidArgumentError, which names the argument, where it is none."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InvalidArgumentError(
                f"{name} {value!r} is no time; write 2024-08-08, 2024-08-08T13:00 or 2024-08-08T13:00:05.5Z (UTC)"
            ) from None
    elif isinstance(value, datetime):
        found = value
    elif isinstance(value, date):
        found = datetime(value.year, value.month, value.day)
    else:
        raise InvalidArgumentError(
            f"{name} is a {type(value).__name__}; give a datetime, a date or a text such as 2024-08-08T13:00"
        )
    try:
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError:
        found = _EARLIEST - timedelta(days=1)
    if not _EARLIEST <= found <= _LATEST:
        raise InvalidArgumentError(f"{name} {value} lies outside the years 1970 to 9997")
    return found


def as_span(start: Time | None, end: Time | None) -> Span:
    """Start included, end excluded. InvalidArgumentError where there is nothing between them."""
    span = Span(
        None if start is None else as_utc(start, "start"), None if end is None else as_utc(end, "end")
    )
    if span.start is not None and span.end is not None and span.start >= span.end:
        raise InvalidArgumentError(
            f"there is nothing {span}: the end is excluded, and must come after the start"
        )
    return span


def as_seconds(every: str | timedelta) -> int:
    """An interval's length: `30s`, `5m`, `1h`, `1d` or any multiple, up to 366 days. InvalidArgumentError for another."""
    if isinstance(every, timedelta):
        seconds, rest = divmod(every, timedelta(seconds=1))
        if rest or not 0 < seconds <= LONGEST_SECONDS:
            raise InvalidArgumentError(f"every {every}: give whole seconds, from 1 second to 366 days")
        return seconds
    match = _INTERVAL.fullmatch(every.strip()) if isinstance(every, str) else None
    if match is None:
        raise InvalidArgumentError(
            f"every {every!r} is no interval; write a number and s, m, h or d, such as 1s, 5m, 4h, 1d (weeks and months "
            "have no fixed length: group days)"
        )
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST_SECONDS:
        raise InvalidArgumentError(f"every {every!r} is longer than 366 days")
    return seconds


def interval_name(seconds: int) -> str:
    """90 -> `90s`, 3600 -> `1h`: the way `as_seconds` reads it."""
    for unit, length in reversed(_UNITS.items()):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    raise AssertionError("every number is a multiple of one second")


def whole_intervals(span: Span, seconds: int) -> Span:
    """The span of the intervals that begin in `span`: both ends rounded up to one's beginning, counted from 1970 on."""
    return Span(
        None if span.start is None else _round_up(span.start, seconds),
        None if span.end is None else _round_up(span.end, seconds),
    )


def _round_up(at: datetime, seconds: int) -> datetime:
    length = timedelta(seconds=seconds)
    return _EPOCH + -(-(at - _EPOCH) // length) * length


def written(at: datetime | None) -> str:
    """For messages: 2024-08-08T13:00:05Z, midnight as the day alone."""
    if at is None:
        return "?"
    text = at.replace(tzinfo=None).isoformat()
    return text.removesuffix("T00:00:00") if text.endswith("T00:00:00") else f"{text}Z"
