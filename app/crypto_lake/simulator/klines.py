"""Klines from trades, in integers: this room's own, so that it can check the lake's bars and they it.

Prices and sizes in hundred-millionths. Quote volume truncates each price x size to eight decimals before it
is summed, as the exchange does. Times in microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from crypto_lake.simulator.generator import SimulatedTrade

_SECOND_US = 1_000_000
_ONE_E8 = 100_000_000

# Fixed lengths only: a week starts on a Monday and a month has no length.
INTERVALS_US: dict[str, int] = {
    "1s": _SECOND_US,
    "1m": 60 * _SECOND_US,
    "3m": 180 * _SECOND_US,
    "5m": 300 * _SECOND_US,
    "15m": 900 * _SECOND_US,
    "30m": 1800 * _SECOND_US,
    "1h": 3600 * _SECOND_US,
    "2h": 7200 * _SECOND_US,
    "4h": 14400 * _SECOND_US,
    "6h": 21600 * _SECOND_US,
    "8h": 28800 * _SECOND_US,
    "12h": 43200 * _SECOND_US,
    "1d": 86400 * _SECOND_US,
}


class Kline(NamedTuple):
    """A bar that starts at `open_us`. Without trades: trade_count 0, first_id and last_id -1."""

    open_us: int
    open_e8: int
    high_e8: int
    low_e8: int
    close_e8: int
    volume_e8: int
    quote_volume_e8: int
    trade_count: int
    taker_base_e8: int
    taker_quote_e8: int
    first_id: int
    last_id: int


def empty_kline(open_us: int, close_e8: int) -> Kline:
    """The bar of a time in which nothing traded, after a close."""
    return Kline(open_us, close_e8, close_e8, close_e8, close_e8, 0, 0, 0, 0, 0, -1, -1)


class Folding:
    """A bar in the making: trades are added in the order of their ids."""

    __slots__ = (
        "_close",
        "_count",
        "_first",
        "_high",
        "_last",
        "_low",
        "_open",
        "_quote",
        "_taker_base",
        "_taker_quote",
        "_volume",
        "open_us",
    )

    def __init__(self, open_us: int) -> None:
        self.open_us = open_us
        self._open = self._high = self._low = self._close = 0
        self._volume = self._quote = self._count = self._taker_base = self._taker_quote = 0
        self._first = self._last = -1

    def add(self, trade: SimulatedTrade) -> None:
        price, size = trade.price_e8, trade.size_e8
        quote = price * size // _ONE_E8
        if not self._count:
            self._open = self._high = self._low = price
            self._first = trade.id
        elif price > self._high:
            self._high = price
        elif price < self._low:
            self._low = price
        self._close = price
        self._last = trade.id
        self._count += 1
        self._volume += size
        self._quote += quote
        if not trade.buyer_is_maker:
            self._taker_base += size
            self._taker_quote += quote

    def kline(self) -> Kline:
        return Kline(
            self.open_us,
            self._open,
            self._high,
            self._low,
            self._close,
            self._volume,
            self._quote,
            self._count,
            self._taker_base,
            self._taker_quote,
            self._first,
            self._last,
        )


def fold(trades: Iterable[SimulatedTrade], interval_us: int) -> Iterator[Kline]:
    """The bars that have trades, in order. Trades come in order of id and of time."""
    folding: Folding | None = None
    for trade in trades:
        open_us = trade.time_us - trade.time_us % interval_us
        if folding is None or open_us != folding.open_us:
            if folding is not None:
                yield folding.kline()
            folding = Folding(open_us)
        folding.add(trade)
    if folding is not None:
        yield folding.kline()


def merge(klines: Iterable[Kline], interval_us: int) -> Iterator[Kline]:
    """Longer bars from shorter ones with trades, in order; `interval_us` is a multiple of theirs."""
    merged: Kline | None = None
    for kline in klines:
        open_us = kline.open_us - kline.open_us % interval_us
        if merged is None or open_us != merged.open_us:
            if merged is not None:
                yield merged
            merged = kline._replace(open_us=open_us)
            continue
        merged = Kline(
            open_us,
            merged.open_e8,
            max(merged.high_e8, kline.high_e8),
            min(merged.low_e8, kline.low_e8),
            kline.close_e8,
            merged.volume_e8 + kline.volume_e8,
            merged.quote_volume_e8 + kline.quote_volume_e8,
            merged.trade_count + kline.trade_count,
            merged.taker_base_e8 + kline.taker_base_e8,
            merged.taker_quote_e8 + kline.taker_quote_e8,
            merged.first_id,
            kline.last_id,
        )
    if merged is not None:
        yield merged


def fill(
    klines: Iterable[Kline], interval_us: int, start_us: int, end_us: int, previous_close_e8: int
) -> Iterator[Kline]:
    """All bars that open in start_us..end_us (end excluded): those given, and empty ones between.

    previous_close_e8 is the last price before start_us; 0 where nothing had traded yet: then the first bar is
    the first one given.
    """
    at, close = start_us, previous_close_e8
    for kline in klines:
        if close:
            for open_us in range(at, kline.open_us, interval_us):
                yield empty_kline(open_us, close)
        yield kline
        at, close = kline.open_us + interval_us, kline.close_e8
    if close:
        for open_us in range(at, end_us, interval_us):
            yield empty_kline(open_us, close)
