"""The exchange's own bars as a table, with the names that ours have, and which of them to ask for. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import polars as pl

from crypto_lake.exchanges.base import KlineRow
from crypto_lake.model.market import US_PER_SECOND

__all__ = ["FIELDS", "KLINE_SCHEMA", "KlineRow", "Source", "chosen", "decimal", "revised", "spans", "table"]


class Source(StrEnum):
    """Where a kline came from. stream: closed, as it was received beside the trades. rest: asked for."""

    STREAM = "stream"
    REST = "rest"


_NUMBER: Final = pl.Decimal(38, 8)
# What trades alone make: what can be compared. `quote` fields go by price x size.
FIELDS: Final = (
    "open",
    "high",
    "low",
    "close",
    "volume_base",
    "volume_quote",
    "trade_count",
    "taker_buy_base",
    "taker_buy_quote",
)
KLINE_SCHEMA: Final = pl.Schema(
    {"window_start": pl.Datetime("us", "UTC")}
    | {name: pl.Int64() if name == "trade_count" else _NUMBER for name in FIELDS}
    | {"source": pl.String()}
)


def table(klines: Iterable[KlineRow], source: Source = Source.REST) -> pl.DataFrame:
    """KLINE_SCHEMA, sorted, a second once (the exchange's later answer counts)."""
    rows = [
        (
            kline.open_us,
            kline.open_e8,
            kline.high_e8,
            kline.low_e8,
            kline.close_e8,
            kline.volume_base_e8,
            kline.volume_quote_e8,
            kline.trade_count,
            kline.taker_base_e8,
            kline.taker_quote_e8,
        )
        for kline in klines
    ]
    integers = {"window_start": pl.Int64()} | {
        name: pl.Int64() if name == "trade_count" else pl.Int128() for name in FIELDS
    }
    return (
        pl.DataFrame(rows, schema=integers, orient="row")
        .unique("window_start", keep="last", maintain_order=True)
        .sort("window_start")
        .with_columns(
            pl.col("window_start").cast(pl.Datetime("us", "UTC")),
            *(decimal(name) for name in FIELDS if name != "trade_count"),
            pl.lit(source.value).alias("source"),
        )
        .match_to_schema(KLINE_SCHEMA)
    )


def decimal(name: str) -> pl.Expr:
    """A column of hundred-millionths as the decimal it stands for, exactly."""
    return (
        (pl.col(name).cast(pl.Decimal(38, 0)) * pl.lit("0.00000001").cast(pl.Decimal(9, 8)))
        .cast(_NUMBER)
        .alias(name)
    )


def chosen(streamed: pl.DataFrame, answered: pl.DataFrame, asked: Sequence[tuple[int, int]]) -> pl.DataFrame:
    """One kline a second: in `asked` (Unix seconds, end excluded) REST's, for it was asked last; elsewhere the stream's.

    A second of `asked` of which REST has no kline has none.
    """
    second = pl.col("window_start").dt.epoch("us") // US_PER_SECOND
    inside = pl.any_horizontal(pl.lit(False), *((second >= start) & (second < end) for start, end in asked))
    return pl.concat([streamed.filter(~inside), answered.filter(inside)]).sort("window_start")


def revised(streamed: pl.DataFrame, answered: pl.DataFrame) -> int:
    """Of how many seconds REST tells another kline than the stream did."""
    both = streamed.join(answered, on="window_start", suffix="_rest")
    return both.filter(pl.any_horizontal(pl.col(name) != pl.col(f"{name}_rest") for name in FIELDS)).height


def spans(seconds: Iterable[int], most: int) -> list[tuple[int, int]]:
    """As few spans (end excluded) of `most` seconds or fewer as hold all of these, none longer than it need be."""
    found: list[tuple[int, int]] = []
    for second in sorted(seconds):
        if found and second < found[-1][0] + most:
            found[-1] = (found[-1][0], max(found[-1][1], second + 1))
        else:
            found.append((second, second + 1))
    return found
