"""What raw lines become: columns of trades and quotes, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import polars as pl

# Where a trade was learned from. The smaller is preferred when two copies of one trade say the same.
STREAMED: Final = 0
REST: Final = 1
ARCHIVE: Final = 2
# One of an aggregate's trades. Of these only the sum of the sizes is known: the first of them bears it, and the others
# bear PART_OF_AGGREGATE, until seconds.trade_hour has taken off what is known trade by trade.
AGGREGATE: Final = 3
PART_OF_AGGREGATE: Final = -1

TRADE_SCHEMA: Final = pl.Schema(
    {
        "id": pl.Int64(),
        "time_us": pl.Int64(),
        "price": pl.Int128(),
        "size": pl.Int128(),
        "buyer_is_maker": pl.Boolean(),
        "source": pl.UInt8(),
        "received_ns": pl.Int64(),
        "connection": pl.String(),
        "file": pl.UInt32(),
    }
)
QUOTE_SCHEMA: Final = pl.Schema(
    {
        "received_ns": pl.Int64(),
        "u": pl.Int64(),
        "connection": pl.String(),
        "bid": pl.Int128(),
        "bid_size": pl.Int128(),
        "ask": pl.Int128(),
        "ask_size": pl.Int128(),
        "file": pl.UInt32(),
    }
)


@dataclass(slots=True)
class Parsed:
    """What a run of lines held. `lines`, `skipped` and `klines` count by file; `bad`: file, unreadable line, reason."""

    trades: pl.DataFrame
    quotes: pl.DataFrame
    lines: list[int]
    bad: list[tuple[int, bytes, str]] = field(default_factory=list[tuple[int, bytes, str]])
    skipped: list[int] = field(default_factory=list[int])  # whole and known, and bars don't use them (yet)
    klines: list[int] = field(default_factory=list[int])  # the exchange's own bars: no bar is made of them


def empty_trades() -> pl.DataFrame:
    return pl.DataFrame(schema=TRADE_SCHEMA)


def empty_quotes() -> pl.DataFrame:
    return pl.DataFrame(schema=QUOTE_SCHEMA)
