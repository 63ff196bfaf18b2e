"""Days of a series, and what was seen of each: what a provider tells, merged into what is known. Pure.

What is known of a day is its history: observations in the order in which they were made, each of another value than
the one before. So at any time the value known then is the last one that was seen up to it. Nothing is ever taken out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from math import isfinite
from typing import Final
from zoneinfo import ZoneInfo

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Values:
    """A trading day as the provider tells it. Prices are the 64-bit floats that it sends; see docs/macro.md.

    Raises ValueError for what is no number: a price that is not finite, a volume below zero.
    """

    open: float | None
    high: float | None
    low: float | None
    close: float
    volume: int | None
    currency: str
    timezone: str  # of the exchange, such as America/New_York; a day is one of its calendar

    def __post_init__(self) -> None:
        for what in ("open", "high", "low", "close"):
            price: float | None = getattr(self, what)
            if price is not None and not isfinite(price):
                raise ValueError(f"{what} is {price}")
        if self.volume is not None and self.volume < 0:
            raise ValueError(f"volume is {self.volume}")

    @property
    def meaning(self) -> tuple[object, ...]:
        """What two tellings of the same values have in common.

        The provider keeps prices as 32-bit floats, and sends them with or without the tail that such a float has.
        """
        prices = (self.open, self.high, self.low, self.close)
        return (*(_short(price) for price in prices), self.volume, self.currency, self.timezone)

    @property
    def order(self) -> tuple[object, ...]:
        """Any order, so that observations of one instant are always sorted alike."""
        told = (self.open, self.high, self.low, self.close, self.volume)
        return (*((0, 0) if value is None else (1, value) for value in told), self.currency, self.timezone)


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation: at this time (Unix us) the lake was told these values, and no others since the one before."""

    known_us: int
    values: Values


Days = Mapping[date, tuple[Seen, ...]]
"""By day, in the order of `known_us`; no two neighbours mean the same."""


@dataclass(frozen=True, slots=True)
class Change:
    """A day that became known (`before` None), or whose values became others."""

    day: date
    before: Values | None
    now: Values


def merged(one: Days, other: Days) -> dict[date, tuple[Seen, ...]]:
    """What two lakes know together. The order of the two makes no difference, and neither does doing it again."""
    days = sorted({*one, *other})
    return {day: _history((*one.get(day, ()), *other.get(day, ()))) for day in days}


def stamped(known: Days, told: Mapping[date, Values], now_us: int) -> dict[date, tuple[Seen, ...]]:
    """What was told just now, as observations. `known`: what was read before the provider was asked.

    None of them comes before what was known already: where the clock stands behind that, it is put a microsecond after,
    which is rather too late than too early. What another writer adds meanwhile keeps its own time, and so does this.
    """
    found: dict[date, tuple[Seen, ...]] = {}
    for day in sorted(told):
        history = known.get(day, ())
        at_us = max(now_us, history[-1].known_us + 1) if history else now_us
        found[day] = (Seen(at_us, told[day]),)
    return found


def observed(known: Days, told: Mapping[date, Values], now_us: int) -> dict[date, tuple[Seen, ...]]:
    """What is known after the provider told these days. A day that means the same as before stays as it is."""
    return merged(known, stamped(known, told, now_us))


def changes(before: Days, after: Days) -> list[Change]:
    """Days whose latest values differ, in order."""
    found: list[Change] = []
    for day in sorted(after):
        old = before.get(day, ())
        new = after[day]
        if not old or old[-1].values.meaning != new[-1].values.meaning:
            found.append(Change(day, old[-1].values if old else None, new[-1].values))
    return found


def lost(before: Days, after: Days) -> list[date]:
    """Days of which `after` no longer tells all that was known. Nothing is written where there are any."""
    return [
        day
        for day, history in before.items()
        if not all(_is_told(seen, after.get(day, ())) for seen in history)
    ]


def _is_told(seen: Seen, history: Iterable[Seen]) -> bool:
    return any(one.known_us <= seen.known_us and one.values.meaning == seen.values.meaning for one in history)


def at(history: Iterable[Seen], known_us: int) -> Seen | None:
    """What was known of a day at this time."""
    found: Seen | None = None
    for seen in history:
        if seen.known_us <= known_us:
            found = seen
    return found


def day_end_us(day: date, timezone: str) -> int:
    """Unix us of the midnight with which the day ends where its exchange is: by then its close is made."""
    midnight = datetime.combine(day + timedelta(days=1), time(), ZoneInfo(timezone))
    return (midnight.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def _history(observations: Iterable[Seen]) -> tuple[Seen, ...]:
    ordered = sorted(observations, key=lambda seen: (seen.known_us, seen.values.order))
    kept: list[Seen] = []
    for seen in ordered:
        if not kept or kept[-1].values.meaning != seen.values.meaning:
            kept.append(seen)
    return tuple(kept)


def _short(price: float | None) -> bytes | float | None:
    if price is None:
        return None
    try:
        return struct.unpack("<f", struct.pack("<f", price))[0]
    except OverflowError:  # greater than a 32-bit float can be
        return price
