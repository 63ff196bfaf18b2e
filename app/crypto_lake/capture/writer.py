"""The writer's thread: batches in, fsynced parts and ledger lines out.

Order is what makes the promise hold: raw is fsynced, then the ledger's lines that rest on it, then the trades are
acknowledged. A crash between two of them leaves the later one to be derived from the earlier.

A disk that is full or fails does not end it. What is held is tried again every second; meanwhile nothing is
acknowledged, the intake bounds what waits, and of what it lets go the ledger has the ids.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crypto_lake.capture.batch import Batch
from crypto_lake.capture.ledgers import Ledgers
from crypto_lake.capture.raw_files import RawFigures, RawFiles
from crypto_lake.capture.snapshot import SymbolSnapshot, WriterSnapshot
from crypto_lake.capture.writer_figures import Figures, Trouble, tell
from crypto_lake.completeness.entries import Cause
from crypto_lake.exchanges import Exchange
from crypto_lake.lake import reserve
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine

log = logging.getLogger(__name__)

# A day's hour may change under what is held more than once only where the clock is set.
_TURNS = 8
_RESERVE_SECONDS = 30.0  # between two looks whether the reserve can be made
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class LinesLostError(RuntimeError):
    """Messages that were received could not be written before the end; says how many, and why."""


@dataclass(frozen=True)
class WriterSettings:
    """hold_bytes: with so much written and not fsynced it is fsynced at once; all of it is held until then.

    finish_seconds: how long a disk that fails is tried at the end.
    """

    fsync_seconds: float
    rotate_ns: int
    hole_grace_ns: int
    hold_bytes: int = 16 * 1024 * 1024
    retry_seconds: float = 1.0
    finish_seconds: float = 5.0


class Writer(threading.Thread):
    """Owns every file that capture writes. Made and started by the collector, under the lock `capture`.

    Called in this thread: on_written({symbol: bytes}) for what is safe, on_durable({symbol: greatest id fsynced}),
    on_trouble(cause, or None when it is over), and on_failure(error) where it ends otherwise than by `finish` with
    everything written.
    """

    def __init__(
        self,
        layout: Layout,
        exchange: Exchange,
        collector: str,
        settings: WriterSettings,
        quarantine: Quarantine,
        *,
        on_written: Callable[[dict[str, int]], None],
        on_durable: Callable[[dict[str, int]], None],
        on_failure: Callable[[BaseException], None],
        on_trouble: Callable[[Cause | None], None] = lambda _: None,
    ) -> None:
        super().__init__(name="writer", daemon=True)
        self._layout = layout
        self._settings = settings
        self._quarantine = quarantine
        self._on_written, self._on_durable = on_written, on_durable
        self._on_failure, self._on_trouble = on_failure, on_trouble
        self._queue: queue.SimpleQueue[Batch | frozenset[str] | None] = queue.SimpleQueue()
        self._raw = RawFiles(layout, exchange.name, settings.rotate_ns, self._problem)
        self._ledgers = Ledgers(
            layout, exchange, collector, settings.hole_grace_ns, quarantine, self._problem
        )
        self._problems: list[tuple[OSError, str]] = []
        self._trouble: Trouble | None = None
        self._reserve_given_up = False
        self._reserve_looked_at = float("-inf")
        self._quarantine_failed = False
        self._cut_ns = 0  # of the latest batch
        self._synced_at = time.monotonic()
        self._figures = Figures()
        self.symbol_snapshots: list[SymbolSnapshot] = []  # as of the last fsync; replaced whole

    # called from the collector
    def open_symbol(self, symbol: str) -> None:
        """Take up a symbol's ledger, before the thread starts. One that comes later is taken up by itself."""
        self._ledgers.add(symbol)

    def open_leftovers(self) -> None:
        """Take up the ledgers that an earlier run left, before the thread starts; see `follow`."""
        self._ledgers.add_leftovers()

    def follow(self, symbols: Iterable[str]) -> None:
        """Only these are to come from now on; the ledger of any other one ends when nothing carries it."""
        self._queue.put(frozenset(symbols))

    def put(self, batch: Batch) -> None:
        self._queue.put(batch)

    def finish(self) -> None:
        """Write what is queued, close every part and ledger, and end. Join the thread after it."""
        self._queue.put(None)

    # the thread
    def run(self) -> None:
        try:
            self._keep_reserve()
            self._settle()
            while True:
                try:
                    batch = self._queue.get(timeout=max(0.0, self._due_at - time.monotonic()))
                except queue.Empty:
                    self._work(sync=True)
                    continue
                if batch is None:
                    break
                if isinstance(batch, frozenset):
                    self._ledgers.wanted = batch
                    continue
                self._take(batch)
                if not self._waits:
                    self._work(sync=batch.sync)
            self._finish()
        except BaseException as error:
            self._figures.write_errors += 1
            log.exception("the writer ends: %s", error)
            self._on_failure(error)

    @property
    def _due_at(self) -> float:
        """The collector orders each fsync with the cut before it. Where it is late, the thread goes ahead."""
        due_at = self._synced_at + 1.5 * self._settings.fsync_seconds
        if self._trouble is None:
            return due_at
        return self._trouble.retry_at if self._waits else min(due_at, self._trouble.retry_at)

    @property
    def _waits(self) -> bool:
        """A full disk is full for all. Of another trouble those symbols are left out that have it."""
        trouble = self._trouble
        return trouble is not None and trouble.cause == "disk_full" and time.monotonic() < trouble.retry_at

    def _take(self, batch: Batch) -> None:
        self._cut_ns = batch.cut_ns
        self._raw.take(batch.items)
        self._ledgers.take(batch)
        for rejected in batch.rejected:
            origin = f"connection {rejected.connection}"
            try:
                self._quarantine.add("messages", rejected.data, rejected.reason, origin, rejected.received_ns)
                self._quarantine_failed = False
            except OSError as error:  # it is counted all the same, and is no reason to stop
                if not self._quarantine_failed:
                    log.warning("quarantine can't be written, bad messages are only counted: %s", error)
                self._quarantine_failed = True

    def _work(self, *, sync: bool) -> None:
        """Write what is held and do what is due; in trouble, try now and then whether it is over."""
        trouble = self._trouble
        trying = trouble is not None and time.monotonic() >= trouble.retry_at
        if trouble is not None and trying:
            trouble.retry_at = time.monotonic() + self._settings.retry_seconds
            if not self._has_room(trouble):
                self._ledgers.enter()  # there is room for them now, if there was a reserve
                self._problems.clear()
                return
            self._raw.retry()
        self._write()
        late = time.monotonic() >= self._synced_at + 1.5 * self._settings.fsync_seconds
        if sync or late or trying or self._raw.held_bytes >= self._settings.hold_bytes:
            self._sync()
        if due := self._raw.due(self._cut_ns):
            self._sync()
            self._close(due)
        self._settle(tried=trying)
        if self._trouble is None:
            self._keep_reserve()

    def _write(self) -> None:
        for _ in range(_TURNS):
            turning = self._raw.write()
            if not turning:
                return
            self._sync()
            self._close(turning)

    def _close(self, symbols: set[str] | list[str]) -> None:
        """Close parts; what is in them has gone through the ledger by now (`_sync`)."""
        for part in self._raw.close(symbols):
            if part.symbol != CONTROL:
                self._ledgers.passed_part(part)

    def _sync(self) -> None:
        """Raw, then ledger, then acknowledge."""
        started = time.monotonic()
        synced = self._raw.sync()
        ended = time.monotonic()
        acknowledged = self._ledgers.enter(synced.items)
        for item in synced.items:
            self._figures.last_fsync_ns = max(self._figures.last_fsync_ns, item.cut_ns)
            self._figures.to_durable.append(ended - item.oldest_monotonic)
        if not self._raw.held_bytes:  # nothing waits, although nothing may have come
            self._figures.last_fsync_ns = max(self._figures.last_fsync_ns, self._cut_ns)
        self._figures.fsyncs += 1
        self._figures.fsync_last_ms = (ended - started) * 1000
        self._figures.intervals.append((ended, ended - self._synced_at))
        self._synced_at = started
        self.symbol_snapshots = self._ledgers.snapshots()
        if acknowledged:
            self._on_durable(acknowledged)
        if synced.sizes:
            self._on_written(synced.sizes)

    # trouble
    def _problem(self, error: OSError, what: str) -> None:
        self._problems.append((error, what))

    def _settle(self, *, tried: bool = True) -> None:
        """Whether the disk is in trouble, by the problems since the last time. `tried`: nothing was left out."""
        problems, self._problems = self._problems, []
        trouble, now = self._trouble, time.monotonic()
        if not problems:
            if trouble is not None and tried:
                self._trouble = None
                log.warning(
                    "writing goes on after %.1f s; what was let go meanwhile is in the ledger as a gap",
                    now - trouble.since_monotonic,
                )
                self._on_trouble(None)
            return
        full = [problem for problem in problems if problem[0].errno in _FULL]
        error, what = (full or problems)[0]
        cause: Cause = "disk_full" if full else "write_error"
        text = f"{what}: {error}"
        self._figures.write_errors += len(problems)
        self._figures.last_error, self._figures.last_error_ns = text, self._cut_ns
        if trouble is None:
            self._figures.troubles += 1
            trouble = self._trouble = Trouble(
                cause, self._cut_ns, now, text, now + self._settings.retry_seconds
            )
            log.error(
                "%s. What can't be written is not acknowledged; it is tried again every %.1f s, and connections are "
                "kept meanwhile",
                text,
                self._settings.retry_seconds,
            )
            self._on_trouble(cause)
        elif trouble.cause != cause:
            trouble.cause = cause
            self._on_trouble(cause)
        trouble.text = text
        if full and reserve.give_up(self._layout):
            self._reserve_given_up = True
            self._figures.reserve_bytes = 0
            log.error("the disk is full: its reserve is given up for ledgers and manifests")
            self._ledgers.enter()
            self._problems.clear()

    def _has_room(self, trouble: Trouble) -> bool:
        """Whether to try raw again. The room that the reserve held is not raw's."""
        if trouble.cause == "disk_full" and self._reserve_given_up:
            if not reserve.make(self._layout):
                return False
            self._reserve_given_up = False
            self._figures.reserve_bytes = reserve.held_bytes(self._layout)
        return True

    def _keep_reserve(self) -> None:
        """Make the reserve where it is missing and there is room: at the start, and when another gave it up."""
        now = time.monotonic()
        if now - self._reserve_looked_at < _RESERVE_SECONDS:
            return
        self._reserve_looked_at = now
        if not reserve.make(self._layout):
            log.warning("there is no room for the reserve of %d bytes", reserve.RESERVE_BYTES)
        self._figures.reserve_bytes = reserve.held_bytes(self._layout)

    # the end
    def _finish(self) -> None:
        """All that is held, all parts, all ledgers; each is tried again while there is time."""
        end = time.monotonic() + self._settings.finish_seconds
        self._try_until(end, self._write_the_last)
        trouble = self._trouble
        self._try_until(end, self._close_the_last)
        lost = self._raw.leave()
        for symbol in lost:
            if symbol != CONTROL:
                self._ledgers.lost(symbol, self._cut_ns, trouble.cause if trouble else "write_error")
        self._try_until(end, lambda: self._ledgers.flush(self._cut_ns, lost))
        self._ledgers.close()
        self.symbol_snapshots = self._ledgers.snapshots()
        if lost:
            lines, size = (sum(figures[i] for figures in lost.values()) for i in (0, 1))
            raise LinesLostError(
                f"{lines} messages ({size} bytes) of {', '.join(sorted(lost))} were received and could not be "
                f"written: {trouble.text if trouble else 'writing failed'}"
            )

    def _try_until(self, end: float, step: Callable[[], object]) -> None:
        while True:
            step()
            self._settle()
            if self._trouble is None or time.monotonic() >= end:
                return
            time.sleep(self._settings.retry_seconds)

    def _write_the_last(self) -> None:
        """To the last byte, the reserve's room too: this is the last time that it can be written."""
        self._raw.retry()
        self._write()
        self._sync()

    def _close_the_last(self) -> None:
        self._raw.retry()
        self._close(self._raw.open_symbols())

    # what is told, to another thread
    @staticmethod
    def nothing_yet(queue_limit_bytes: int) -> WriterSnapshot:
        """The figures of a writer that has not started."""
        return tell(Figures(), RawFigures(), None, 0, queue_limit_bytes, 0)

    def snapshot(self, queue_bytes: int, queue_limit_bytes: int, queue_full_total: int) -> WriterSnapshot:
        return tell(
            self._figures, self._raw.figures, self._trouble, queue_bytes, queue_limit_bytes, queue_full_total
        )
