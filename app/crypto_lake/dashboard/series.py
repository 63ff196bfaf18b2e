"""Bars on a whole grid of time, so that what is missing is a hole in it, and how much of it is known. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Final, Literal

import polars as pl

from crypto_lake.dashboard.choice import Window

COLUMNS: Final = (
    "window_start",
    "symbol",
    "open",
    "high",
    "low",
    "close",
    "volume_base",
    "trade_count",
    "bid",
    "ask",
    "spread_mean",
    "state",
    "complete_seconds",
    "healed_seconds",
    "aggregated_seconds",
    "incomplete_seconds",
    "missing_seconds",
)
"""What a picture needs of the bars. The CSV has them in this order."""

SECONDS: Final = (
    "complete_seconds",
    "healed_seconds",
    "aggregated_seconds",
    "incomplete_seconds",
    "missing_seconds",
)

Kind = Literal["missing", "partial", "waiting"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Intervals one after the other of which nothing is known, not all, or nothing yet."""

    start: datetime
    end: datetime
    kind: Kind


@dataclass(frozen=True, slots=True)
class Known:
    """Seconds of a window by what is known of them. `waiting`: after the last bar, not counted as missing."""

    complete: int
    healed: int
    aggregated: int
    incomplete: int
    missing: int
    waiting: int

    @property
    def share(self) -> float | None:
        """The part of which every trade is there; None where none of it is due."""
        good = self.complete + self.healed + self.aggregated
        due = good + self.incomplete + self.missing
        return good / due if due else None


@dataclass(frozen=True, slots=True)
class Series:
    """One symbol's bars of a window. `grid`: a row for each interval, null where there is no bar; prices as floats.

    `kinds`: of each interval what it lacks.
    """

    symbol: str
    window: Window
    seconds: int
    grid: pl.DataFrame
    kinds: tuple[Kind | None, ...]
    known: Known
    stretches: tuple[Stretch, ...]

    @property
    def last(self) -> dict[str, object] | None:
        """The last interval that has a bar."""
        rows = self.grid.filter(pl.col("state").is_not_null()).tail(1).to_dicts()
        return rows[0] if rows else None


def series_of(
    bars: pl.DataFrame, symbol: str, window: Window, seconds: int, known_until: datetime | None
) -> Series:
    """`bars`: COLUMNS, of any symbols, as the lake gives them. `known_until`: end of the symbol's last second."""
    starts = pl.datetime_range(
        window.start, window.end, timedelta(seconds=seconds), closed="left", time_unit="us", eager=True
    )
    mine = bars.filter(pl.col("symbol") == symbol).with_columns(pl.col(pl.Decimal).cast(pl.Float64))
    grid = (
        pl.DataFrame({"window_start": starts})
        .join(mine, on="window_start", how="left", maintain_order="left")
        .with_columns(
            pl.lit(symbol).alias("symbol"),
            *(
                pl.col(name).fill_null(seconds if name == "missing_seconds" else 0).alias(name)
                for name in SECONDS
            ),
        )
    )
    until = window.start if known_until is None else min(max(known_until, window.start), window.end)
    sums = grid.select(SECONDS).sum().row(0)
    waiting = round((window.end - until).total_seconds())
    known = Known(*sums[:4], missing=max(0, sums[4] - waiting), waiting=waiting)
    kinds = _kinds(grid, seconds, until)
    stretches = tuple(_stretches(starts.to_list(), kinds, seconds))
    return Series(symbol, window, seconds, grid, tuple(kinds), known, stretches)


def _kinds(grid: pl.DataFrame, seconds: int, until: datetime) -> list[Kind | None]:
    """Of each interval what it lacks; None: nothing."""
    length = timedelta(seconds=seconds)
    kinds: list[Kind | None] = []
    for start, state, incomplete, missing in grid.select(
        "window_start", "state", "incomplete_seconds", "missing_seconds"
    ).iter_rows():
        if start >= until:
            kinds.append("waiting")
        elif state is None:
            kinds.append("missing")
        else:
            # Of the interval in which the bars end, the rest is not missing yet.
            ahead = max(0, round((start + length - until).total_seconds()))
            kinds.append("partial" if incomplete or missing > ahead else None)
    return kinds


def _stretches(starts: Sequence[datetime], kinds: Sequence[Kind | None], seconds: int) -> Iterator[Stretch]:
    """Runs of intervals of one kind."""
    length = timedelta(seconds=seconds)
    for kind, run in groupby(zip(starts, kinds, strict=True), key=itemgetter(1)):
        if kind is not None:
            times = [start for start, _ in run]
            yield Stretch(times[0], times[-1] + length, kind)


def gap_windows(series: Series, most_seconds: int) -> tuple[list[Window], bool]:
    """Where to ask for the gaps themselves: around what is not whole, the latest first, no more than `most_seconds`.

    True: that is all of it.
    """
    length = timedelta(seconds=series.seconds)
    found: list[Window] = []
    for stretch in series.stretches:
        if stretch.kind == "waiting":
            continue
        # A gap lies between two seconds that are there: the neighbours belong to the question.
        start = max(series.window.start, stretch.start - length)
        end = min(series.window.end, stretch.end + length)
        if found and start <= found[-1].end:
            found[-1] = Window(found[-1].start, end)
        else:
            found.append(Window(start, end))
    chosen: list[Window] = []
    left = most_seconds
    for window in reversed(found):
        if window.seconds > left:
            return chosen, False
        left -= window.seconds
        chosen.append(window)
    return chosen, True
