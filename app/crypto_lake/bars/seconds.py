"""Trades and quotes of an hour to what each second of it holds: pure, and the same in any order of the input.

A second is its Unix time, an hour the Unix time of its start divided by 3600.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec
import polars as pl

from crypto_lake.bars.columns import AGGREGATE, ARCHIVE, REST
from crypto_lake.model.decimals import ONE_E8
from crypto_lake.model.market import NS_PER_SECOND, US_PER_SECOND

TRADE_SECONDS: Final = pl.Schema(
    {
        "second": pl.Int64(),
        "open": pl.Int128(),
        "high": pl.Int128(),
        "low": pl.Int128(),
        "close": pl.Int128(),
        "volume_base": pl.Int128(),
        "volume_quote": pl.Int128(),
        "trade_count": pl.Int64(),
        "taker_buy_base": pl.Int128(),
        "taker_buy_quote": pl.Int128(),
        "first_trade_id": pl.Int64(),
        "last_trade_id": pl.Int64(),
        "healed": pl.Boolean(),
        "aggregated": pl.Boolean(),
    }
)
MOST_NAMED: Final = 100  # ids of trades whose copies differ; more are counted
QUOTE_SECONDS: Final = pl.Schema(
    {
        "second": pl.Int64(),
        "bid": pl.Int128(),
        "bid_size": pl.Int128(),
        "ask": pl.Int128(),
        "ask_size": pl.Int128(),
        "spread_min": pl.Int128(),
        "spread_mean": pl.Int128(),
        "spread_max": pl.Int128(),
        "quote_updates": pl.Int64(),
    }
)


class Edge(msgspec.Struct, frozen=True, array_like=True):
    """The trade before a span, or the one after it."""

    id: int
    time_us: int

    @property
    def second(self) -> int:
        return self.time_us // US_PER_SECOND


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Two trades that follow each other by id with ids missing between them."""

    before: Edge
    after: Edge


class TradeHour(msgspec.Struct, frozen=True):
    """What the trades of an hour come to. `first` and `last` go by id; None where it has no trade."""

    seconds: pl.DataFrame
    first: Edge | None
    last: Edge | None
    gaps: tuple[Gap, ...]
    trades: int
    duplicates: int
    conflicts: int  # ids of which two copies differ
    conflicting: tuple[int, ...] = ()  # the first of them, MOST_NAMED at most


