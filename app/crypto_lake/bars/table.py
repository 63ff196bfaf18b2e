"""A day of bars as a Parquet file: the same rows make the same bytes, with the pinned version of polars.

Its metadata holds the schema's version and a digest of each hour's rows. What it was made of stands in its
manifest, so that sealing raw changes no bar file; no time of making, path or collector is in it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from crypto_lake.bars.rows import BAR_SCHEMA, HOUR_SECONDS
from crypto_lake.lake import durable
from crypto_lake.lake.manifests import BarsHour
from crypto_lake.model.market import US_PER_SECOND

BARS_SCHEMA_VERSION: Final = 1
_VERSION_KEY: Final = "crypto_lake.schema"
_HOURS_KEY: Final = "crypto_lake.hours"


def digest(rows: pl.DataFrame) -> str:
    """sha256 over the rows' values, whatever file they stand in and whichever library wrote it."""
    text = rows.with_columns(pl.col("window_start").cast(pl.Int64)).write_csv(include_header=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write(path: Path, rows: pl.DataFrame, digests: Mapping[int, str]) -> None:
    """Write a day whole, durably, and read it back before it takes the name. `digests`: by Unix hour."""
    rows = rows.rechunk()
    metadata = {
        _VERSION_KEY: str(BARS_SCHEMA_VERSION),
        _HOURS_KEY: msgspec.json.encode({str(hour): digests[hour] for hour in sorted(digests)}).decode(),
    }

    def make(temporary: Path) -> None:
        rows.write_parquet(
            temporary,
            compression="zstd",
            compression_level=3,
            statistics=True,
            row_group_size=100_000,  # above the seconds of a day: one row group
            metadata=metadata,
        )

    def check(temporary: Path) -> None:
        if not pl.read_parquet(temporary, memory_map=False).equals(rows):
            raise OSError(f"{path} reads back other rows than were written; the disk is not to be trusted")

    durable.write_with(path, make, check)


def read(path: Path, *, trusted: bool) -> tuple[pl.DataFrame, dict[int, str]] | None:
    """Rows and digests by hour of a file that `write` made; None where it is none, or of another schema.

    `trusted`: its sha256 is known to be right. Another is read by a process of its own first: most flipped bits are
    read back wrong without an error (compare the hours' digests), but some end the process that reads (measured).
    """
    try:
        if not path.is_file() or not (trusted or _can_be_read(path)):
            return None
        metadata = pl.read_parquet_metadata(path)
        if metadata.get(_VERSION_KEY) != str(BARS_SCHEMA_VERSION):
            return None
        rows = pl.read_parquet(path, memory_map=False)
        named = msgspec.json.decode(metadata.get(_HOURS_KEY, "{}"), type=dict[int, str])
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException, msgspec.MsgspecError):
        return None
    return (rows, named) if rows.schema == BAR_SCHEMA else None


def _can_be_read(path: Path) -> bool:
    run = subprocess.run(  # noqa: S603  our own module
        [sys.executable, "-P", "-m", "crypto_lake.bars.table", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return run.returncode == 0


def hour_of(rows: pl.DataFrame, hour: int) -> pl.DataFrame:
    """Rows of one Unix hour."""
    start = hour * HOUR_SECONDS * US_PER_SECOND
    stamp = pl.col("window_start").cast(pl.Int64)
    return rows.filter((stamp >= start) & (stamp < start + HOUR_SECONDS * US_PER_SECOND))


def records_of(rows: pl.DataFrame, digests: dict[int, str]) -> dict[int, BarsHour]:
    """What can be told of hours whose manifest was lost, from the rows themselves. Their key matches nothing."""
    found: dict[int, BarsHour] = {}
    for hour, digest in digests.items():
        part = hour_of(rows, hour)
        traded = part.filter(pl.col("trade_count") > 0)
        stamps = traded["window_start"].cast(pl.Int64)
        last = part.tail(1).select(pl.col("close", "bid", "bid_size", "ask", "ask_size").to_physical())
        if last.is_empty():
            continue
        close, *quote = last.row(0)
        found[hour] = BarsHour(
            key="",
            digest=digest,
            rows=part.height,
            trades=int(part["trade_count"].sum()),
            quotes=int(part["quote_updates"].sum()),
            first=None if traded.is_empty() else (traded["first_trade_id"][0], stamps[0]),
            last=None if traded.is_empty() else (traded["last_trade_id"][-1], stamps[-1]),
            close=close,
            quote=None if quote[0] is None else (quote[0], quote[1], quote[2], quote[3]),
        )
    return found


if __name__ == "__main__":
    sys.exit(read(Path(sys.argv[1]), trusted=True) is None)
