"""Cron expressions, as far as a deadline needs them: how long is it from one time to the next."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from crypto_lake_operator.patterns import CRON

_FORM = re.compile(CRON)
_DAY_MINUTES: Final = 24 * 60


class InvalidCronError(ValueError):
    """A text that is no cron expression; the message says what one looks like."""


def _numbers(field: str, least: int, most: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            first, last = least, most
        else:
            start, dash, end = span.partition("-")
            first = int(start)
            last = int(end) if dash else (most if step else first)
        if first > last:
            raise InvalidCronError(f"{part!r} ends before it begins")
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


@lru_cache(maxsize=256)
def shortest_period_minutes(text: str) -> int:
    """The least time between two runs. Of a schedule that runs once on its days: a day. Raises InvalidCronError."""
    gaps = _gaps_in_a_day(text)
    return min(gaps)


@lru_cache(maxsize=256)
def longest_period_minutes(text: str) -> int:
    """The greatest time between two runs of the days on which it runs; days without a run count as one day each,
    32 at most. Raises InvalidCronError.
    """
    gaps = _gaps_in_a_day(text)
    _, _, day, month, weekday = text.split(" ")
    if month != "*" or day != "*":
        return 32 * _DAY_MINUTES
    weekdays = sorted(_numbers(weekday, 0, 6))
    between = [
        (later - day) % 7 or 7 for day, later in zip(weekdays, [*weekdays[1:], weekdays[0]], strict=True)
    ]
    return max(gaps) + (max(between) - 1) * _DAY_MINUTES


def _gaps_in_a_day(text: str) -> list[int]:
    if _FORM.match(text) is None:
        raise InvalidCronError(
            f"{text!r} is no schedule; write minute, hour, day of month, month and day of week in numbers, such as "
            "12 * * * *"
        )
    minute, hour, *days = text.split(" ")
    for field, least, most in zip(days, (1, 1, 0), (31, 12, 6), strict=True):
        _numbers(field, least, most)
    times = sorted(h * 60 + m for h in _numbers(hour, 0, 23) for m in _numbers(minute, 0, 59))
    return [later - time for time, later in zip(times, [*times[1:], times[0] + _DAY_MINUTES], strict=True)]
