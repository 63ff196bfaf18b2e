"""`Lake`: bars of a data directory or a bucket, in Python and in SQL."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import polars as pl

from crypto_lake.access import columns as columns_
from crypto_lake.access import macro as macro_
from crypto_lake.access.errors import InvalidArgumentError, LakeError
from crypto_lake.access.files import LakeFiles, selection
from crypto_lake.access.holdings import Holdings, named
from crypto_lake.access.places import open_place
from crypto_lake.access.questions import bars_statement, macro_statement, unknown_days
from crypto_lake.access.reading import Question, frames, in_utc, lazy
from crypto_lake.access.session import asking, open_session, source
from crypto_lake.access.statements import VIEWS, elsewhere
from crypto_lake.access.times import Span, Time, as_span

if TYPE_CHECKING:
    import pandas as pd

Fill = Literal["previous"]


class Lake:
    """Bars of a lake. It reads only, and may be used beside a running collector and from several threads.

        from crypto_lake import Lake
        lake = Lake("data")
        lake.bars("BTCUSDT", "2024-08-08", "2024-08-09", every="5m").collect()

    Times are UTC: a datetime (without a zone it is taken for UTC), a date (its midnight) or a text such as
    `2024-08-08T13:00`. A start is included, an end is not; None is as far as there is data. Each day is read whole, in
    one version, however often it is replaced meanwhile. Errors are `crypto_lake.access.errors.LakeError`.
    """

    def __init__(self, where: str | os.PathLike[str] = "data", *, exchange: str | None = None) -> None:
        """`where`: a data directory, `file:///folder`, or `gs://bucket/prefix` (Application Default Credentials; with
        STORAGE_EMULATOR_HOST that server). `exchange`: whose bars; it may be left out where there is but one.
        """
        self._place = open_place(where)
        self._files = LakeFiles(self._place)
        self._holdings = Holdings(self._place, exchange)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it is, as it was given."""
        return self._place.url

    @property
    def exchange(self) -> str:
        """The exchange whose bars are read. LakeError where there are several, and none was named."""
        return self._holdings.exchange

    def symbols(self) -> list[str]:
        """Symbols that have bars, sorted. Empty where there are no bars yet."""
        return self._holdings.symbols()

    def days(self, symbol: str | None = None) -> list[str]:
        """Days with bars of this symbol (of any, for None), as `2024-08-08`, sorted."""
        if symbol is None:
            return sorted({day for name in self.symbols() for day in self._holdings.days(name, Span())})
        self._holdings.check((symbol,))
        return self._holdings.days(symbol, Span())

    def bars(
        self,
        symbols: str | Iterable[str],
        start: Time | None = None,
        end: Time | None = None,
        every: str | timedelta = "1m",
        *,
        columns: str | Iterable[str] | None = None,
        fill: Fill | None = None,
    ) -> pl.LazyFrame:
        """Bars of each interval that begins at or after `start` and before `end`, by `window_start`, then symbol.

        `every`: 1s, 1m, 5m, 1h, 1d or any multiple of a second up to 366 days; intervals are counted from
        1970-01-01T00:00Z on, so that those that divide a day begin at midnight. Every bar is of its whole interval, also
        where `end` lies within it.

        The rows have all columns of `crypto_lake.access.columns.COLUMNS` (docs/reading.md), or those asked for, in that
        order. Prices and sizes are Decimal(38, 8), sums of them exact. `complete_seconds`, `healed_seconds`,
        `aggregated_seconds`, `incomplete_seconds` and `missing_seconds` add up to the interval's length.

        An interval of which no second is known has no row. With fill="previous" it has one, between two bars: its prices
        are the close before, `missing_seconds` is its length, `state` is `missing`, and the rest is null.

        It is read when it is collected, and anew each time: only the days of the range, and only columns that are used.
        UnknownSymbolError and NoDataError say what there is.
        """
        question = self._holdings.question(symbols, start, end, every, columns, fill)
        return lazy(question, lambda: self._days_of(question), self._files, self._cursor)

    def batches(
        self,
        symbols: str | Iterable[str],
        start: Time | None = None,
        end: Time | None = None,
        every: str | timedelta = "1m",
        *,
        columns: str | Iterable[str] | None = None,
        fill: Fill | None = None,
    ) -> Iterator[pl.DataFrame]:
        """The same as `bars`, piece by piece in order, each of at most about half a million rows: for what is more than
        memory holds. There is at least one, which may be empty.
        """
        question = self._holdings.question(symbols, start, end, every, columns, fill)
        return frames(question, self._days_of(question), self._files, self._cursor)

    def to_pandas(
        self,
        symbols: str | Iterable[str],
        start: Time | None = None,
        end: Time | None = None,
        every: str | timedelta = "1m",
        *,
        columns: str | Iterable[str] | None = None,
        fill: Fill | None = None,
        exact: bool = False,
    ) -> pd.DataFrame:
        """The same as `bars`, as a pandas DataFrame indexed by `window_start` (UTC).

        Prices and sizes are float64, which holds about 16 digits; with `exact` they are decimal.Decimal, which pandas
        is slow with. Needs pandas: `pip install 'crypto-lake[pandas]'`.
        """
        try:
            import pandas  # noqa: F401
        except ModuleNotFoundError:
            raise LakeError("pandas is not installed; run pip install 'crypto-lake[pandas]'") from None
        names = columns_.chosen(columns)
        whole = names if "window_start" in names else ("window_start", *names)
        frame = self.bars(symbols, start, end, every, columns=whole, fill=fill).collect()
        if not exact:
            frame = frame.with_columns(pl.col(pl.Decimal).cast(pl.Float64))
        return frame.to_pandas().set_index("window_start")

    def coverage(self, symbol: str, start: Time | None = None, end: Time | None = None) -> pl.DataFrame:
        """What is known of each day of the range, one row a day (UTC), also of days without any bar.

        exchange, symbol, day (Date), seconds: those of the range in that day; complete_seconds, healed_seconds,
        aggregated_seconds, incomplete_seconds, missing_seconds: add up to it; trade_count; missing_trades: ids that are
        not there between the day's first and last trade (null without a trade); first_second, last_second: of the bars
        that are there. Of a day that is not over the rest of it is missing too: give an end.
        """
        span = self._holdings.range((symbol,), start, end)
        if self._holdings.bounds((symbol,), span) is None:
            if span.start is None or span.end is None:
                raise self._holdings.nothing((symbol,), span)
            return self._answer(unknown_days(self.exchange, symbol, span))
        return self._answer(macro_statement("coverage", (symbol,), span, self._source((symbol,), span)))

    def gaps(
        self, symbols: str | Iterable[str], start: Time | None = None, end: Time | None = None
    ) -> pl.DataFrame:
        """What is missing between two seconds that are there, one row a gap, by symbol and time.

        exchange, symbol, gap_start, gap_end (the first second after it), missing_seconds, first_missing_id,
        last_missing_id, missing_trades. missing_seconds is 0 where ids are missing between two seconds that follow each
        other, or within one (then which ids they are is not known, and the two are null).
        """
        names = named(symbols)
        span = self._holdings.range(names, start, end)
        return self._answer(macro_statement("gaps", names, span, self._source(names, span)))

    def macro_series(self) -> list[str]:
        """Macro series that are there, sorted. Empty where there are none."""
        return macro_.series_of(self._place.macro())

    def macro(
        self,
        series: str | Iterable[str] | None = None,
        start: Time | None = None,
        end: Time | None = None,
        *,
        as_of: Time | None = None,
        versions: macro_.Versions = "latest",
    ) -> pl.LazyFrame:
        """Days of macro series (of all, for None) from `start` on and before `end`, by series and date (docs/macro.md).

        `as_of`: only what was known then. `versions`: the latest of each day, or "all".
        """
        return macro_.read(self._place.macro(), series, start, end, as_of=as_of, versions=versions)

    def with_macro(
        self,
        bars: pl.LazyFrame,
        series: str | Iterable[str],
        *,
        on: str = "window_start",
        column: str = "close",
        late: macro_.Late = "known_at",
    ) -> pl.LazyFrame:
        """Bars with the value that each series had last when they began, without looking ahead, and the day it is of.

        A value counts from the time at which the lake was first told it. `late="day_end"`: the first version of a day
        counts from the day's end, also where it was fetched later (docs/macro.md). `column`: which of its columns.
        """
        names = [series] if isinstance(series, str) else list(series)
        rows = macro_.read(self._place.macro(), names, versions="all")
        return macro_.join_as_of(bars, rows, names, on=on, column=column, late=late)

    def connect(self, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection in memory with the lake's views and macros (docs/sql.md); close it when done.

        Views bars_1s, bars_1m … bars_1d; macros bars, volume, volume_by_hour, volume_by_weekday, volume_profile,
        spread, gaps, coverage; of macro series the views macro, macro_versions, macro_known. A query sees the lake as it was when it began, or at most a second before, and each day in
        one version. The session's time zone is UTC.

        `read_only`: no file but the lake's can be reached, none written, and no setting changed.
        """
        return open_session(LakeFiles(self._place), read_only=read_only)

    def sql_for(
        self,
        what: str = "bars_1m",
        symbols: str | Iterable[str] | None = None,
        start: Time | None = None,
        end: Time | None = None,
        *,
        every: str | timedelta | None = None,
        columns: str | Iterable[str] | None = None,
        **parameters: Any,
    ) -> str:
        """The SQL of a view or macro over the files themselves, to run in any DuckDB.

        `what`: a name of VIEWS or MACROS, or a view of macro series. `every` is for macros that take it, `columns` for bars;
        other parameters of a macro by their names, such as `levels=50`. On gs:// that DuckDB needs its extension httpfs, and HMAC keys.
        """
        if what in macro_.VIEW_NAMES:
            if parameters or not (symbols is start is end is every is columns is None):
                raise InvalidArgumentError(f"{what} takes nothing: say it in a statement over it")
            return macro_.elsewhere(what, self._root())
        names = () if symbols is None else named(symbols)
        rows = elsewhere(self._root(), names, self.exchange)
        span = as_span(start, end)
        if what in VIEWS or what == "bars":
            return bars_statement(what, names, span, rows, columns, every=every, **parameters)
        return macro_statement(what, names, span, rows, every=every, **parameters)

    # What the methods above share
    def _days_of(self, question: Question) -> tuple[str, str] | None:
        return self._holdings.bounds(question.symbols, question.span)

    def _answer(self, statement: str) -> pl.DataFrame:
        cursor = self._cursor()
        self._files.refresh()
        try:
            with asking(self._files):
                return in_utc(cursor.sql(statement).pl())
        finally:
            cursor.close()

    def _source(self, symbols: tuple[str, ...], span: Span) -> str:
        return source(selection(self.exchange, list(symbols), span))

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """On the lake's own session, made when it is first needed."""
        with self._lock:
            if self._connection is None:
                self._connection = open_session(self._files, views=False)
            return self._connection.cursor()

    def _root(self) -> str:
        url = self.url
        return url if self._place.is_remote else url.rstrip("/") or "/"
