"""The exchange's own bars as a table, with the names that ours have. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import polars as pl

from crypto_lake.exchanges.base import KlineRow

__all__ = ["FIELDS", "KLINE_SCHEMA", "KlineRow", "decimal", "table"]

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
)


def table(klines: Iterable[KlineRow]) -> pl.DataFrame:
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