def trade_hour(trades: pl.DataFrame) -> TradeHour:
    """Trades of one hour (lines.TRADE_SCHEMA, any order, any copies) to its seconds.

    Of an id that comes more than once the copy that is smallest by (source, time, price, size, side) is taken, so
    that the choice does not hang on the order of files. Copies that differ in more than the unit of their time
    are counted as a conflict. Of an aggregate, what is not known trade by trade is one sum: see `_disaggregated`.
    """
    if trades.is_empty():
        return TradeHour(pl.DataFrame(schema=TRADE_SECONDS), None, None, (), 0, 0, 0)
    total = trades.height
    if (trades["source"] == AGGREGATE).any():
        trades = _disaggregated(trades)
    # Already in order, each id once: the common case, and no copy of the columns.
    if trades["id"].is_sorted() and trades["id"].n_unique() == total:
        once, conflicts, conflicting = trades, 0, ()
    else:
        ordered = trades.sort("id", "source", "time_us", "price", "size", "buyer_is_maker")
        again = pl.col("id") == pl.col("id").shift(1)
        differs = again & ~(
            (pl.col("time_us") // 1000 == pl.col("time_us").shift(1) // 1000)
            & (pl.col("price") == pl.col("price").shift(1))
            & (pl.col("size") == pl.col("size").shift(1))
            & (pl.col("buyer_is_maker") == pl.col("buyer_is_maker").shift(1))
        )
        different = ordered.filter(differs)["id"].unique().sort()
        conflicts, conflicting = different.len(), tuple(different.head(MOST_NAMED).to_list())
        once = ordered.filter(~again.fill_null(False))
        del ordered
    step = once.select(
        "id",
        "time_us",
        pl.col("id").shift(1).alias("id_before"),
        pl.col("time_us").shift(1).alias("time_before"),
    ).filter(pl.col("id") - pl.col("id_before") > 1)
    gaps = tuple(
        Gap(Edge(id_before, time_before), Edge(id_, time))
        for id_, time, id_before, time_before in step.iter_rows()
    )
    taken = ~pl.col("buyer_is_maker")
    seconds = (
        once.lazy()
        .select(
            (pl.col("time_us") // US_PER_SECOND).alias("second"),
            "id",
            "price",
            "size",
            # Truncated per trade, as the exchange does. Neither is negative, so floor and truncation agree.
            (pl.col("price") * pl.col("size") // ONE_E8).alias("quote"),
            "buyer_is_maker",
            "source",
        )
        .group_by("second", maintain_order=True)
        .agg(
            pl.col("price").first().alias("open"),
            pl.col("price").max().alias("high"),
            pl.col("price").min().alias("low"),
            pl.col("price").last().alias("close"),
            pl.col("size").sum().alias("volume_base"),
            pl.col("quote").sum().alias("volume_quote"),
            pl.len().cast(pl.Int64).alias("trade_count"),
            pl.col("size").filter(taken).sum().alias("taker_buy_base"),
            pl.col("quote").filter(taken).sum().alias("taker_buy_quote"),
            pl.col("id").first().alias("first_trade_id"),
            pl.col("id").last().alias("last_trade_id"),
            pl.col("source").is_in([REST, ARCHIVE]).any().alias("healed"),
            (pl.col("source") == AGGREGATE).any().alias("aggregated"),
        )
        .sort("second")
        .collect()
        .match_to_schema(TRADE_SECONDS)
    )
    ids, times = once["id"], once["time_us"]
    return TradeHour(
        seconds,
        Edge(ids[0], times[0]),
        Edge(ids[-1], times[-1]),
        gaps,
        once.height,
        total - once.height,
        conflicts,
        conflicting,
    )


def _disaggregated(trades: pl.DataFrame) -> pl.DataFrame:
    """The same trades, of aggregates only those that nothing else tells.

    The first of them bears what is left of the aggregate's size when the trades that are known are taken off, the
    others none: sums over the second come out, and so do prices and counts, for an aggregate's trades share price, time
    and side. A remainder below zero (the exchange contradicts itself) counts as nothing.
    """
    aggregated = pl.col("source") == AGGREGATE
    exact = trades.filter(~aggregated)
    # Each trade as one row, the greatest size first: the row that bears its aggregate's sum.
    parts = (
        trades.filter(aggregated)
        .sort(
            "id", "size", "time_us", "price", "buyer_is_maker", descending=[False, True, False, False, False]
        )
        .unique("id", keep="first", maintain_order=True)
        .with_columns((pl.col("size") >= 0).cum_sum().alias("aggregate"))
    )
    known = (
        exact.sort("id", "source", "time_us", "price", "size", "buyer_is_maker")
        .unique("id", keep="first", maintain_order=True)
        .select("id", pl.col("size").alias("known"))
    )
    left = (
        parts.join(known, on="id", how="left", maintain_order="left")
        .with_columns(
            (pl.col("size").clip(0).sum().over("aggregate") - pl.col("known").sum().over("aggregate")).alias(
                "remainder"
            )
        )
        .filter(pl.col("known").is_null())
        .with_columns(
            pl.when(pl.col("aggregate").is_first_distinct())
            .then(pl.col("remainder").clip(0))
            .otherwise(pl.lit(0, dtype=pl.Int128))
            .alias("size")
        )
        .select(trades.columns)
    )
    return pl.concat([exact, left])


class StandingQuote(msgspec.Struct, frozen=True, array_like=True):
    """The best bid and ask as they stand, in hundred-millionths."""

    bid: int
    bid_size: int
    ask: int
    ask_size: int


class QuoteHour(msgspec.Struct, frozen=True):
    """What the quotes of an hour come to. `max_u`: the greatest update id received up to its end, -1 for none."""

    seconds: pl.DataFrame
    max_u: int
    updates: int
    stale: int  # copies, and updates that came after a later one


@dataclass
class QuoteReducer:
    """Quotes of one hour to its seconds, as they come, in the memory of a few seconds of them.

    An update counts if its `u` is greater than all that were received before it, by (receive time, u, connection).
    Files hold quotes nearly in that order, so all but the last seconds are counted as soon as they are read. A
    quote that comes later than that sets `out_of_order`, and the result is void: read the hour again with
    `hold_seconds=None`, which keeps all of it until the end.
    """

    max_u: int
    hold_seconds: int | None = 5
    out_of_order: bool = False
    updates: int = 0
    stale: int = 0
    _held: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])
    _done: list[pl.DataFrame] = field(default_factory=list[pl.DataFrame])
    _counted_before_ns: int = 0

    def __post_init__(self) -> None:
        self.start_u = self.max_u

    def add(self, quotes: pl.DataFrame) -> None:
        if quotes.is_empty():
            return
        first, last = quotes.select(
            pl.col("received_ns").min().alias("first"), pl.col("received_ns").max().alias("last")
        ).row(0)
        if first < self._counted_before_ns:
            self.out_of_order = True
        self._held.append(quotes)
        if self.hold_seconds is not None:
            self._count((last // NS_PER_SECOND - self.hold_seconds) * NS_PER_SECOND)

    def greatest_u(self) -> int:
        """Of all that was added so far, and of what was before."""
        return max([self.max_u, *(int(held["u"].max() or 0) for held in self._held if held.height)])  # pyright: ignore[reportArgumentType]

    def finish(self) -> QuoteHour:
        self._count(None)
        seconds = pl.concat(self._done) if self._done else pl.DataFrame(schema=QUOTE_SECONDS)
        return QuoteHour(seconds, self.max_u, self.updates, self.stale)

    def _count(self, before_ns: int | None) -> None:
        """Count what was received before a whole second, or everything."""
        if not self._held or (before_ns is not None and before_ns <= self._counted_before_ns):
            return
        held = pl.concat(self._held)
        if before_ns is None:
            ready, self._held = held, []
        else:
            early = pl.col("received_ns") < before_ns
            ready, self._held = held.filter(early), [held.filter(~early)]
            self._counted_before_ns = before_ns
        if ready.is_empty():
            return
        ordered = ready if ready["received_ns"].is_sorted() and _strictly_rising(ready) else _in_order(ready)
        before = pl.col("u").cum_max().shift(1).fill_null(self.max_u)
        counted = ordered.filter((pl.col("u") > before) & (pl.col("u") > self.max_u))
        self.stale += ordered.height - counted.height
        self.updates += counted.height
        if counted.is_empty():
            return
        self.max_u = max(self.max_u, counted["u"][-1])
        self._done.append(_quote_seconds(counted))


def _strictly_rising(quotes: pl.DataFrame) -> bool:
    """With `u` rising strictly and receive times rising, the order is the one that sorting would give."""
    return bool(quotes.select((pl.col("u") > pl.col("u").shift(1)).all()).item())


def _in_order(quotes: pl.DataFrame) -> pl.DataFrame:
    return quotes.sort("received_ns", "u", "connection", "bid", "bid_size", "ask", "ask_size")


def _quote_seconds(quotes: pl.DataFrame) -> pl.DataFrame:
    count = pl.len().cast(pl.Int128)
    return (
        quotes.lazy()
        .select(
            (pl.col("received_ns") // NS_PER_SECOND).alias("second"),
            "bid",
            "bid_size",
            "ask",
            "ask_size",
            (pl.col("ask") - pl.col("bid")).alias("spread"),
        )
        .group_by("second", maintain_order=True)
        .agg(
            pl.col("bid", "bid_size", "ask", "ask_size").last(),
            pl.col("spread").min().alias("spread_min"),
            # Truncated, not floored: a crossed book (negative spread) is treated as any other.
            (pl.col("spread").sum().abs() // count * pl.col("spread").sum().sign()).alias("spread_mean"),
            pl.col("spread").max().alias("spread_max"),
            pl.len().cast(pl.Int64).alias("quote_updates"),
        )
        .collect()
        .match_to_schema(QUOTE_SECONDS)
    )
