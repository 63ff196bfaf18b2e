"""What each second holds, and what came before and after, to the rows of an hour of bars. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final

import polars as pl

from crypto_lake.bars.seconds import Edge, Gap, StandingQuote
from crypto_lake.model.intervals import IntervalSet
from crypto_lake.model.market import US_PER_SECOND, BarState

HOUR_SECONDS: Final = 3600
_PRICE: Final = pl.Decimal(38, 8)
_EXACT: Final = Context(prec=40)

BAR_SCHEMA: Final = pl.Schema(
    {
        "exchange": pl.String(),
        "symbol": pl.String(),
        "window_start": pl.Datetime("us", "UTC"),
        "open": _PRICE,
        "high": _PRICE,
        "low": _PRICE,
        "close": _PRICE,
        "volume_base": _PRICE,
        "volume_quote": _PRICE,
        "trade_count": pl.Int64(),
        "taker_buy_base": _PRICE,
        "taker_buy_quote": _PRICE,
        "first_trade_id": pl.Int64(),
        "last_trade_id": pl.Int64(),
        "bid": _PRICE,
        "bid_size": _PRICE,
        "ask": _PRICE,
        "ask_size": _PRICE,
        "spread_min": _PRICE,
        "spread_mean": _PRICE,
        "spread_max": _PRICE,
        "quote_updates": pl.Int64(),
        "state": pl.String(),
    }
)
_PRICES: Final = [name for name, kind in BAR_SCHEMA.items() if kind == _PRICE]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an hour's rows need to know of the hours around it.

    before, close: the last trade before the hour and the price of the last bar; None where no trade is known.
    after: the next trade after the hour, None while none is known.
    quote: the standing quote at the hour's start.
    reach: after the last trade known of the symbol, seconds below this one may be written: the exchange's clock
        was seen past them over a connection that did not break since. Only used where `after` is None.
    """

    before: Edge | None = None
    close: int | None = None
    after: Edge | None = None
    quote: StandingQuote | None = None
    reach: int = 0


@dataclass(frozen=True, slots=True)
class HourRows:
    """`rows`: BAR_SCHEMA, sorted. `close` and `quote` stand at its end. `holes`: gaps with ids still missing."""

    rows: pl.DataFrame
    close: int | None
    quote: StandingQuote | None
    holes: tuple[Gap, ...]


def all_gaps(
    first: Edge | None, last: Edge | None, gaps: Sequence[Gap], around: Surroundings
) -> tuple[Gap, ...]:
    """Gaps within an hour, and those between it and the trades around it."""
    found = list(gaps)
    if first is None or last is None:
        if around.before and around.after and around.after.id > around.before.id + 1:
            found.append(Gap(around.before, around.after))
        return tuple(found)
    if around.before and first.id > around.before.id + 1:
        found.append(Gap(around.before, first))
    if around.after and around.after.id > last.id + 1:
        found.append(Gap(last, around.after))
    return tuple(found)


def open_gaps(gaps: Iterable[Gap], known: IntervalSet) -> tuple[Gap, ...]:
    """Those of which an id is missing from `known`, too (a trade may bear the time of a neighbouring hour)."""
    return tuple(gap for gap in gaps if not _filled(gap, known))


def _filled(gap: Gap, known: IntervalSet) -> bool:
    at = gap.before.id + 1
    for interval in known:
        if interval.last < at:
            continue
        return interval.first <= at and interval.last >= gap.after.id - 1
    return False


