"""What is told of a bar: the trades and quotes it was made of, and their sum once more, by plain integers. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from crypto_lake.model.decimals import format_e8

SCHEMA: Final = 1


class LineTold(msgspec.Struct, frozen=True):
    """A raw line: its file (below the data directory), the number of its frame and of the line in the file, from 1."""

    file: str
    frame: int
    line: int
    received_ns: int
    connection: str
    source: str


class TradeTold(msgspec.Struct, frozen=True):
    """A trade of the bar. quote: price x size, truncated. lines: that say it; the first one counted."""

    id: int
    time_us: int
    price: str
    size: str
    quote: str
    taker: str  # buys, sells
    lines: list[LineTold]


class QuoteTold(msgspec.Struct, frozen=True):
    """A best quote received in the bar's second. counted: False for a copy, or one that a later one overtook."""

    update_id: int
    bid: str
    bid_size: str
    ask: str
    ask_size: str
    counted: bool
    line: LineTold


class FieldTold(msgspec.Struct, frozen=True):
    """A field of the bar as it stands in the file, and as its trades and quotes add up; null: it has no value."""

    name: str
    bar: str | None
    added_up: str | None

    @property
    def agrees(self) -> bool:
        return self.bar == self.added_up


class Explanation(msgspec.Struct, frozen=True):
    """bar: the row as it stands in its file, null where there is none. missing: raw that the bar was made of and that is
    no longer here: then not all can be shown, and nothing is said to disagree. Fields are added, never renamed.
    """

    schema: int
    exchange: str
    symbol: str
    second: str
    bars_file: str
    bar: dict[str, str | None] | None
    trades: list[TradeTold]
    quotes: list[QuoteTold]
    fields: list[FieldTold]
    missing: list[str]
    files_read: list[str]
    verdict: str | None = None  # of the last check against the exchange's kline; null: not checked yet

    @property
    def agrees(self) -> bool:
        return all(one.agrees for one in self.fields)


def fields_of(
    bar: dict[str, str | None], trades: list[TradeTold], quotes: list[QuoteTold]
) -> list[FieldTold]:
    """Every field beside its sum. Of a second without trades, or without quotes, what stands from before is not summed."""
    added = {**_sum_trades(bar, trades), **_sum_quotes([quote for quote in quotes if quote.counted])}
    return [FieldTold(name, bar[name], value) for name, value in added.items()]


def _e8(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction)  # they all have eight decimals


def _sum_trades(bar: dict[str, str | None], trades: list[TradeTold]) -> dict[str, str | None]:
    base = quote = taker_base = taker_quote = 0
    high = low = None
    for trade in trades:
        price, size, product = _e8(trade.price), _e8(trade.size), _e8(trade.quote)
        high = price if high is None else max(high, price)
        low = price if low is None else min(low, price)
        base += size
        quote += product
        if trade.taker == "buys":
            taker_base += size
            taker_quote += product
    prices: dict[str, str | None] = {}
    if trades and high is not None and low is not None:
        prices = {
            "open": trades[0].price,
            "high": format_e8(high),
            "low": format_e8(low),
            "close": trades[-1].price,
        }
    else:  # the close before stands in all four
        prices = dict.fromkeys(("open", "high", "low"), bar["close"])
    return prices | {
        "volume_base": format_e8(base),
        "volume_quote": format_e8(quote),
        "trade_count": str(len(trades)),
        "taker_buy_base": format_e8(taker_base),
        "taker_buy_quote": format_e8(taker_quote),
        "first_trade_id": str(trades[0].id) if trades else None,
        "last_trade_id": str(trades[-1].id) if trades else None,
    }


def _sum_quotes(quotes: list[QuoteTold]) -> dict[str, str | None]:
    if not quotes:  # the quote before stands
        return {"spread_min": None, "spread_mean": None, "spread_max": None, "quote_updates": "0"}
    spreads = [_e8(quote.ask) - _e8(quote.bid) for quote in quotes]
    total = sum(spreads)
    mean = abs(total) // len(spreads) * (-1 if total < 0 else 1)
    last = quotes[-1]
    return {
        "bid": last.bid,
        "bid_size": last.bid_size,
        "ask": last.ask,
        "ask_size": last.ask_size,
        "spread_min": format_e8(min(spreads)),
        "spread_mean": format_e8(mean),
        "spread_max": format_e8(max(spreads)),
        "quote_updates": str(len(quotes)),
    }
