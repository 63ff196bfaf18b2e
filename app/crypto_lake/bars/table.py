"""A day of bars as a Parquet file: the same rows make the same bytes, with the pinned version of polars.

Its metadata holds the schema's version and a digest of each hour's rows. What it was made of stands in its
manifest, so that sealing raw changes no bar file; no time of making, path or collector is in it.
"""

# pyright: reportUnknownMemberType=false
# Signatures of polars name types of numpy, which is not installed.

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from crypto_lake.bars.rows import BAR_SCHEMA, HOUR_SECONDS
from crypto_lake.lake import durable
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


def read(path: Path) -> tuple[pl.DataFrame, dict[int, str]] | None:
    """Rows and digests by hour of a file that `write` made; None where it is none, or of another schema."""
    try:
        metadata = pl.read_parquet_metadata(path)
        if metadata.get(_VERSION_KEY) != str(BARS_SCHEMA_VERSION):
            return None
        rows = pl.read_parquet(path, memory_map=False)
        named = msgspec.json.decode(metadata.get(_HOURS_KEY, "{}"), type=dict[int, str])
    except (OSError, pl.exceptions.PolarsError, msgspec.MsgspecError):
        return None
    return (rows, named) if rows.schema == BAR_SCHEMA else None


def hour_of(rows: pl.DataFrame, hour: int) -> pl.DataFrame:
    """Rows of one Unix hour."""
    start = hour * HOUR_SECONDS * US_PER_SECOND
    stamp = pl.col("window_start").cast(pl.Int64)
    return rows.filter((stamp >= start) & (stamp < start + HOUR_SECONDS * US_PER_SECOND))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
