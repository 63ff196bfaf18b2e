"""A day of verdicts as a Parquet file. Its metadata says of which bars: the digest of each hour, as the bars' file has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from crypto_lake.completeness.klines import Source
from crypto_lake.completeness.verdict import VERDICT_SCHEMA, VERDICTS_SCHEMA_VERSION, Verdict
from crypto_lake.lake import durable

_VERSION_KEY: Final = "crypto_lake.schema"
_HOURS_KEY: Final = "crypto_lake.hours"
_UNREADABLE: Final = (
    OSError,
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    msgspec.MsgspecError,
)


class CheckedHour(msgspec.Struct, frozen=True):
    """digest: of the hour's bars that were compared, "" for none. since, until: Unix seconds that were, end excluded."""

    digest: str
    since: int
    until: int


def write(path: Path, rows: pl.DataFrame, hours: Mapping[int, CheckedHour]) -> None:
    """Write a day whole, durably. `hours`: by Unix hour."""
    rows = rows.rechunk()
    told = {str(hour): hours[hour] for hour in sorted(hours)}
    metadata = {
        _VERSION_KEY: str(VERDICTS_SCHEMA_VERSION),
        _HOURS_KEY: msgspec.json.encode(told).decode(),
    }

    def make(temporary: Path) -> None:
        rows.write_parquet(temporary, compression="zstd", compression_level=3, metadata=metadata)

    def check(temporary: Path) -> None:
        if not pl.read_parquet(temporary, memory_map=False).equals(rows):
            raise OSError(f"{path} reads back other rows than were written; the disk is not to be trusted")

    durable.write_with(path, make, check)


def read(path: Path) -> tuple[pl.DataFrame, dict[int, CheckedHour]] | None:
    """None where there is none, or none that can be read, or of another schema: it is then made anew.

    One of schema 1 stands: all its klines were asked for.
    """
    try:
        told = _metadata(path)
        if told is None:
            return None
        version, hours = told
        rows = pl.read_parquet(path, memory_map=False)
        if version == "1":
            rows = _with_source(rows)
    except _UNREADABLE:
        return None
    return (rows, hours) if rows.schema == VERDICT_SCHEMA else None


def read_hours(path: Path) -> dict[int, CheckedHour] | None:
    """Which hours were checked, by the file's metadata; its rows are left alone. None as `read`."""
    try:
        told = _metadata(path)
    except _UNREADABLE:
        return None
    return told[1] if told is not None else None


def _metadata(path: Path) -> tuple[str, dict[int, CheckedHour]] | None:
    """Its schema's version, and the hours; None where there is no file, or of another schema."""
    if not path.is_file():
        return None
    metadata = pl.read_parquet_metadata(path)
    version = metadata.get(_VERSION_KEY, "")
    if version not in ("1", str(VERDICTS_SCHEMA_VERSION)):
        return None
    return version, msgspec.json.decode(metadata.get(_HOURS_KEY, "{}"), type=dict[int, CheckedHour])


def _with_source(rows: pl.DataFrame) -> pl.DataFrame:
    told = pl.col("verdict") != Verdict.UNVERIFIABLE.value
    source = pl.when(told).then(pl.lit(Source.REST.value)).otherwise(pl.lit("")).alias("source")
    return rows.with_columns(source).select(
        [name for name in VERDICT_SCHEMA if name in rows.columns or name == "source"]
    )
