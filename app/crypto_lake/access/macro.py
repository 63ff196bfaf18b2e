"""Daily macro series, and what was known of them at the time of a bar.

A value may be used only after it was known. When that was stands in `known_at`: the time at which the lake was first told
it. A later revision is a version of its own, with a later `known_at`. What was fetched long after its day is known only
since then, unless the reader decides to believe that it was the same when the day ended (`late="day_end"`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import Final, Literal, Protocol

import polars as pl

from crypto_lake.access.errors import InvalidArgumentError, NoDataError
from crypto_lake.access.times import Time, as_utc
from crypto_lake.lake.macro_files import FILE, ROOT, folder_of, name_of, parse
from crypto_lake.lake.macro_schema import MACRO_SCHEMA
from crypto_lake.model.series import InvalidSeriesError
from crypto_lake.model.symbols import nearest

Versions = Literal["latest", "all"]
Late = Literal["known_at", "day_end"]
COLUMNS: Final = tuple(MACRO_SCHEMA)
VIEW_NAMES: Final = ("macro", "macro_versions", "macro_known")
"""Of `views`, as they are told to people."""
_ROW: Final = "__row"


class Files(Protocol):
    """Files of macro series in a place, by their names below it, as `lake.macro_files` makes them."""

    @property
    def url(self) -> str: ...

    def versions(self) -> dict[str, str]:
        """What tells the version of each file that is there now from any other."""
        ...

    def read(self, name: str, version: str) -> bytes:
        """A file whole. FileNotFoundError, or another version's bytes, where it was replaced meanwhile."""
        ...

    def scan(self, names: Sequence[str]) -> pl.LazyFrame:
        """Their rows, in any order."""
        ...


