"""A picture's bars, read of the lake: the days of its window, the columns it shows, and gaps where there are any."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import polars as pl

from crypto_lake.access.errors import NoDataError
from crypto_lake.access.lake import Lake
from crypto_lake.access.times import interval_name, written
from crypto_lake.dashboard.choice import Window
from crypto_lake.dashboard.series import COLUMNS, Series, gap_windows, series_of

GAP_SECONDS: Final = 7 * 86400
"""Gaps are looked up one by one in no more than this much time of a symbol."""
GAPS_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Picture:
    """`bars`: exact, as the lake gives them. `gaps_whole`: no gap of the window is left out of `gaps`."""

    window: Window
    seconds: int
    bars: pl.DataFrame
    series: tuple[Series, ...]
    gaps: pl.DataFrame
    gaps_whole: bool


@lru_cache(maxsize=4)
def lake_of(where: str, exchange: str | None) -> Lake:
    """One for all visitors: it may be used from several threads."""
    return Lake(where, exchange=exchange)


def known_until(lake: Lake, symbols: Sequence[str]) -> dict[str, datetime | None]:
    """Of each symbol the end of the last second that has a bar. Of its last day only the times are read."""
    return {symbol: _known_until(lake, symbol) for symbol in symbols}


def known_seconds(lake: Lake, symbol: str, now: datetime) -> float | None:
    """From its first bar until now; None where its bars begin before the day of its last one."""
    days = lake.days(symbol)
    if len(days) != 1:
        return None
    start = datetime.fromisoformat(f"{days[0]}T00:00:00+00:00")
    first = lake.coverage(symbol, start, start + timedelta(days=1))["first_second"].min()
    return (now - first).total_seconds() if isinstance(first, datetime) else None


def _known_until(lake: Lake, symbol: str) -> datetime | None:
    days = lake.days(symbol)
    if not days:
        return None
    start = datetime.fromisoformat(f"{days[-1]}T00:00:00+00:00")
    last = lake.coverage(symbol, start, start + timedelta(days=1))["last_second"].max()
    return last + timedelta(seconds=1) if isinstance(last, datetime) else start


def read(
    lake: Lake,
    symbols: Sequence[str],
    window: Window,
    seconds: int,
    until: dict[str, datetime | None],
) -> Picture:
    """A window without any bar is a picture, too: of what is missing."""
    try:
        bars = lake.bars(symbols, window.start, window.end, timedelta(seconds=seconds), columns=COLUMNS)
        frame = bars.collect()
    except NoDataError:
        frame = pl.DataFrame(schema=schema())
    series = tuple(series_of(frame, symbol, window, seconds, until.get(symbol)) for symbol in symbols)
    gaps, whole = _gaps(lake, series)
    return Picture(window, seconds, frame, series, gaps, whole)


def _gaps(lake: Lake, series: Sequence[Series]) -> tuple[pl.DataFrame, bool]:
    found: list[pl.DataFrame] = []
    whole = True
    for one in series:
        windows, is_all = gap_windows(one, GAP_SECONDS)
        whole &= is_all
        for window in windows:
            found.append(lake.gaps(one.symbol, window.start, window.end))
            if sum(part.height for part in found) > GAPS_SHOWN:
                break
    some = [part for part in found if part.height]
    if not some:
        return pl.DataFrame(), whole
    gaps = pl.concat(some).sort("gap_start", descending=True)
    return gaps.head(GAPS_SHOWN), whole and gaps.height <= GAPS_SHOWN


def schema() -> dict[str, pl.DataType]:
    """Of `bars`, also where there are none."""
    types: dict[str, pl.DataType] = {
        "window_start": pl.Datetime("us", "UTC"),
        "symbol": pl.String(),
        "state": pl.String(),
    }
    decimals = ("open", "high", "low", "close", "volume_base", "bid", "ask", "spread_mean")
    return {name: types.get(name, pl.Decimal(38, 8) if name in decimals else pl.Int64()) for name in COLUMNS}


def csv_of(picture: Picture) -> bytes:
    """What is shown, exactly: byte for byte what the command of `command_for` prints."""
    file = io.BytesIO()
    picture.bars.write_csv(file, datetime_format="%Y-%m-%d %H:%M:%SZ", line_terminator="\n")
    return file.getvalue()


def csv_name(picture: Picture, symbols: Sequence[str]) -> str:
    start, end = (f"{at:%Y%m%dT%H%M%S}" for at in (picture.window.start, picture.window.end))
    return f"{'-'.join(symbols)}_{interval_name(picture.seconds)}_{start}_{end}.csv"


def command_for(picture: Picture, symbols: Sequence[str], where: str, exchange: str | None) -> str:
    """The same rows from a shell."""
    parts = ["crypto-lake", "query", *symbols, "--every", interval_name(picture.seconds)]
    parts += ["--from", written(picture.window.start), "--to", written(picture.window.end)]
    parts += ["--columns", ",".join(COLUMNS), "--data", where, "-o", "csv"]
    return shlex.join(parts + (["--exchange", exchange] if exchange else []))
