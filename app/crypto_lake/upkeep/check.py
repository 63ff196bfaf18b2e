"""Holds bars against the exchange's own klines and writes a verdict for each second.

Klines that were streamed beside the trades and lie in raw come first; the exchange is asked for seconds that have none,
and for those that differ unexplained. An hour whose bars are the same as when they were last held against them is not asked for again. What differs is
explained anew each time, for the ledger may have learned more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

import polars as pl

from crypto_lake.bars.day_file import read_day
from crypto_lake.bars.rows import BAR_SCHEMA, HOUR_SECONDS
from crypto_lake.completeness import gone, klines, ledger, verdict, verdict_table
from crypto_lake.completeness.raw_klines import RawKlines
from crypto_lake.completeness.verdict import Counted, Explained, Verdict, differences_of
from crypto_lake.completeness.verdict_table import CheckedHour
from crypto_lake.lake import deletions, locks
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.signature import Signature, signature_of
from crypto_lake.model.clock import Clock, Hour
from crypto_lake.model.market import NS_PER_SECOND, US_PER_SECOND
from crypto_lake.upkeep.check_asking import ROWS, Asking, Klines, Refusal
from crypto_lake.upkeep.check_report import SCHEMA, CheckReport, DayCheck, Unlike

_log = logging.getLogger(__name__)

SETTLED_SECONDS: Final = 60  # so old must a second be: the exchange's kline is final, and our bar is made
RECENT_DAYS: Final = 8  # that are looked at where none is named; more than raw is kept by default
_RETRY_SECONDS: Final = 1.0  # between two tries of a request that failed
# The newest bars of a lake that streams klines wait so long for theirs, which may lie in a part that is still open.
_KLINE_TO_COME_SECONDS: Final = 5
_UNLIKE_TOLD: Final = 20


@dataclass(frozen=True, slots=True)
class Progress:
    symbol: str
    day: str
    days_done: int
    days: int


async def check(
    layout: Layout,
    exchange: str,
    asker: Klines,
    *,
    clock: Clock,
    symbols: Sequence[str] | None = None,
    days: Sequence[str] | None = None,
    again: bool = False,
    patience_seconds: float = 120.0,
    retry_seconds: float = _RETRY_SECONDS,
    progress: Callable[[Progress], None] = lambda _: None,
) -> CheckReport:
    """Verdicts of all bars of the last eight days, or of those named; `again`: whether or not they stand already, and by
    REST wherever it answers. Those of bars that a clean-up has deleted stand.

    patience_seconds: for all waits together that the account of weight asks for. Raises LockHeldError where another run
    is at it.
    """
    started, weight, requests = time.monotonic(), asker.weight, asker.requests
    now_ns = clock.now_ns()
    with locks.hold(layout.locks, "check"):
        asking = Asking(asker, patience_seconds, retry_seconds)
        work = _Check(layout, exchange, asking, now_ns, again)
        chosen = [
            (symbol, day)
            for symbol in (symbols if symbols is not None else layout.bar_symbols(exchange))
            for day in _days(layout, exchange, symbol, days, now_ns)
        ]
        made: list[DayCheck] = []
        failed: dict[str, str] = {}
        for done, (symbol, day) in enumerate(chosen):
            progress(Progress(symbol, day, done, len(chosen)))
            try:
                if (found := await work.day(symbol, day)) is not None:
                    made.append(found)
            except (OSError, ledger.BrokenLedgerError) as error:  # told, and the others go on
                _log.error("%s of %s could not be checked: %s", symbol, day, error)
                failed[f"{symbol} {day}"] = str(error)
        taken_away, problems = work.refused(await asking.refusals())
    return CheckReport(
        schema=SCHEMA,
        exchange=exchange,
        seconds=round(time.monotonic() - started, 3),
        requests=asker.requests - requests,
        weight=asker.weight - weight,
        days=made,
        failed=failed,
        problem="; ".join([*problems, *([asking.ended] if asking.ended else [])]),
        gone=taken_away,
    )


def _days(layout: Layout, exchange: str, symbol: str, days: Sequence[str] | None, now_ns: int) -> list[str]:
    if days is not None:
        return sorted(set(days))
    oldest = Hour.of_ns(max(0, now_ns - RECENT_DAYS * 24 * HOUR_SECONDS * NS_PER_SECOND)).day
    found = layout.days_with_bars(exchange, symbol)
    if not found or found[-1] < oldest:
        return []
    # A day between them of which there are no bars at all is judged, too.
    at, last = date.fromisoformat(max(oldest, found[0])), date.fromisoformat(found[-1])
    return [(at + timedelta(days=n)).isoformat() for n in range((last - at).days + 1)]


@dataclass(frozen=True, slots=True)
class _Hour:
    """asked, revised: as in DayCheck. whole: all that was asked for was answered."""

    rows: pl.DataFrame
    asked: int
    revised: int
    whole: bool


class _Check:
    """One run."""

    def __init__(self, layout: Layout, exchange: str, asking: Asking, now_ns: int, again: bool) -> None:
        self._layout, self._exchange, self._asking = layout, exchange, asking
        self._now = now_ns // NS_PER_SECOND
        self._settled = self._now - SETTLED_SECONDS
        self._again = again
        # Of the symbol at hand: it has a year of both, and a run looks at some days of it.
        self._known: tuple[tuple[str, Signature], verdict.Known] | None = None
        self._listed: tuple[str, list[str]] | None = None

    async def day(self, symbol: str, day: str) -> DayCheck | None:
        """None where there is nothing to judge, not yet or no more."""
        path = self._layout.bars(self._exchange, symbol, day)
        read = read_day(self._layout, self._exchange, symbol, day)
        if read is None and deletions.is_deleted(self._layout, self._exchange, symbol, day, path):
            return None  # what was judged of these bars stands
        bars, digests = read if read is not None else (pl.DataFrame(schema=BAR_SCHEMA), {})
        span, last_second = self._span(symbol, day, bars)
        if span[0] >= span[1]:
            return None
        path = self._layout.verdicts(self._exchange, symbol, day)
        before = None if self._again else verdict_table.read(path)
        known = replace(self._known_of(symbol), last_second=last_second)
        hours: dict[int, CheckedHour] = {}
        parts: list[pl.DataFrame] = []
        raw = RawKlines(self._layout, self._exchange, symbol)
        asked = revised = 0
        for hour in range(span[0] // HOUR_SECONDS, -(-span[1] // HOUR_SECONDS)):
            since, until = max(span[0], hour * HOUR_SECONDS), min(span[1], (hour + 1) * HOUR_SECONDS)
            wanted = CheckedHour(digests.get(hour, ""), since, until)
            if before is not None and before[1].get(hour) == wanted:
                parts.append(_hour_of(before[0], hour))
                hours[hour] = wanted
                continue
            streamed = raw.of(since, until)
            if until == span[1] < _day_end(day) and not self._again:
                until = _up_to_kline(streamed, until)
                wanted = CheckedHour(wanted.digest, since, until)
            found = await self._hour(symbol, bars, streamed, (since, until), known)
            parts.append(found.rows)
            asked, revised = asked + found.asked, revised + found.revised
            if found.whole:
                hours[hour] = wanted
        if raw.unreadable:
            _log.warning(
                "%d klines of %s of %s in raw can't be read; they were asked for", raw.unreadable, symbol, day
            )
        rows = verdict.explain(pl.concat(parts), known).sort("window_start")
        rows = rows.with_columns(pl.lit(self._exchange).alias("exchange"), pl.lit(symbol).alias("symbol"))
        if before is None or before[1] != hours or not before[0].equals(rows):
            verdict_table.write(path, rows, hours)
        complete = (
            span[1] == _day_end(day) and len(hours) == -(-span[1] // HOUR_SECONDS) - span[0] // HOUR_SECONDS
        )
        return _told(self._exchange, symbol, day, rows, asked, revised, finished=complete)

    def _known_of(self, symbol: str) -> verdict.Known:
        """By its ledger, read once for all of its days unless it has grown. Raises BrokenLedgerError."""
        path = self._layout.ledger(self._exchange, symbol)
        at = symbol, signature_of(path)
        if self._known is None or self._known[0] != at:
            self._known = at, verdict.known(ledger.read(path).lines)
        return self._known[1]

    def _days_of(self, symbol: str) -> list[str]:
        """Its days with bars, listed once."""
        if self._listed is None or self._listed[0] != symbol:
            self._listed = symbol, self._layout.days_with_bars(self._exchange, symbol)
        return self._listed[1]

    def refused(self, refusals: Mapping[str, Refusal]) -> tuple[dict[str, str], list[str]]:
        """Symbols that the exchange no longer has, with what it says of them; and of the others why it is a problem."""
        taken_away: dict[str, str] = {}
        problems: list[str] = []
        for symbol, refusal in refusals.items():
            if not refusal.unknown:
                problems.append(f"{symbol}: {refusal.why}")
                continue
            says = f"{gone.said(refusal.standing)} ({refusal.why})"
            try:
                ago_seconds = self._last_trade_ago_seconds(symbol)
            except OSError as error:
                problems.append(f"{symbol}: {says}; when it last traded can't be read here: {error}")
                continue
            if gone.is_gone(
                klines_say_unknown=refusal.unknown,
                standing=refusal.standing,
                last_trade_ago_seconds=ago_seconds,
            ):
                taken_away[symbol] = says
            else:
                traded = "" if ago_seconds is None else f"; its last trade here is {ago_seconds} s old"
                problems.append(f"{symbol}: {says}{traded}")
        return taken_away, problems

    def _last_trade_ago_seconds(self, symbol: str) -> int | None:
        """None: there is no bar with a trade on its last two days."""
        for day in reversed(self._layout.days_with_bars(self._exchange, symbol)[-2:]):
            read = read_day(self._layout, self._exchange, symbol, day)
            traded = read[0].filter(pl.col("trade_count") > 0) if read is not None else pl.DataFrame()
            if traded.height:
                return self._now - int(traded["window_start"].dt.epoch("s")[-1])
        return None

    async def _hour(
        self,
        symbol: str,
        bars: pl.DataFrame,
        streamed: pl.DataFrame,
        span: tuple[int, int],
        of: verdict.Known,
    ) -> _Hour:
        """Verdicts of an hour or a part of it."""
        seconds = set(range(*span))
        if streamed.height and not self._again:
            seconds.difference_update(streamed["window_start"].dt.epoch("s"))
            seconds.update(verdict.in_doubt(verdict.judge(bars, streamed, [], span, of)))
        wanted = klines.spans(seconds, ROWS)
        rows, answered = await self._asking.klines(symbol, wanted)
        theirs = klines.table(rows)
        return _Hour(
            verdict.judge(bars, klines.chosen(streamed, theirs, answered), answered, span, of),
            sum(end - start for start, end in answered),
            klines.revised(streamed, theirs),
            whole=answered == wanted,
        )

    def _span(self, symbol: str, day: str, bars: pl.DataFrame) -> tuple[tuple[int, int], int | None]:
        """Seconds of the day to judge (end excluded): between the symbol's first bar and its last; and the last's second
        where it is in this day."""
        days = self._days_of(symbol)
        start, end, last_second = _day_start(day), _day_end(day), None
        if not days or not days[0] <= day <= days[-1]:
            return (end, end), None
        seconds = bars["window_start"].dt.epoch("s")
        if day == days[0] and len(seconds):
            start = seconds[0]
        if day == days[-1] and len(seconds):
            last_second = seconds[-1]
            end = seconds[-1] + 1
        return (start, min(end, self._settled)), last_second


def _day_start(day: str) -> int:
    return Hour(day, 0).start_ns // NS_PER_SECOND


def _day_end(day: str) -> int:
    return _day_start(day) + 24 * HOUR_SECONDS


def _up_to_kline(streamed: pl.DataFrame, until: int) -> int:
    """The end of what is judged now: behind the last kline that was streamed, where the next may be about to come."""
    if not streamed.height:
        return until
    after_last: int = streamed["window_start"].dt.epoch("s")[-1] + 1
    return after_last if until - after_last <= _KLINE_TO_COME_SECONDS else until


def _hour_of(rows: pl.DataFrame, hour: int) -> pl.DataFrame:
    second = pl.col("window_start").dt.epoch("us") // US_PER_SECOND
    return rows.filter((second >= hour * HOUR_SECONDS) & (second < (hour + 1) * HOUR_SECONDS))


def _told(
    exchange: str, symbol: str, day: str, rows: pl.DataFrame, asked: int, revised: int, *, finished: bool
) -> DayCheck:
    counted = Counted(rows)
    unexplained = rows.filter(
        (pl.col("verdict") == Verdict.MISMATCH.value) & (pl.col("explained") == Explained.NOT.value)
    )
    return DayCheck(
        exchange=exchange,
        symbol=symbol,
        day=day,
        seconds=rows.height,
        verified=counted.verified,
        mismatched=counted.mismatched,
        unverifiable=counted.unverifiable,
        unexplained=counted.unexplained,
        explained=counted.explained,
        asked=asked,
        finished=finished,
        unlike=[_unlike(row) for row in unexplained.head(_UNLIKE_TOLD).iter_rows(named=True)],
        by_stream=counted.by_stream,
        revised=revised,
    )


def _unlike(row: dict[str, object]) -> Unlike:
    at = row["window_start"]
    assert isinstance(at, datetime)
    return Unlike(
        second=at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        reason=str(row["reason"]),
        fields=differences_of(row),
    )
