"""Raw lines to columns of trades and quotes.

Lines of the exact shape in which the exchange writes its messages are read many at a time (`straight`); any other
line (another order of the fields, blanks, a trade fetched over REST) is read as JSON, one by one (`each`). Both ways give
the same columns. What is neither is returned with its reason, never dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from crypto_lake.bars.columns import QUOTE_SCHEMA, STREAMED, TRADE_SCHEMA, Parsed, empty_quotes, empty_trades
from crypto_lake.bars.each import parse_each
from crypto_lake.bars.straight import Ints, Straight, read_straight
from crypto_lake.bars.template import Template


def parse(text: bytes, template: Template) -> Parsed:
    """Read whole lines."""
    return parse_files([text], template)


def parse_files(texts: Sequence[bytes], template: Template) -> Parsed:
    """Read whole lines of several files at once; the columns' `file` is the place in `texts`.

    Each text ends with a newline. Rows come by file, and in the order of its lines but for those that
    were read as JSON, which come last.
    """
    read = read_straight(texts, template)
    text_ends = np.cumsum([len(text) for text in texts])
    file_of = np.searchsorted(text_ends, read.ends, side="right")
    trades, quotes = _frames(read, file_of)
    counts = np.bincount(np.delete(file_of, read.odd), minlength=len(texts)).tolist()
    klines = np.bincount(file_of[read.klines], minlength=len(texts)).tolist()
    if not len(read.odd):
        return Parsed(trades, quotes, counts, [], [0] * len(texts), klines)
    ends, starts = read.ends, np.concatenate(([0], read.ends[:-1] + 1))
    joined = b"".join(texts) if len(texts) > 1 else texts[0]
    odd = [joined[starts[line] : ends[line]] for line in read.odd.tolist()]
    others = parse_each(odd, file_of[read.odd].tolist(), len(texts), template)
    return Parsed(
        pl.concat([trades, others.trades]).sort("file", maintain_order=True),
        pl.concat([quotes, others.quotes]).sort("file", maintain_order=True),
        [first + second for first, second in zip(counts, others.lines, strict=True)],
        others.bad,
        others.skipped,
        [first + second for first, second in zip(klines, others.klines, strict=True)],
    )


def _frames(read: Straight, file_of: Ints) -> tuple[pl.DataFrame, pl.DataFrame]:
    names = pl.Series(read.connections, dtype=pl.String)

    def connections(places: Ints) -> pl.Series:
        if len(read.connections) == 1:
            return pl.repeat(read.connections[0], len(places), dtype=pl.String, eager=True)
        return names.gather(pl.Series(places))

    t, q = read.trades, read.quotes
    trades, quotes = empty_trades(), empty_quotes()
    if len(t.line):
        trades = pl.DataFrame(
            {
                "id": t.id,
                "time_us": t.time_us,
                "price": t.price_e8,
                "size": t.size_e8,
                "buyer_is_maker": t.buyer_is_maker,
                "source": pl.repeat(STREAMED, len(t.line), dtype=pl.UInt8, eager=True),
                "received_ns": t.received_ns,
                "connection": connections(t.connection),
                "file": file_of[t.line],
            }
        ).cast(TRADE_SCHEMA)
    if len(q.line):
        quotes = pl.DataFrame(
            {
                "received_ns": q.received_ns,
                "u": q.u,
                "connection": connections(q.connection),
                "bid": q.bid_e8,
                "bid_size": q.bid_size_e8,
                "ask": q.ask_e8,
                "ask_size": q.ask_size_e8,
                "file": file_of[q.line],
            }
        ).cast(QUOTE_SCHEMA)
    return trades, quotes
