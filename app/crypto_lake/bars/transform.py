"""`transform`: everything that raw holds and bars don't show yet, made into bars.

One run at a time per data directory (lock `transform`). It reads closed parts only, so it may run beside the
collector; parts that a crash left open are closed first where no collector runs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from crypto_lake.bars.coverage import ControlEvent, Watch, watches
from crypto_lake.bars.lines import Template
from crypto_lake.bars.report import DayReport, TransformReport
from crypto_lake.bars.symbol import SymbolBars
from crypto_lake.exchanges import EXCHANGES
from crypto_lake.lake import durable, envelope, locks, parts
from crypto_lake.lake.control import CONTROL, Alive, CollectorStarted, Disconnected, Subscribed, Unsubscribed
from crypto_lake.lake.control import decode_event as decode_control
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Clock, SystemClock
from crypto_lake.model.market import NS_PER_SECOND, Stream

_log = logging.getLogger(__name__)
_CONTROL_DAYS = 3  # how far back connections are looked at, for seconds after a symbol's last trade


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. Bytes are of raw files as they lie on the disk; some may be read twice."""

    symbol: str
    symbols_done: int
    symbols: int
    bytes_read: int


def report_path(layout: Layout) -> Path:
    return layout.state / "transform.json"


def transform(
    layout: Layout,
    exchange: str,
    *,
    clock: Clock | None = None,
    symbols: Sequence[str] | None = None,
    days: Sequence[str] | None = None,
    rebuild: bool = False,
    progress: Callable[[Progress], None] | None = None,
    workers: int | None = None,
) -> TransformReport:
    """Make bars of all that is new in raw, of all symbols and days or of those named.

    `rebuild`: make them again even where nothing is new (rows whose raw has gone are kept all the same). `clock`
    decides only when a day is final. A symbol that fails is told in the report and does not stop the others.
    Raises LockHeldError where another run has the lock, ValueError for an unknown exchange.
    """
    if exchange not in EXCHANGES:
        raise ValueError(f"unknown exchange {exchange!r}; known: {', '.join(sorted(EXCHANGES))}")
    with locks.hold(layout.locks, "transform"):
        run = _Run(layout, exchange, clock or SystemClock(), rebuild, progress, days)
        report = run.run(sorted(set(symbols)) if symbols is not None else None, workers)
        durable.write_fleeting(report_path(layout), msgspec.json.encode(report))
        return report


