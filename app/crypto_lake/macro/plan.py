"""Which days are asked for, which of the answer are over, and how long to wait between tries. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from crypto_lake.macro.days import Days, Values, day_end_us
from crypto_lake.macro.provider import Answer, RateLimited, Unavailable

SETTLE_US: Final = 30 * 60 * 10**6
"""A day's values are taken this long after its end: free quotes come up to half an hour late."""

LATE_US: Final = 24 * 3600 * 10**6
"""A day that a provider does not have this long after its end is missing, and not merely late."""

FIRST_WAIT_SECONDS: Final = 2.0
FIRST_WAIT_WHEN_LIMITED_SECONDS: Final = 30.0
LONGEST_WAIT_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Span:
    """Days from `first` to `last`, both among them."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last


def span_to_update(latest: date | None, start: date, revisit_days: int, today: date) -> Span:
    """From some days before the latest known day, so that revised values are seen; all where nothing is known."""
    if latest is None:
        return Span(min(start, today), today)
    return Span(max(min(start, latest), latest - timedelta(days=revisit_days)), max(today, latest))


def today_of(now_us: int) -> date:
    """The date in the time zone that is first to have it, so that no exchange's day is left out."""
    return _utc(now_us).astimezone(ZoneInfo("Pacific/Kiritimati")).date()


def is_over(day: date, answer: Answer, now_us: int) -> bool:
    """Whether the day's values are its last ones, as far as is known now."""
    if answer.session is not None and day == answer.session[0]:
        return now_us >= answer.session[1] + SETTLE_US
    return now_us >= day_end_us(day, answer.timezone) + SETTLE_US


def finished(answer: Answer, span: Span, now_us: int) -> dict[date, Values]:
    """What is taken of an answer: days that were asked for and are over."""
    return {
        day: values for day, values in answer.days.items() if day in span and is_over(day, answer, now_us)
    }


def expected(span: Span, timezone: str, now_us: int) -> Span | None:
    """The part of a span whose days a provider must have by now; None where there is none."""
    last = span.last
    while last >= span.first and now_us < day_end_us(last, timezone) + LATE_US:
        last -= timedelta(days=1)
    return Span(span.first, last) if last >= span.first else None


def wait_seconds(error: Unavailable, failures: int, chance: float) -> float:
    """The wait after so many failures (from 1): doubled each time, the upper half at random; as long as asked for.

    `chance` is in [0, 1).
    """
    limited = isinstance(error, RateLimited)
    first = FIRST_WAIT_WHEN_LIMITED_SECONDS if limited else FIRST_WAIT_SECONDS
    ceiling = min(LONGEST_WAIT_SECONDS, first * 2.0 ** min(failures - 1, 30))
    wait = ceiling * (0.5 + chance / 2)
    asked = error.retry_after_seconds if isinstance(error, RateLimited) else None
    return max(wait, asked or 0.0)


def latest_of(days: Days) -> date | None:
    return max(days, default=None)


def _utc(now_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now_us)
