"""Trades, best quotes and bars: the rows of the lake."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

US_PER_SECOND = 1_000_000
NS_PER_SECOND = 1_000_000_000


class Stream(StrEnum):
    """A kind of stream that the lake collects, by the exchange's name.

    kline_1s: the exchange's own one-second bars; no bar is made of them, they are what bars are held against.
    """

    TRADE = "trade"
    BOOK_TICKER = "bookTicker"
    KLINE = "kline_1s"


class BarState(StrEnum):
    """How much of a bar is known.

    complete: its trade ids run without a hole up to the next trade.
    healed: complete, with trades that were fetched from REST.
    aggregated: complete, with trades known by their sum alone (aggTrades); equal but for volume_quote and
        taker_buy_quote, in their last digits.
    incomplete: ids are missing, or the next trade is not known yet.
    """

    COMPLETE = "complete"
    HEALED = "healed"
    AGGREGATED = "aggregated"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade. Sizes and prices in hundred-millionths (see model.decimals)."""

    id: int
    time_us: int
    price_e8: int
    size_e8: int
    buyer_is_maker: bool


@dataclass(frozen=True, slots=True)
class Quote:
    """The best bid and ask, at our receive time: a spot bookTicker carries no other clock."""

    update_id: int
    received_ns: int
    bid_e8: int
    bid_size_e8: int
    ask_e8: int
    ask_size_e8: int