@dataclass
class _Run:
    layout: Layout
    exchange: str
    clock: Clock
    rebuild: bool
    progress: Callable[[Progress], None] | None
    days: Sequence[str] | None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: int = 0
    _bytes: int = 0

    def run(self, symbols: Sequence[str] | None, workers: int | None) -> TransformReport:
        started, started_ns = time.monotonic(), self.clock.now_ns()
        quarantine = Quarantine(self.layout.quarantine)
        salvaged = _salvage(self.layout, quarantine)
        names = symbols if symbols is not None else self.layout.symbols(self.exchange)
        watched = watches(_control_events(self.layout, self.exchange))
        made: list[DayReport] = []
        failed: dict[str, str] = {}
        bars: list[SymbolBars] = []

        def one(symbol: str) -> None:
            work = self._symbol(symbol, watched, quarantine)
            bars.append(work)
            try:
                made.extend(self._make(work))
            except Exception as error:  # told, and the other symbols go on
                _log.exception("bars of %s could not be made", symbol)
                failed[symbol] = f"{type(error).__name__}: {error}"
            with self._lock:
                self._done += 1
            self._tell(symbol, len(names))

        # Threads, not processes: polars and zstd work outside the interpreter's lock, and share their memory.
        with ThreadPoolExecutor(workers or min(2, os.cpu_count() or 1)) as pool:
            list(pool.map(one, names))
        lasts = [
            last for work in bars if work.symbol not in failed and (last := work.last_second()) is not None
        ]
        lag = self.clock.now_ns() / NS_PER_SECOND - (min(lasts) + 1) if lasts else None
        made.sort(key=lambda day: (day.symbol, day.day))
        return TransformReport(
            exchange=self.exchange,
            started_ns=started_ns,
            seconds=round(time.monotonic() - started, 3),
            symbols=len(names),
            rows=sum(day.rows for day in made),
            trades=sum(day.trades for day in made),
            hours_made=sum(day.hours_made for day in made),
            duplicates=sum(day.duplicates for day in made),
            conflicts=sum(day.conflicts for day in made),
            unreadable=sum(work.unreadable for work in bars),
            holes=sum(day.holes for day in made),
            missing_ids=sum(day.missing_ids for day in made),
            files_read=sum(work.files_read for work in bars),
            bytes_read=sum(work.bytes_read for work in bars),
            salvaged_parts=salvaged,
            lag_seconds=None if lag is None else round(lag, 1),
            failed=dict(sorted(failed.items())),
            days=made,
        )

    def _symbol(
        self, symbol: str, watched: Mapping[str, Sequence[Watch]], quarantine: Quarantine
    ) -> SymbolBars:
        description = EXCHANGES[self.exchange]
        trade_stream = description.stream_name(symbol, Stream.TRADE)
        quote_stream = description.stream_name(symbol, Stream.BOOK_TICKER)
        return SymbolBars(
            self.layout,
            self.exchange,
            symbol,
            watched.get(trade_stream, []),
            quarantine,
            Template(symbol, trade_stream, quote_stream),
            self.rebuild,
            lambda size: self._read(symbol, size),
        )

    def _make(self, work: SymbolBars) -> list[DayReport]:
        work.look()
        made: dict[str, DayReport] = {}
        # Making a day may show that a day before or after it is to be made again: its next trade, a late trade.
        stale: list[str] = []
        for _ in range(_MOST_PASSES):
            stale = [day for day in work.stale_days() if self.days is None or day in self.days]
            if not stale:
                break
            for day in stale:
                now = work.make(day, self.clock.now_ns())
                if now is None:
                    continue
                before = made.get(day)
                if before is not None:
                    now = msgspec.structs.replace(now, hours_made=max(before.hours_made, now.hours_made))
                made[day] = now
        else:
            raise RuntimeError(f"{work.symbol}: days {stale} do not settle; a fault of the program")
        for day in work.days():
            if self.days is None or day in self.days:
                work.settle(day, self.clock.now_ns())
        return list(made.values())

    def _read(self, symbol: str, size: int) -> None:
        with self._lock:
            self._bytes += size
        self._tell(symbol, 0)

    def _tell(self, symbol: str, symbols: int) -> None:
        if self.progress is not None:
            self.progress(Progress(symbol, self._done, symbols, self._bytes))


_MOST_PASSES = 50


def _salvage(layout: Layout, quarantine: Quarantine) -> int:
    """Close parts that a crash left open, where no collector runs."""
    if next(layout.open_parts(), None) is None:
        return 0
    # Its lock is taken for as long as it lasts, so that none starts meanwhile and finds its new part salvaged.
    with suppress(locks.LockHeldError), locks.hold(layout.locks, "capture"):
        return len(parts.salvage(layout, quarantine))
    return 0


def _control_events(layout: Layout, exchange: str) -> Iterable[ControlEvent]:
    """Connection events of the last days. What can't be read is passed over: it is no market data, and the
    collector's own recovery puts it aside."""
    for day in layout.raw_days(exchange, CONTROL)[-_CONTROL_DAYS:]:
        for file in layout.raw_files(exchange, CONTROL, day):
            if file.is_open:
                continue
            for frame in read_frames(file.path):
                if isinstance(frame, BadBytes):
                    continue
                for line in frame.data.splitlines():
                    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                        read = envelope.decode(line)
                        event = decode_control(read.message)
                        if isinstance(
                            event, Subscribed | Unsubscribed | Alive | Disconnected | CollectorStarted
                        ):
                            yield ControlEvent(read.received_ns, read.connection, event)