def hour_rows(
    exchange: str,
    symbol: str,
    hour: int,
    trades: pl.DataFrame,
    quotes: pl.DataFrame,
    holes: Sequence[Gap],
    first: Edge | None,
    last: Edge | None,
    around: Surroundings,
) -> HourRows:
    """Rows of one hour. `trades` and `quotes`: seconds.TRADE_SECONDS and QUOTE_SECONDS; `hour`: Unix hours.

    A second has a row if it has a trade; or if it lies between two trades and no id is missing there; or if it
    comes after the last trade known and within reach. A row is incomplete if its second touches a hole, if it is
    the first ever, or if no later trade is known.
    """
    start, end = hour * HOUR_SECONDS, (hour + 1) * HOUR_SECONDS
    # The first second that may have a row, and the first that may not.
    lower = start if around.before else (first.second if first else end)
    trade_seconds = trades["second"]
    last_second = trade_seconds[-1] if len(trade_seconds) else (around.before.second if around.before else -1)
    upper = end if around.after else min(end, max(last_second + 1, around.reach))
    if trades.is_empty() and quotes.is_empty() and not holes:
        rows = _quiet_rows(exchange, symbol, range(lower, upper), last_second, around)
        return HourRows(rows, around.close, around.quote, ())
    if trades.is_empty() and quotes.is_empty() and any(_covers(hole, start, end) for hole in holes):
        # Between history that was fetched and what is collected now may lie months.
        return HourRows(pl.DataFrame(schema=BAR_SCHEMA), around.close, around.quote, tuple(holes))
    # Trades may, against all experience, bear times that run against their ids: then a second before the first
    # trade's has trades, and gets its row.
    touched = pl.Series("touched", _cover(start, holes, inclusive=True), pl.Boolean)
    unknown = pl.Series("unknown", _cover(start, holes, inclusive=False), pl.Boolean)
    grid = (
        pl.DataFrame({"second": pl.int_range(start, end, dtype=pl.Int64, eager=True)})
        .with_columns(touched, unknown)
        .join(trades, on="second", how="left", maintain_order="left")
        .join(quotes, on="second", how="left", maintain_order="left")
    )
    quote = around.quote
    grid = grid.with_columns(
        pl.col("close").forward_fill().fill_null(_int128(around.close)),
        *(
            pl.col(name)
            .forward_fill()
            .fill_null(_int128(getattr(quote, name) if quote is not None else None))
            for name in ("bid", "bid_size", "ask", "ask_size")
        ),
        pl.col("trade_count").is_null().alias("empty"),
    )
    end_close, *end_quote = grid.select("close", "bid", "bid_size", "ask", "ask_size").row(-1)
    first_second = first.second if around.before is None and first else -1
    empty, second = pl.col("empty"), pl.col("second")
    incomplete = (
        pl.when(empty)
        .then(pl.lit(not around.after) & (second > last_second))
        .otherwise(
            pl.col("touched")
            | (second == first_second)
            | (pl.lit(not around.after) & (second == last_second))
        )
    )
    rows = (
        grid.filter(~empty | (~pl.col("unknown") & (second >= lower) & (second < upper)))
        .with_columns(
            pl.col("open", "high", "low").fill_null(pl.col("close")),
            pl.col("volume_base", "volume_quote", "taker_buy_base", "taker_buy_quote").fill_null(_int128(0)),
            pl.col("trade_count", "quote_updates").fill_null(0),
            pl.when(incomplete)
            .then(pl.lit(BarState.INCOMPLETE.value))
            .when(pl.col("aggregated").fill_null(False))
            .then(pl.lit(BarState.AGGREGATED.value))
            .when(pl.col("healed").fill_null(False))
            .then(pl.lit(BarState.HEALED.value))
            .otherwise(pl.lit(BarState.COMPLETE.value))
            .alias("state"),
            pl.lit(exchange).alias("exchange"),
            pl.lit(symbol).alias("symbol"),
            (second * US_PER_SECOND).cast(pl.Datetime("us", "UTC")).alias("window_start"),
        )
        .with_columns(_decimal(name) for name in _PRICES)
        .select(BAR_SCHEMA.names())
        .match_to_schema(BAR_SCHEMA)
    )
    return HourRows(
        rows,
        end_close,
        None if end_quote[0] is None else StandingQuote(*end_quote),
        tuple(holes),
    )


def _quiet_rows(
    exchange: str, symbol: str, seconds: range, last_second: int, around: Surroundings
) -> pl.DataFrame:
    """Rows of an hour in which nothing came: the same as below, at a fraction of the cost (most hours of a day)."""
    if not seconds:
        return pl.DataFrame(schema=BAR_SCHEMA)
    quote = around.quote
    values: dict[str, int | None] = dict.fromkeys(("open", "high", "low", "close"), around.close)
    values |= dict.fromkeys(("volume_base", "volume_quote", "taker_buy_base", "taker_buy_quote"), 0)
    for name in ("bid", "bid_size", "ask", "ask_size"):
        values[name] = getattr(quote, name) if quote is not None else None
    second = pl.int_range(seconds.start, seconds.stop, dtype=pl.Int64)
    unknown = second > last_second if around.after is None else pl.lit(False)
    made = [
        pl.lit(exchange).alias("exchange"),
        pl.lit(symbol).alias("symbol"),
        (second * US_PER_SECOND).cast(pl.Datetime("us", "UTC")).alias("window_start"),
        *(pl.lit(_exact(value), dtype=_PRICE).alias(name) for name, value in values.items()),
        *(pl.lit(0, dtype=pl.Int64).alias(name) for name in ("trade_count", "quote_updates")),
        *(pl.lit(None, dtype=pl.Int64).alias(name) for name in ("first_trade_id", "last_trade_id")),
        *(pl.lit(None, dtype=_PRICE).alias(name) for name in ("spread_min", "spread_mean", "spread_max")),
        pl.when(unknown)
        .then(pl.lit(BarState.INCOMPLETE.value))
        .otherwise(pl.lit(BarState.COMPLETE.value))
        .alias("state"),
    ]
    return pl.select(made).select(BAR_SCHEMA.names()).match_to_schema(BAR_SCHEMA)


def _exact(value: int | None) -> Decimal | None:
    return None if value is None else Decimal(value).scaleb(-8, _EXACT)


def _covers(hole: Gap, start: int, end: int) -> bool:
    """Whether nothing is known of all seconds from start to end (excluded)."""
    low, high = sorted((hole.before.second, hole.after.second))
    return low < start and high >= end


def _cover(start: int, holes: Sequence[Gap], *, inclusive: bool) -> list[bool]:
    """For each second of the hour, whether it lies in a hole; with `inclusive`, or at the edge of one."""
    change = [0] * (HOUR_SECONDS + 1)
    for hole in holes:
        low, high = sorted((hole.before.second, hole.after.second))
        low, past = (low, high + 1) if inclusive else (low + 1, high)
        low, past = max(low - start, 0), min(past - start, HOUR_SECONDS)
        if low < past:
            change[low] += 1
            change[past] -= 1
    depth, covered = 0, list[bool]()
    for step in change[:HOUR_SECONDS]:
        depth += step
        covered.append(depth > 0)
    return covered


def _int128(value: int | None) -> pl.Expr:
    return pl.lit(value, dtype=pl.Int128)


def _decimal(name: str) -> pl.Expr:
    """Hundred-millionths as Decimal(38,8), exactly: times 0.00000001, not by way of a float."""
    return (pl.col(name).cast(pl.Decimal(38, 0)) * pl.lit(Decimal("0.00000001"), dtype=_PRICE)).cast(_PRICE)
