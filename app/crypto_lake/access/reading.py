"""Bars as a polars LazyFrame: read when it is collected, in stretches of time, only the columns that are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import duckdb
import polars as pl
from polars.io.plugins import register_io_source

from crypto_lake.access.columns import BY_NAME, FILLED_STATE, KEYS, Kind
from crypto_lake.access.errors import ReplacedError
from crypto_lake.access.files import LakeFiles, selection
from crypto_lake.access.session import asking, source
from crypto_lake.access.statements import asked, rollup
from crypto_lake.access.times import DAY_SECONDS, Span, whole_intervals

_TYPES: Final[dict[Kind, pl.DataType]] = {
    "text": pl.String(),
    "time": pl.Datetime("us", "UTC"),
    "decimal": pl.Decimal(38, 8),
    "count": pl.Int64(),
}
_ROWS_AT_ONCE: Final = 500_000
_ATTEMPTS: Final = 20
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """Which bars: `span` is of whole intervals. `filled`: with rows for what is missing between two bars."""

    exchange: str
    symbols: tuple[str, ...]
    span: Span
    seconds: int
    columns: tuple[str, ...]
    filled: bool = False

    def statement(self) -> str:
        """SQL over `lake://`, ordered."""
        rows = rollup(
            source(selection(self.exchange, list(self.symbols), self.span)),
            asked(self.symbols, self.span, self.seconds, exchange=self.exchange),
            self.columns,
        )
        keys = ", ".join(key for key in ("window_start", "symbol") if key in self.columns)
        return f"{rows}\nORDER BY {keys}" if keys else rows


def schema_of(columns: Sequence[str]) -> pl.Schema:
    return pl.Schema({name: _TYPES[BY_NAME[name].kind] for name in columns})


def in_utc(frame: pl.DataFrame) -> pl.DataFrame:
    """With the zone's usual name: DuckDB gives it one of its own."""
    return frame.with_columns(pl.col(pl.Datetime("us", "*")).dt.convert_time_zone("UTC"))


def lazy(
    question: Question,
    days: Callable[[], tuple[str, str] | None],
    files: LakeFiles,
    connect: Callable[[], duckdb.DuckDBPyConnection],
) -> pl.LazyFrame:
    """`days`: the first and the last day that there is, when it is read."""

    def read(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        names = tuple(with_columns) if with_columns is not None else question.columns
        left = n_rows
        for frame in frames(replace(question, columns=names), days(), files, connect):
            wanted = frame if left is None else frame.head(left)
            left = None if left is None else left - wanted.height
            yield wanted if predicate is None else wanted.filter(predicate)
            if left == 0:
                return

    return register_io_source(
        read, schema=schema_of(question.columns), validate_schema=True, explain_name="crypto-lake"
    )


def frames(
    question: Question,
    days: tuple[str, str] | None,
    files: LakeFiles,
    connect: Callable[[], duckdb.DuckDBPyConnection],
) -> Iterator[pl.DataFrame]:
    """The bars in order, stretch by stretch; at least one frame, which may be empty."""
    keys = [key for key in KEYS[1:] if key not in question.columns]
    # Sorting and filling need the keys; they are taken away again.
    whole = replace(question, columns=(*question.columns, *keys))
    if question.filled and "close" not in whole.columns:
        whole = replace(whole, columns=(*whole.columns, "close"))
    filling = _Filling(whole) if question.filled else None
    some = False
    for span in stretches(question, days):
        frame = _answered(replace(whole, span=span), files, connect)
        if filling is not None:
            frame = filling.add(frame)
        if frame.height:
            some = True
            yield frame.select(question.columns)
    if not some:
        yield pl.DataFrame(schema=schema_of(question.columns))


def stretches(question: Question, days: tuple[str, str] | None) -> Iterator[Span]:
    """The question's time cut into pieces of about as many rows as are held at once, at ends of days where that goes."""
    if days is None:
        return
    seconds = question.seconds
    first = datetime.fromisoformat(days[0]).replace(tzinfo=UTC)
    end = datetime.fromisoformat(days[1]).replace(tzinfo=UTC) + timedelta(days=1)
    # The interval that the first day's first second lies in may begin before it.
    first -= (first - _EPOCH) % timedelta(seconds=seconds)
    start = max(first, question.span.start or first)
    end = min(whole_intervals(Span(end=end), seconds).end or end, question.span.end or end)
    length = seconds * max(1, _ROWS_AT_ONCE // len(question.symbols))
    if length > DAY_SECONDS and DAY_SECONDS % seconds == 0:
        length -= length % DAY_SECONDS
    step = timedelta(seconds=length)
    while start < end:
        # Pieces end at multiples of their length, so that with days in them no file is read for two.
        until = min(end, start + step - ((start - _EPOCH) % step))
        yield Span(start, until)
        start = until


def _answered(
    question: Question, files: LakeFiles, connect: Callable[[], duckdb.DuckDBPyConnection]
) -> pl.DataFrame:
    """Asked again where a bucket's object was replaced in between: nothing of it was handed on yet."""
    for attempt in range(_ATTEMPTS):
        cursor = connect()
        files.refresh()
        try:
            with asking(files):
                return in_utc(cursor.sql(question.statement()).pl())
        except ReplacedError:
            if attempt + 1 == _ATTEMPTS:
                raise
        finally:
            cursor.close()
    raise AssertionError("the last attempt returns or raises")


class _Filling:
    """Rows for intervals without a known second, between two bars of a symbol.

    The price is the close before. Sums, counts, ids and quotes are null: unknown is not zero.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._last: dict[str, tuple[datetime, object]] = {}  # by symbol: the last bar's start and its close

    def add(self, frame: pl.DataFrame) -> pl.DataFrame:
        made = [
            self._missing(str(symbol), part)
            for (symbol,), part in frame.group_by("symbol", maintain_order=True)
        ]
        missing = [part for part in made if part is not None]
        if not missing:
            return frame
        return pl.concat([frame, *missing]).sort("window_start", "symbol")

    def _missing(self, symbol: str, bars: pl.DataFrame) -> pl.DataFrame | None:
        """Rows between this symbol's bars, and between them and the last one before."""
        known = bars.select("window_start", "close")
        if symbol in self._last:
            start, close = self._last[symbol]
            before = pl.DataFrame({"window_start": [start], "close": [close]}, schema=known.schema)
            known = pl.concat([before, known])
        at, close = known.row(-1)
        self._last[symbol] = (at, close)
        step = timedelta(seconds=self._question.seconds)
        gaps = known.with_columns(pl.col("window_start").shift(-1).alias("next")).filter(
            pl.col("next") > pl.col("window_start") + step
        )
        if gaps.is_empty():
            return None
        rows = gaps.select(
            pl.datetime_ranges(pl.col("window_start") + step, "next", step, closed="left").alias(
                "window_start"
            ),
            "close",
        ).explode("window_start")
        return rows.select(self._values(symbol)).cast(schema_of(self._question.columns))

    def _values(self, symbol: str) -> list[pl.Expr]:
        values: list[pl.Expr] = []
        for name in self._question.columns:
            match name:
                case "window_start":
                    value = pl.col("window_start")
                case "open" | "high" | "low" | "close":
                    value = pl.col("close")
                case "exchange":
                    value = pl.lit(self._question.exchange)
                case "symbol":
                    value = pl.lit(symbol)
                case "state":
                    value = pl.lit(FILLED_STATE)
                case "missing_seconds":
                    value = pl.lit(self._question.seconds)
                case _ if name.endswith("_seconds"):
                    value = pl.lit(0)
                case _:
                    value = pl.lit(None)
            values.append(value.alias(name))
        return values
