"""`transform`: everything that raw holds and bars don't show yet, made into bars.

One run at a time per data directory (lock `transform`). It reads closed parts only, so it may run beside the
collector; parts that a crash left open are closed first where no collector runs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from crypto_lake.bars.report import Setup, SymbolResult, TransformReport
from crypto_lake.bars.workers import share
from crypto_lake.exchanges import EXCHANGES
from crypto_lake.lake import durable, locks, parts
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.lake.raw_manifests import raw_inputs
from crypto_lake.model.clock import Clock, SystemClock
from crypto_lake.model.market import NS_PER_SECOND

DEFAULT_MEMORY_MB: Final = 400
WORKER_MB: Final = (
    200  # what one worker may need, however much it has to read (measured: see bench/transform.py)
)
_WORTH_WORKERS_BYTES: Final = 16 * 1024 * 1024  # of raw as it lies on the disk; below it a start costs more


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
    memory_mb: int = DEFAULT_MEMORY_MB,
) -> TransformReport:
    """Make bars of all that is new in raw, of all symbols and days or of those named.

    `rebuild`: make them again even where nothing is new (rows whose raw has gone are kept all the same). `clock`
    decides only when a day is final. A symbol that fails is told in the report and does not stop the others.
    `workers`: processes to share the symbols among; None: as many as there are cores and `memory_mb` has room for,
    and this process alone where little is to be read. The bars are the same however many there are.
    Raises LockHeldError where another run has the lock, ValueError for an unknown exchange.
    """
    if exchange not in EXCHANGES:
        raise ValueError(f"unknown exchange {exchange!r}; known: {', '.join(sorted(EXCHANGES))}")
    started, now_ns = time.monotonic(), (clock or SystemClock()).now_ns()
    with locks.hold(layout.locks, "transform"):
        salvaged = len(parts.salvage_where_idle(layout, Quarantine(layout.quarantine)))
        setup = Setup(
            str(layout.root.absolute()), exchange, None if days is None else tuple(days), rebuild, now_ns
        )
        names = sorted(set(symbols)) if symbols is not None else layout.symbols(exchange)
        most = workers or min(len(os.sched_getaffinity(0)), memory_mb // WORKER_MB)
        sizes = {name: _raw_bytes(layout, exchange, name) for name in names}
        worth = sum(sizes.values()) >= _WORTH_WORKERS_BYTES or workers is not None
        count = min(most, len(names)) if worth else 1
        told = _Told(progress, len(names))
        if count > 1:
            # The greatest first, so that none is left over for the end.
            order = sorted(names, key=lambda name: (-sizes[name], name))
            results = share(setup, order, count, told.read, told.done)
        else:
            from crypto_lake.bars.maker import Maker  # polars: not where workers do the work

            results: list[SymbolResult] = []
            maker = Maker(setup)
            for name in names:
                results.append(maker.make(name, lambda size, name=name: told.read(name, size)))
                told.done(name)
        report = _report(setup, names, results, salvaged, time.monotonic() - started)
        durable.write_fleeting(report_path(layout), msgspec.json.encode(report))
        return report


class _Told:
    """Progress, put together from what the symbols' makers say. Called from several threads."""

    def __init__(self, progress: Callable[[Progress], None] | None, symbols: int) -> None:
        self._progress, self._symbols = progress, symbols
        self._lock = threading.Lock()
        self._done = self._bytes = 0

    def read(self, symbol: str, size: int) -> None:
        with self._lock:
            self._bytes += size
            self._tell(symbol)

    def done(self, symbol: str) -> None:
        with self._lock:
            self._done += 1
            self._tell(symbol)

    def _tell(self, symbol: str) -> None:
        if self._progress is not None:
            self._progress(Progress(symbol, self._done, self._symbols, self._bytes))


def _raw_bytes(layout: Layout, exchange: str, symbol: str) -> int:
    """What lies there of the last two days: most of what a run may have to read."""
    days = layout.raw_days(exchange, symbol)[-2:]
    return sum(
        f.path.stat().st_size
        for day in days
        for f in raw_inputs(layout, exchange, symbol, day)
        if not f.is_open
    )


def _report(
    setup: Setup, names: Sequence[str], results: Sequence[SymbolResult], salvaged: int, seconds: float
) -> TransformReport:
    made = sorted((day for r in results for day in r.days), key=lambda day: (day.symbol, day.day))
    lasts = [r.last_second for r in results if r.last_second is not None and r.failed is None]
    lag = setup.now_ns / NS_PER_SECOND - (min(lasts) + 1) if lasts else None
    return TransformReport(
        exchange=setup.exchange,
        started_ns=setup.now_ns,
        seconds=round(seconds, 3),
        symbols=len(names),
        rows=sum(day.rows for day in made),
        trades=sum(day.trades for day in made),
        hours_made=sum(day.hours_made for day in made),
        duplicates=sum(day.duplicates for day in made),
        conflicts=sum(day.conflicts for day in made),
        unreadable=sum(r.unreadable for r in results),
        holes=sum(day.holes for day in made),
        missing_ids=sum(day.missing_ids for day in made),
        files_read=sum(r.files_read for r in results),
        bytes_read=sum(r.bytes_read for r in results),
        salvaged_parts=salvaged,
        lag_seconds=None if lag is None else round(lag, 1),
        failed={r.symbol: r.failed for r in sorted(results, key=lambda r: r.symbol) if r.failed is not None},
        days=made,
    )
