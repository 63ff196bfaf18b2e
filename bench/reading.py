"""One-second bars to candles: through Lake and through SQL, against bare DuckDB on the same files, in one run.

    python bench/reading.py [--days 30] [--symbols 13] [--rounds 9]

Made-up bars of so many days, in files as the transformer writes them, are rolled up

- of one symbol to one-minute candles (2.6 million rows of 30 days),
- of all symbols to hourly ones.

Wall time and CPU time are medians of `--rounds` rounds, each contender in turn, warm, all in one process; memory is the peak
(RSS) of a process of its own that does it once, its imports included. All must give the same candles.

`bare DuckDB` is what one writes by hand for the same answer: read_parquet on a list of paths, the open of the first trade by
id, high and low of seconds with trades, the close of the last. `bare, simpler` takes first and last by time and all seconds'
highs and lows, which is wrong where an interval begins with seconds without a trade; it has no target. `unpacked only` is the
floor: bare DuckDB reads the same columns and groups nothing.

Ends with 1 where Lake or SQL is slower than bare DuckDB by more than a tenth, and over 60 ms (one symbol).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl

from crypto_lake import Lake
from crypto_lake.bars import table
from crypto_lake.bars.rows import BAR_SCHEMA
from crypto_lake.lake.layout import Layout

FIRST_DAY = datetime(2024, 8, 1, tzinfo=UTC)
COLUMNS = ["window_start", "open", "high", "low", "close", "volume_base"]
TARGET_SECONDS = 0.060
TOLERANCE = 1.10
FLOOR = "unpacked only"
NO_CANDLES = ("bare, simpler", FLOOR)
BY_IDS = """arg_min(open, first_trade_id) AS open, max(high) FILTER (trade_count > 0) AS high,
  min(low) FILTER (trade_count > 0) AS low, arg_max(close, last_trade_id) AS close, sum(volume_base) AS volume_base"""
SIMPLER = """arg_min(open, window_start) AS open, max(high) AS high, min(low) AS low, arg_max(close, window_start) AS close,
  sum(volume_base) AS volume_base"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--symbols", type=int, default=13)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--once", nargs=3, metavar=("LAKE", "WORK", "CONTENDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        once(*options.once)
        return
    missed = False
    with tempfile.TemporaryDirectory(prefix="reading-") as folder:
        root = Path(folder)
        symbols = [f"COIN{number:02d}USDT" for number in range(options.symbols)]
        make(root, symbols, options.days)
        for work in ("one", "all"):
            rows = 86400 * options.days * (1 if work == "one" else len(symbols))
            print(
                f"\n{rows:,} rows of {1 if work == 'one' else len(symbols)} symbol(s) to {'1m' if work == 'one' else '1h'}"
            )
            missed |= compare(root, work, options.rounds)
    raise SystemExit(1 if missed else 0)


def compare(root: Path, work: str, rounds: int) -> bool:
    """Print the table of one workload; whether a target was missed."""
    contenders = contenders_of(root, work)
    answers = {
        name: run() if name == FLOOR else run().sort("window_start", *(["symbol"] if work == "all" else []))
        for name, run in contenders.items()
    }
    truth = answers["bare DuckDB"]
    for name, answer in answers.items():
        assert name in NO_CANDLES or answer.equals(truth), f"{name} gives other candles"
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            began, used = time.perf_counter(), time.process_time()
            run()
            wall[name].append(time.perf_counter() - began)
            cpu[name].append(time.process_time() - used)
    bare_wall, bare_cpu = (statistics.median(of["bare DuckDB"]) for of in (wall, cpu))
    print(f"{'':16}{'wall ms':>9}{'ratio':>7}{'CPU ms':>9}{'ratio':>7}{'peak MB':>9}")
    missed = False
    for name in contenders:
        took, used = statistics.median(wall[name]), statistics.median(cpu[name])
        print(
            f"{name:16}{took * 1000:>9.0f}{took / bare_wall:>7.2f}{used * 1000:>9.0f}{used / bare_cpu:>7.2f}"
            f"{peak_mb(root, work, name):>9.0f}"
        )
        # CPU as well: on a machine that others use the wall tells of them.
        slower = took > TOLERANCE * bare_wall and used > TOLERANCE * bare_cpu
        missed |= name in ("Lake", "SQL view", "SQL macro") and slower and took > TARGET_SECONDS
    return missed


