"""A year of a series as a Parquet file, and back.

The file proves itself: each page has a checksum, and the metadata hold the schema's version and a digest of the rows. A
file without them is not this program's, and is never overwritten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from crypto_lake.lake import durable
from crypto_lake.lake.macro_schema import DIGEST_KEY, MACRO_SCHEMA, MACRO_SCHEMA_VERSION, VERSION_KEY
from crypto_lake.macro.days import Days, Seen, Values, day_end_us

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ARROW: Final = pa.schema(
    [
        pa.field("series", pa.string()),
        pa.field("date", pa.date32()),
        pa.field("version", pa.int32()),
        *(pa.field(name, pa.float64()) for name in ("open", "high", "low", "close")),
        pa.field("volume", pa.int64()),
        pa.field("currency", pa.string()),
        pa.field("timezone", pa.string()),
        pa.field("day_end", pa.timestamp("us", "UTC")),
        pa.field("known_at", pa.timestamp("us", "UTC")),
    ]
)


class NotOursError(Exception):
    """A file that this program did not write, or that was changed or damaged since; the message says which and why."""


def rows_of(series: str, days: Days) -> pl.DataFrame:
    """One row a version, sorted by day and version."""
    rows = [
        (
            series,
            day,
            version,
            seen.values.open,
            seen.values.high,
            seen.values.low,
            seen.values.close,
            seen.values.volume,
            seen.values.currency,
            seen.values.timezone,
            _stamp(day_end_us(day, seen.values.timezone)),
            _stamp(seen.known_us),
        )
        for day in sorted(days)
        for version, seen in enumerate(days[day], start=1)
    ]
    return pl.DataFrame(rows, MACRO_SCHEMA, orient="row")


def days_of(rows: pl.DataFrame) -> dict[date, tuple[Seen, ...]]:
    """What `rows_of` was made from. Raises ValueError for rows that it never makes."""
    found: dict[date, list[Seen]] = {}
    for row in rows.iter_rows(named=True):
        values = Values(*(row[name] for name in Values.__dataclass_fields__))
        history = found.setdefault(cast("date", row["date"]), [])
        history.append(Seen((row["known_at"] - _EPOCH) // timedelta(microseconds=1), values))
        if row["version"] != len(history):
            raise ValueError(f"version {row['version']} of {row['date']} stands where {len(history)} should")
    return {day: tuple(history) for day, history in found.items()}


def write(path: Path, series: str, days: Days) -> None:
    """Write a year whole, durably, and read it back before it takes the name."""
    rows = rows_of(series, days)
    metadata = {VERSION_KEY: str(MACRO_SCHEMA_VERSION), DIGEST_KEY: digest(rows.rows())}
    table = rows.to_arrow().cast(_ARROW).replace_schema_metadata(metadata)

    def make(temporary: Path) -> None:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)

    def check(temporary: Path) -> None:
        if read(temporary, series) != days:
            raise OSError(f"{path} reads back other rows than were written; the disk is not to be trusted")

    durable.write_with(path, make, check)


def read(path: Path, series: str) -> dict[date, tuple[Seen, ...]]:
    """The days in a file that `write` made. Raises NotOursError, FileNotFoundError."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            told = {key.decode(): value.decode() for key, value in (file.metadata.metadata or {}).items()}
            _check_version(path, told.get(VERSION_KEY))
            rows = cast("pl.DataFrame", pl.from_arrow(file.read()))
        if rows.schema != MACRO_SCHEMA:
            raise NotOursError(f"{path} has other columns than version {MACRO_SCHEMA_VERSION} has")
        if digest(rows.rows()) != told.get(DIGEST_KEY):
            raise NotOursError(f"{path} holds other rows than its digest says")
        if rows.filter(pl.col("series") != series).height:
            raise NotOursError(f"{path} holds rows of another series than {series}")
        return days_of(rows)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError, UnicodeDecodeError, ValueError) as error:
        raise NotOursError(
            f"{path} can't be read ({type(error).__name__}: {str(error).splitlines()[0][:200]})"
        ) from error


def _check_version(path: Path, version: str | None) -> None:
    if version is None:
        raise NotOursError(f"{path} was not written by this program: it has no {VERSION_KEY}")
    if version != str(MACRO_SCHEMA_VERSION):
        raise NotOursError(
            f"{path} has version {version} of the schema; this program reads {MACRO_SCHEMA_VERSION}: install a later one"
        )


def digest(rows: Iterable[tuple[Any, ...]]) -> str:
    """sha256 over the values, whichever library read them."""
    return hashlib.sha256(msgspec.json.encode(list(rows))).hexdigest()


def _stamp(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)