class LocalFiles:
    """A data directory. `scan` reads when the frame is collected, and anew each time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = str(root)

    def versions(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for path in sorted((self._root / ROOT).glob(f"*/year=*/{FILE}")):
            with suppress(FileNotFoundError):
                stat = path.stat()
                name = path.relative_to(self._root).as_posix()
                found[name] = f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}"
        return found

    def read(self, name: str, version: str) -> bytes:
        del version
        return (self._root / name).read_bytes()

    def scan(self, names: Sequence[str]) -> pl.LazyFrame:
        paths = [self._root / name for name in names]
        return pl.scan_parquet(paths, glob=False, hive_partitioning=False)


class BucketFiles:
    """A bucket, through functions of whoever talks to it. `scan` reads at once: the files are small.

    `listed`: name -> generation of what is below a prefix. `fetched`: an object of a generation, whole.
    """

    def __init__(
        self, url: str, listed: Callable[[str], dict[str, int]], fetched: Callable[[str, int], bytes]
    ) -> None:
        self.url = url
        self._listed, self._fetched = listed, fetched

    def versions(self) -> dict[str, str]:
        return {name: str(generation) for name, generation in self._listed(f"{ROOT}/").items()}

    def read(self, name: str, version: str) -> bytes:
        return self._fetched(name, int(version))

    def scan(self, names: Sequence[str]) -> pl.LazyFrame:
        versions = self.versions()
        frames = [pl.read_parquet(io.BytesIO(self.read(name, versions[name]))) for name in names]
        return pl.concat(frames).lazy() if frames else pl.LazyFrame(schema=MACRO_SCHEMA)


def series_of(files: Files) -> list[str]:
    """Series that are there, sorted."""
    return sorted({named[0] for name in files.versions() if (named := parse(name)) is not None})


def read(
    files: Files,
    series: str | Iterable[str] | None = None,
    start: Time | None = None,
    end: Time | None = None,
    *,
    as_of: Time | None = None,
    versions: Versions = "latest",
) -> pl.LazyFrame:
    """Days of these series (of all, for None) with start <= date < end, by series, date and version.

    Columns: see docs/macro.md. `versions`: the latest one of each day, or all of them. `as_of`: only what was known then.
    NoDataError where there is nothing of a series.
    """
    if versions not in ("latest", "all"):
        raise InvalidArgumentError(f"versions {versions!r}: give 'latest' or 'all'")
    first, last = _day(start, "start"), _day(end, "end")
    if first is not None and last is not None and first >= last:
        raise InvalidArgumentError(f"there is no day from {first} to before {last}: the end is excluded")
    names = _names(files, series)
    chosen = [
        name
        for name, year in names
        if (first is None or year >= first.year) and (last is None or year <= last.year)
    ]
    rows = files.scan(chosen) if chosen else pl.LazyFrame(schema=MACRO_SCHEMA)
    if first is not None:
        rows = rows.filter(pl.col("date") >= first)
    if last is not None:
        rows = rows.filter(pl.col("date") < last)
    if as_of is not None:
        rows = rows.filter(pl.col("known_at") <= as_utc(as_of, "as_of"))
    rows = rows.sort("series", "date", "version")
    if versions == "latest":
        rows = rows.unique(["series", "date"], keep="last", maintain_order=True)
    return rows.select(COLUMNS)


def known_from(rows: pl.LazyFrame, *, late: Late = "known_at") -> pl.LazyFrame:
    """From when on which day was the latest one known, of all versions of one series or several.

    Columns as before, and `usable_at` (UTC): the row holds from then until the next one's. A revision of a day before the
    latest is left out: it changes what is known of that day, not what the latest day is.
    """
    if late not in ("known_at", "day_end"):
        raise InvalidArgumentError(f"late {late!r}: give 'known_at' or 'day_end'")
    usable = pl.col("known_at")
    if late == "day_end":
        first = pl.col("version") == 1
        usable = pl.when(first).then(pl.min_horizontal("known_at", "day_end")).otherwise(usable)
    by_time = rows.with_columns(usable.alias("usable_at")).sort("series", "usable_at", "date", "version")
    latest = by_time.filter(pl.col("date") == pl.col("date").cum_max().over("series"))
    return latest.unique(["series", "usable_at"], keep="last", maintain_order=True)


def join_as_of(
    bars: pl.LazyFrame,
    rows: pl.LazyFrame,
    series: Sequence[str],
    *,
    on: str = "window_start",
    column: str = "close",
    late: Late = "known_at",
) -> pl.LazyFrame:
    """Bars with two columns more for each series: its value of the latest day that was known then, and that day.

    The columns are named as the series is (`^GSPC`) and with ` date` behind it. They are null where nothing was known.
    `rows`: all versions, see `read`. `on`: a time in UTC, in us; a bar's start, so that nothing is known too early.
    The order of the bars stays as it is.
    """
    if column not in COLUMNS:
        near = nearest(column, COLUMNS)
        raise InvalidArgumentError(
            f"there is no column {column!r}" + (f"; did you mean {near}?" if near else "")
        )
    schema = bars.collect_schema()
    if schema.get(on) != pl.Datetime("us", "UTC"):
        raise InvalidArgumentError(f"{on!r} is no column of times in UTC (us); name the bars' own")
    known = known_from(rows, late=late)
    joined = bars.with_row_index(_ROW).sort(on)
    for name in dict.fromkeys(series):
        values = known.filter(pl.col("series") == name).select(
            pl.col("usable_at"), pl.col(column).alias(name), pl.col("date").alias(f"{name} date")
        )
        joined = joined.join_asof(
            values.sort("usable_at"), left_on=on, right_on="usable_at", strategy="backward", coalesce=False
        ).drop("usable_at")
    return joined.sort(_ROW).drop(_ROW)


def views(source: str) -> dict[str, str]:
    """SQL (DuckDB's) of the views on these files: name -> statement. `source`: rows of the files, as a FROM.

    macro: the latest version of each day; macro_versions: all; macro_known: what `known_from` gives, for an ASOF JOIN.
    """
    columns = ", ".join(COLUMNS)
    latest = (
        "SELECT *, max(date) OVER (PARTITION BY series ORDER BY known_at, date, version "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS latest FROM macro_versions"
    )
    one_a_day = "row_number() OVER (PARTITION BY series, date ORDER BY version DESC) = 1"
    one_a_time = "row_number() OVER (PARTITION BY series, known_at ORDER BY date DESC, version DESC) = 1"
    return {
        "macro_versions": " ".join(("SELECT", columns, "FROM", source)),
        "macro": " ".join(("SELECT * FROM macro_versions QUALIFY", one_a_day)),
        "macro_known": " ".join(
            (
                "SELECT",
                columns,
                ", known_at AS usable_at FROM (",
                latest,
                ") WHERE date = latest QUALIFY",
                one_a_time,
            )
        ),
    }


def elsewhere(view: str, root: str) -> str:
    """A view over the files by their paths, for any DuckDB."""
    files = f"{root}/{ROOT}/*/year=*/{FILE}".replace("'", "''")
    made = views(f"read_parquet('{files}', hive_partitioning = false)")
    if view == "macro_versions":
        return made[view]
    return f"WITH macro_versions AS (\n  {made['macro_versions']}\n)\n{made[view]}"


def _names(files: Files, series: str | Iterable[str] | None) -> list[tuple[str, int]]:
    there = [(name, *named) for name in files.versions() if (named := parse(name)) is not None]
    known = sorted({one for _, one, _ in there})
    wanted = known if series is None else [series] if isinstance(series, str) else list(dict.fromkeys(series))
    for one in wanted:
        try:
            folder_of(one)
        except InvalidSeriesError as error:
            raise InvalidArgumentError(str(error)) from None
        if one not in known:
            near = nearest(one, known)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(known) or 'none'}"
            raise NoDataError(
                f"{files.url} has nothing of the series {one}; {hint} (`crypto-lake macro backfill` fetches)"
            )
    if not wanted:
        raise NoDataError(f"{files.url} has no macro series; `crypto-lake macro backfill` fetches them")
    return [(name_of(one, year), year) for _, one, year in there if one in wanted]


def _day(value: Time | None, name: str) -> date | None:
    """A day as it is given; of a time its date in UTC."""
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    return as_utc(value, name).date()
