"""A recording of the exchange against its own klines: bars go by the time of the trade."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from crypto_lake.bars.transform import transform
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import envelope
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import PartWriter
from crypto_lake.model.clock import Hour
from support.recorded import SYMBOL, compared, folder, messages


@pytest.fixture(scope="module")
def recorded() -> Path:
    return folder()


def store(layout: Layout, recorded: Path) -> None:
    compressor = FrameCompressor()
    parts: dict[tuple[Hour, int], list[bytes]] = {}
    for received_ns, message in messages(recorded):
        key = (Hour.of_ns(received_ns), received_ns // (60 * 10**9))
        parts.setdefault(key, []).append(envelope.encode(received_ns, "c-1", message))
    for number, ((hour, _), lines) in enumerate(parts.items(), start=1):
        writer = PartWriter(layout.part("binance", SYMBOL, hour, number))
        writer.append(b"".join(lines), compressor)
        writer.close()


def agreement(bars: pl.DataFrame, recorded: Path, interval: str, first: int, last: int) -> tuple[int, int]:
    """How many whole intervals equal the exchange's, of how many."""
    found = compared(bars, recorded, interval, first, last)
    return sum(found.values()), len(found)


def by_receive_time(recorded: Path) -> pl.DataFrame:
    """What bars would be if they went by our clock: the recorder's stood 1.27 s behind the exchange's."""
    rows = [
        (
            received_ns // 10**9,
            BINANCE.head(message).trade_id,
            *(message.split(b'"')[i].decode() for i in (21, 25)),
        )
        for received_ns, message in messages(recorded)
        if b"@trade" in message
    ]
    frame = pl.DataFrame(rows, schema=["second", "id", "p", "q"], orient="row").sort("id")
    return (
        frame.with_columns(pl.col("p", "q").cast(pl.Decimal(38, 8)))
        .group_by("second", maintain_order=True)
        .agg(
            pl.col("p").first().alias("open"),
            pl.col("p").max().alias("high"),
            pl.col("p").min().alias("low"),
            pl.col("p").last().alias("close"),
            pl.col("q").sum().alias("volume_base"),
        )
        .with_columns((pl.col("second") * 10**6).cast(pl.Datetime("us", "UTC")).alias("window_start"))
        .sort("window_start")
    )


def test_bars_equal_the_exchanges_klines(recorded: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    store(layout, recorded)
    report = transform(layout, "binance")
    assert (report.trades, report.unreadable, report.holes) == (19_904, 0, 0)
    files = sorted((tmp_path / "parquet" / "binance" / SYMBOL).rglob("*.parquet"))
    assert [path.parent.name for path in files] == ["day=08", "day=09"]
    bars = pl.concat([pl.read_parquet(path) for path in files])
    stamps = bars["window_start"].dt.epoch("s")
    assert (stamps.diff().drop_nulls() == 1).all()  # no second is missing, over midnight either
    first, last = stamps[0], stamps[-1]
    assert agreement(bars, recorded, "1m", first, last) == (10, 10)
    assert agreement(bars, recorded, "5m", first, last) == (2, 2)
    assert bars["state"].to_list() == ["incomplete", *["complete"] * (bars.height - 2), "incomplete"]
    # The fixture is the one that tells the two apart.
    equal, of = agreement(by_receive_time(recorded), recorded, "1m", first, last)
    assert (equal, of) == (0, 10)


def test_the_number_of_threads_changes_no_byte(recorded: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    layout = Layout(tmp_path)
    store(layout, recorded)
    made: list[dict[str, bytes]] = []
    for threads in ("1", "4"):
        subprocess.run(
            [sys.executable, "-m", "crypto_lake.cli.main", "transform", "--data", str(tmp_path), "--rebuild"],
            check=True,
            env={**os.environ, "POLARS_MAX_THREADS": threads},
            capture_output=True,
        )
        root = tmp_path / "parquet"
        made.append({str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.parquet")})
        for path in root.rglob("*.parquet"):
            path.unlink()
    assert len(made[0]) == 2
    assert made[0] == made[1]
