"""A recording of the exchange, and its own klines of that time; see `CRYPTO_LAKE_RECORDED_DATA` in CONTRIBUTING.md."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

SYMBOL = "BTCUSDT"
FIELDS = ("open", "high", "low", "close", "volume")


def folder() -> Path:
    """Skips where there is none."""
    named = os.environ.get("CRYPTO_LAKE_RECORDED_DATA")
    if not named:
        pytest.skip("CRYPTO_LAKE_RECORDED_DATA is not set: it names the folder of recorded market data")
    return Path(named) / "binance-spot"


def messages(recorded: Path) -> Iterator[tuple[int, bytes]]:
    """Receive time and message, of trades and best quotes."""
    for path in sorted(recorded.glob("btcusdt_*.gz")):
        with gzip.open(path, "rb") as file:
            for line in file:
                received, _, message = line.rstrip(b"\n").partition(b" ")
                if b'"stream":"btcusdt@trade"' in message or b'"stream":"btcusdt@bookTicker"' in message:
                    yield int(received), message


def compared(bars: pl.DataFrame, recorded: Path, interval: str, first: int, last: int) -> dict[int, bool]:
    """Whole intervals between two Unix seconds, by their start: whether all five fields equal the exchange's."""
    klines = pl.read_csv(recorded / f"{SYMBOL}-{interval}-klines-2024-08-08.csv", infer_schema=False).select(
        pl.col("date").str.to_datetime(time_unit="us", time_zone="UTC"),
        *(pl.col(name).cast(pl.Decimal(38, 8)).alias(f"{name}_theirs") for name in FIELDS),
    )
    ours = bars.group_by_dynamic("window_start", every=interval).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume_base").sum().alias("volume"),
    )
    seconds = {"1m": 60, "5m": 300}[interval]
    start = pl.col("window_start").dt.epoch("s")
    both = ours.filter((start > first) & (start + seconds <= last)).join(
        klines, left_on="window_start", right_on="date"
    )
    equal = pl.all_horizontal([pl.col(name) == pl.col(f"{name}_theirs") for name in FIELDS])
    return dict(both.select(start, equal.alias("equal")).iter_rows())
