"""Binance's times: milliseconds, or microseconds where they were asked for."""

from __future__ import annotations

# From this on a time can only be in microseconds: as milliseconds it would lie past the year 33000.
MICROSECONDS_FROM = 10**15


def to_us(time: int) -> int:
    """A time of the exchange, in whichever unit it was asked for (ms, or us by timeUnit), as microseconds."""
    return time if time >= MICROSECONDS_FROM else time * 1000