def contenders_of(root: Path, work: str) -> dict[str, Callable[[], pl.DataFrame]]:
    lake = Lake(root)
    symbols = lake.symbols() if work == "all" else lake.symbols()[:1]
    every, interval = ("1h", "1 hour") if work == "all" else ("1m", "1 minute")
    columns = [*COLUMNS, "symbol"] if work == "all" else COLUMNS
    names = ", ".join(columns)
    files = [
        str(Layout(root).bars("binance", symbol, day)) for symbol in symbols for day in lake.days(symbol)
    ]
    bare, ours = duckdb.connect(), lake.connect()
    bare.execute("SET TimeZone = 'UTC'")

    def by_hand(what: str) -> Callable[[], pl.DataFrame]:
        keys = "window_start, symbol" if work == "all" else "window_start"
        sql = (
            f"SELECT {names} FROM (SELECT time_bucket(INTERVAL {interval!r}, window_start) AS window_start, "
            f"{'symbol, ' if work == 'all' else ''}{what} FROM read_parquet({files!r}) "
            f"GROUP BY ALL) ORDER BY {keys}"
        )
        return lambda: utc(bare.sql(sql).pl())

    listed = ", ".join(f"'{symbol}'" for symbol in symbols)
    order = "window_start, symbol" if work == "all" else "window_start"
    view = f"SELECT {names} FROM bars_{every} WHERE symbol IN ({listed}) ORDER BY {order}"
    macro = f"SELECT {names} FROM bars('{','.join(symbols)}', every := '{every}')"
    read = ("window_start", "open", "high", "low", "close", "volume_base", "first_trade_id", "last_trade_id")
    unpacked = f"SELECT {', '.join(f'max({name})' for name in read)} FROM read_parquet({files!r})"
    return {
        "bare DuckDB": by_hand(BY_IDS),
        FLOOR: lambda: bare.sql(unpacked).pl(),
        "bare, simpler": by_hand(SIMPLER),
        "Lake": lambda: lake.bars(symbols, every=every, columns=columns).collect(),
        "SQL view": lambda: utc(ours.sql(view).pl()),
        "SQL macro": lambda: utc(ours.sql(macro).pl()),
    }


def utc(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("window_start").dt.convert_time_zone("UTC"))


def peak_mb(root: Path, work: str, name: str) -> float:
    command = [sys.executable, __file__, "--once", str(root), work, name]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def once(root: str, work: str, name: str) -> None:
    contenders_of(Path(root), work)[name]()
    # Not ru_maxrss: that begins with what the process that started this one had.
    (peak,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    print(json.dumps(int(peak.split()[1]) / 1024))


def make(root: Path, symbols: list[str], days: int) -> None:
    """Seconds with trades four times out of five, in a walk of prices."""
    rng = np.random.default_rng(1)
    id_, price = 1000, 6_183_700_000_000
    for number in range(days):
        day = FIRST_DAY + timedelta(days=number)
        rows, id_, price = day_of(rng, day, id_, price)
        for symbol in symbols:
            path = Layout(root).bars("binance", symbol, f"{day:%Y-%m-%d}")
            table.write(path, rows.with_columns(pl.lit(symbol).alias("symbol")), {})


def day_of(rng: np.random.Generator, day: datetime, id_: int, price: int) -> tuple[pl.DataFrame, int, int]:
    n = 86400
    count = rng.poisson(8, n) * (rng.random(n) > 0.2)
    close = price + np.cumsum(np.where(count > 0, rng.integers(-30, 31, n) * 1_000_000, 0))
    opened = np.concatenate([[price], close[:-1]]) + np.where(
        count > 0, rng.integers(-3, 4, n) * 1_000_000, 0
    )
    high = np.maximum(opened, close) + np.where(count > 1, rng.integers(0, 5, n) * 1_000_000, 0)
    low = np.minimum(opened, close) - np.where(count > 1, rng.integers(0, 5, n) * 1_000_000, 0)
    volume = np.where(count > 0, rng.integers(1, 50_000, n) * 1000, 0)
    quote = volume * (close // 10**8)
    taken = rng.random(n)
    last = id_ + np.cumsum(count) - 1
    decimals: dict[str, Any] = {
        "open": opened,
        "high": high,
        "low": low,
        "close": close,
        "volume_base": volume,
        "volume_quote": quote,
        "taker_buy_base": (volume * taken).astype(np.int64),
        "taker_buy_quote": (quote * taken).astype(np.int64),
        "bid": close - 500_000,
        "bid_size": rng.integers(1, 900, n) * 1_000_000,
        "ask": close + 500_000,
        "ask_size": rng.integers(1, 900, n) * 1_000_000,
        "spread_min": np.full(n, 1_000_000),
        "spread_mean": 1_000_000 + rng.integers(0, 1000, n),
        "spread_max": rng.integers(1, 4, n) * 1_000_000,
    }
    kind = pl.Decimal(38, 8)
    traded = pl.col("trade_count") > 0
    rows = (
        pl.DataFrame(
            {
                "window_start": np.arange(n) * 10**6 + int(day.timestamp()) * 10**6,
                "trade_count": count,
                "first_trade_id": last - count + 1,
                "last_trade_id": last,
                "quote_updates": rng.poisson(12, n),
                **decimals,
            }
        )
        .with_columns(
            pl.col("window_start").cast(pl.Datetime("us", "UTC")),
            pl.when(traded).then("first_trade_id").alias("first_trade_id"),
            pl.when(traded).then("last_trade_id").alias("last_trade_id"),
            *(
                (pl.col(name).cast(pl.Decimal(38, 0)) * pl.lit(Decimal("0.00000001"), dtype=kind)).cast(kind)
                for name in decimals
            ),
            pl.lit("binance").alias("exchange"),
            pl.lit("").alias("symbol"),
            pl.lit("complete").alias("state"),
        )
        .select(BAR_SCHEMA.names())
        .match_to_schema(BAR_SCHEMA)
    )
    return rows, int(last[-1]) + 1, int(close[-1])


if __name__ == "__main__":
    main()
