"""The writer's thread: batches in, fsynced parts and ledger lines out.

Order is what makes the promise hold: raw is fsynced, then the ledger's lines that rest on it, then the trades are
acknowledged. A crash between two of them leaves the later one to be derived from the earlier.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from crypto_lake.capture.batch import Batch
from crypto_lake.capture.outcome import Reason
from crypto_lake.capture.snapshot import SymbolSnapshot, WriterSnapshot
from crypto_lake.completeness import recovery
from crypto_lake.completeness.recovery import SymbolLedger
from crypto_lake.exchanges import Exchange
from crypto_lake.lake import control
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import PartWriter, next_part_number
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Hour
from crypto_lake.model.market import Stream

log = logging.getLogger(__name__)

_SAMPLES = 4096


@dataclass(frozen=True)
class WriterSettings:
    fsync_seconds: float
    rotate_ns: int
    hole_grace_ns: int


@dataclass
class _OpenPart:
    writer: PartWriter
    hour: Hour
    number: int
    opened_ns: int
    dirty: bool = False


@dataclass
class _Symbol:
    ledger: SymbolLedger
    durable_id: int = 0


@dataclass
class _Figures:
    bytes_written: int = 0
    frames: int = 0
    parts: int = 0
    fsyncs: int = 0
    fsync_last_ms: float = 0.0
    last_fsync_ns: int = 0
    write_errors: int = 0
    intervals: deque[tuple[float, float]] = field(
        default_factory=lambda: deque[tuple[float, float]](maxlen=120)
    )
    to_durable: deque[float] = field(default_factory=lambda: deque[float](maxlen=_SAMPLES))


class Writer(threading.Thread):
    """Owns every file that capture writes. Made and started by the collector, under the lock `capture`.

    on_written(bytes), on_durable({symbol: greatest id fsynced}) and on_failure(error) are called in this thread.
    After a failure it takes no more: what reached the disk is then for salvage to say.
    """

    def __init__(
        self,
        layout: Layout,
        exchange: Exchange,
        collector: str,
        settings: WriterSettings,
        quarantine: Quarantine,
        *,
        on_written: Callable[[int], None],
        on_durable: Callable[[dict[str, int]], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name="writer", daemon=True)
        self._layout = layout
        self._exchange = exchange
        self._collector = collector
        self._settings = settings
        self._quarantine = quarantine
        self._on_written, self._on_durable, self._on_failure = on_written, on_durable, on_failure
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._compressor = FrameCompressor()
        self._parts: dict[str, _OpenPart] = {}
        self._symbols: dict[str, _Symbol] = {}
        self._unsynced: list[Batch] = []
        self._synced_at = time.monotonic()
        self._started_ns = 0
        self._figures = _Figures()
        self.symbol_snapshots: list[SymbolSnapshot] = []  # as of the last fsync; replaced whole

    # called from the collector
    def open_symbol(self, symbol: str) -> None:
        """Take up a symbol's ledger. Before the thread starts, or in it (a symbol that was added since)."""
        if symbol not in self._symbols:
            grace_ns = self._settings.hole_grace_ns
            ledger = recovery.open_ledger(
                self._layout, self._exchange, symbol, self._collector, grace_ns, self._quarantine
            )
            if self._started_ns:
                ledger.append(ledger.fold.restarted(self._started_ns))
            self._symbols[symbol] = _Symbol(ledger, ledger.fold.last_id)

    def put(self, batch: Batch) -> None:
        self._queue.put(batch)

    def finish(self) -> None:
        """Write what is queued, close every part and ledger, and end. Join the thread after it."""
        self._queue.put(None)

    @property
    def _overdue_seconds(self) -> float:
        """The collector orders each fsync with the cut before it. Where it is late, the thread goes ahead."""
        return 1.5 * self._settings.fsync_seconds

    # the thread
    def run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._write(batch)
                if batch.sync or time.monotonic() - self._synced_at >= self._overdue_seconds:
                    self._sync()
            self._close()
        except BaseException as error:
            self._figures.write_errors += 1
            log.exception("the writer ends: %s", error)
            self._on_failure(error)

    def _next(self) -> Batch | None:
        while True:
            wait = self._synced_at + self._overdue_seconds - time.monotonic()
            try:
                return self._queue.get(timeout=max(0.0, wait))
            except queue.Empty:
                self._sync()

    def _write(self, batch: Batch) -> None:
        for rejected in batch.rejected:
            origin = f"connection {rejected.connection}"
            self._quarantine.add("messages", rejected.data, rejected.reason, origin, rejected.received_ns)
        for item in batch.items:
            if item.symbol != control.CONTROL:
                self.open_symbol(item.symbol)
            part = self._part(item.symbol, batch.hour, batch.cut_ns)
            self._figures.bytes_written += part.writer.append(item.lines, self._compressor)
            self._figures.frames += 1
            part.dirty = True
            item.lines = b""
        self._unsynced.append(batch)
        self._on_written(batch.bytes)
        self._rotate(batch.cut_ns)

    def _part(self, symbol: str, hour: Hour, now_ns: int) -> _OpenPart:
        part = self._parts.get(symbol)
        if part is not None and part.hour == hour:
            return part
        if part is not None:
            self._sync()
            self._close_part(symbol, part)
        number = next_part_number(self._layout, self._exchange.name, symbol, hour.day)
        path = self._layout.part(self._exchange.name, symbol, hour, number)
        part = self._parts[symbol] = _OpenPart(PartWriter(path), hour, number, now_ns)
        self._figures.parts += 1
        return part

    def _rotate(self, now_ns: int) -> None:
        """Close the parts that are old enough, or whose hour is over."""
        due = [
            (symbol, part)
            for symbol, part in self._parts.items()
            if not part.opened_ns <= now_ns < min(part.opened_ns + self._settings.rotate_ns, part.hour.end_ns)
        ]
        if due:
            self._sync()
            for symbol, part in due:
                self._close_part(symbol, part)

    def _close_part(self, symbol: str, part: _OpenPart) -> None:
        """Its trades have gone through the ledger by now (`_sync`)."""
        del self._parts[symbol]
        part.writer.close()
        if symbol != control.CONTROL:
            ledger = self._symbols[symbol].ledger
            recovery.save_checkpoint(self._layout, self._exchange.name, ledger, part.hour, part.number)

    def _sync(self) -> None:
        """Raw, then ledger, then acknowledge."""
        started = time.monotonic()
        for part in self._parts.values():
            if part.dirty:
                part.writer.sync()
                part.dirty = False
        ended = time.monotonic()
        acknowledged = self._enter(self._unsynced)
        for batch in self._unsynced:
            self._figures.last_fsync_ns = batch.cut_ns
            self._figures.to_durable.extend(ended - item.oldest_monotonic for item in batch.items)
        self._unsynced = []
        self._figures.fsyncs += 1
        self._figures.fsync_last_ms = (ended - started) * 1000
        self._figures.intervals.append((ended, ended - self._synced_at))
        self._synced_at = started
        self.symbol_snapshots = [_tell(name, symbol) for name, symbol in self._symbols.items()]
        if acknowledged:
            self._on_durable(acknowledged)

    def _enter(self, batches: list[Batch]) -> dict[str, int]:
        """Put durable batches through the ledgers; the greatest id now durable of each symbol that has a new one."""
        acknowledged: dict[str, int] = {}
        for batch in batches:
            for received_ns, connection, event in batch.events:
                self._enter_event(received_ns, connection, event)
            for item in batch.items:
                if not item.runs:
                    continue
                symbol = self._symbols[item.symbol]
                for run in item.runs:
                    symbol.ledger.append(symbol.ledger.fold.trades(run))
                if symbol.ledger.fold.last_id > symbol.durable_id:
                    symbol.durable_id = acknowledged[item.symbol] = symbol.ledger.fold.last_id
            if batch.whole:
                for symbol in self._symbols.values():
                    symbol.ledger.append(symbol.ledger.fold.passed(batch.cut_ns))
        return acknowledged

    def _enter_event(self, received_ns: int, connection: str, event: control.AnyEvent) -> None:
        match event:
            case control.CollectorStarted():
                self._started_ns = received_ns
                for symbol in self._symbols.values():
                    symbol.ledger.append(symbol.ledger.fold.restarted(received_ns))
            case control.Subscribed() | control.Unsubscribed():
                for name in event.streams:
                    symbol, kind = self._exchange.parse_stream_name(name)
                    if kind is Stream.TRADE:
                        self.open_symbol(symbol)
                        fold = self._symbols[symbol].ledger.fold
                        if isinstance(event, control.Subscribed):
                            fold.subscribed(connection)
                        else:
                            fold.unsubscribed(connection, received_ns)
            case control.Disconnected():
                for symbol in self._symbols.values():
                    if event.reason == Reason.UNSUBSCRIBED:
                        symbol.ledger.fold.unsubscribed(connection, received_ns)
                    else:
                        symbol.ledger.fold.disconnected(connection, received_ns)
            case control.MessagesLost():
                if (lost := self._symbols.get(event.symbol)) is not None:
                    lost.ledger.fold.messages_lost(received_ns)
            case _:
                pass

    def _close(self) -> None:
        self._sync()
        for symbol in self._symbols.values():
            symbol.ledger.append(symbol.ledger.fold.flush())
        for name, part in list(self._parts.items()):
            self._close_part(name, part)
        for symbol in self._symbols.values():
            symbol.ledger.file.close()

    # what is told, to another thread
    @staticmethod
    def nothing_yet(queue_limit_bytes: int) -> WriterSnapshot:
        """The figures of a writer that has not started."""
        return _tell_figures(_Figures(), 0, queue_limit_bytes, 0)

    def snapshot(self, queue_bytes: int, queue_limit_bytes: int, queue_full_total: int) -> WriterSnapshot:
        return _tell_figures(self._figures, queue_bytes, queue_limit_bytes, queue_full_total)


def _tell_figures(
    figures: _Figures, queue_bytes: int, queue_limit_bytes: int, queue_full_total: int
) -> WriterSnapshot:
    since = time.monotonic() - 60
    intervals = [interval for at, interval in list(figures.intervals) if at >= since]
    samples = sorted(figures.to_durable.copy())
    return WriterSnapshot(
        queue_bytes,
        queue_limit_bytes,
        queue_full_total,
        figures.bytes_written,
        figures.frames,
        figures.parts,
        figures.fsyncs,
        max(intervals, default=0.0) * 1000,
        figures.fsync_last_ms,
        samples[int(0.99 * (len(samples) - 1))] * 1000 if samples else 0.0,
        figures.last_fsync_ns,
        figures.write_errors,
    )


def _tell(name: str, symbol: _Symbol) -> SymbolSnapshot:
    fold = symbol.ledger.fold
    missing = fold.missing()
    return SymbolSnapshot(
        name,
        fold.last_id,
        symbol.durable_id,
        fold.last_time_us,
        len(missing),
        sum(map(len, missing)),
        fold.holes_total,
        fold.duplicates,
    )
