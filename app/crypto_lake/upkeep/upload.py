"""`upload`: what is sealed goes to the bucket, is read back there, and is recorded.

One run at a time per data directory (lock `upload`). It may run beside everything else: it reads sealed files, which
only a clean-up takes away, and that only once they are uploaded. Cut off anywhere, the next run completes it: objects
are there whole or not at all, and one whose record was lost is found there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from crypto_lake.lake import locks, tasks, uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Clock, SystemClock
from crypto_lake.store import Limiter, Store
from crypto_lake.upkeep import scan, upload_judged, upload_ledgers
from crypto_lake.upkeep.upload_judged import upload_judged_of
from crypto_lake.upkeep.upload_ledgers import upload_ledger_of
from crypto_lake.upkeep.upload_look import look
from crypto_lake.upkeep.upload_plan import plan
from crypto_lake.upkeep.upload_raw import RawUpload
from crypto_lake.upkeep.upload_report import Progress, Sum, UploadReport
from crypto_lake.upkeep.upload_settled import SettledDays
from crypto_lake.upkeep.upload_tally import Puts, Stopped, Tally

DEFAULT_WORKERS: Final = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """`bytes_per_second` 0: no limit."""

    workers: int = DEFAULT_WORKERS
    bytes_per_second: float = 0.0


def upload(
    layout: Layout,
    store: Store,
    *,
    clock: Clock | None = None,
    settings: Settings = Settings(),
    dry_run: bool = False,
    stop: threading.Event | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> UploadReport:
    """Upload all that is sealed and not recorded as uploaded to this store.

    `stop`: when it is set, no other object is begun, those under way are given up, and the report says `stopped`.
    `progress` is called from several threads. A dry run asks and changes nothing.
    Raises LockHeldError where another run has the lock, ValueError for a collector's name that no object can bear.
    What the store or a file refuses stands in the report.
    """
    now_ns = (clock or SystemClock()).now_ns()
    run = _Run(layout, store, now_ns, settings, Tally(stop or threading.Event()), progress)
    if dry_run:
        return run.report(dry_run=True)
    with locks.hold(layout.locks, "upload"):
        task = tasks.begin(layout, "upload", time.time_ns())
        try:
            run.put_all()
            report = run.report(dry_run=False)
        except BaseException as error:
            tasks.end(layout, task, time.time_ns(), f"{type(error).__name__}: {error}", task.figures)
            raise
        if not (report.stopped and not report.problem):  # else it has neither failed nor succeeded
            figures = report.figures(task.figures, run.tally.last_verified_ns)
            tasks.end(layout, task, time.time_ns(), report.problem, figures)
        return report


@dataclass
class _Run:
    layout: Layout
    store: Store
    now_ns: int
    settings: Settings
    tally: Tally
    progress: Callable[[Progress], None] | None
    started: float = field(default_factory=time.monotonic)
    pieces: int = 0

    def __post_init__(self) -> None:
        self.collector = self.layout.collector_id()
        self.doubted = uploads.read_doubts(self.layout, self.store.url)
        self.plan = plan(look(self.layout, self.store.url, self.doubted), self.collector, self.now_ns)
        self.raw = RawUpload(
            self.layout, self.store, self.plan, self.collector, self.now_ns, self.tally, self.progress
        )

    # deeds
    def put_all(self) -> None:
        limiter = None
        if self.settings.bytes_per_second:
            limiter = Limiter(self.settings.bytes_per_second, sleep=self._sleep)
        self._put_ledgers()
        self.raw.put_all(self.settings.workers, limiter)
        self._put_judged(limiter)

    def _put_ledgers(self) -> None:
        def put(at: tuple[str, str]) -> Puts:
            if self.tally.ended():
                return Puts()
            return upload_ledger_of(
                self.layout,
                *at,
                self.store,
                collector=self.collector,
                now_ns=self.now_ns,
                doubted=self.doubted,
                stopped=self.tally.ended,
            )

        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="ledgers") as pool:
            for puts in pool.map(put, scan.symbols_with_ledger(self.layout)):
                self.tally.add(puts)
                self.pieces += puts.created + puts.found

    def _put_judged(self, limiter: Limiter | None) -> None:
        """Last of all: what they tell can be told again."""
        if self.tally.ended():
            return
        settled = SettledDays(self.layout, self.store.url, self.collector, self.doubted)

        def put(at: scan.SymbolDay) -> Puts:
            if self.tally.ended():
                return Puts()
            return upload_judged_of(
                self.layout,
                at,
                self.store,
                collector=self.collector,
                now_ns=self.now_ns,
                doubted=self.doubted,
                settled=settled,
                limiter=limiter,
                stopped=self.tally.ended,
            )

        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="judged") as pool:
            for puts in pool.map(put, settled.left()):
                self.tally.add(puts)
        settled.keep()

    def _sleep(self, seconds: float) -> None:
        if self.tally.stop.wait(seconds):
            raise Stopped(self.store.url)

    # how far
    def report(self, *, dry_run: bool) -> UploadReport:
        tally, pending = self.tally, list(self.raw.pending.values())
        waiting: dict[str, Sum] = {}
        for item in self.plan.waiting:
            before = waiting.get(item.why, Sum())
            waiting[item.why] = Sum(before.files + 1, before.bytes + item.bytes)
        pieces, judged = self._planned() if dry_run else ([], [])
        return UploadReport(
            url=self.store.url,
            dry_run=dry_run,
            seconds=round(time.monotonic() - self.started, 3),
            created=tally.created,
            found=tally.found,
            done=Sum(self.plan.done_files, self.plan.done_bytes),
            ledger_pieces=self.pieces,
            pending=Sum(len(pending) + tally.pending + len(pieces), sum(one.bytes for one in pending)),
            oldest_pending_ns=min((one.end_ns for one in pending), default=None),
            waiting=waiting,
            planned=[*pieces, *(one.name for one in pending), *judged] if dry_run else [],
            conflicts=tally.conflicts,
            changed=tally.changed,
            failed=tally.failed,
            error=str(tally.error) if tally.error is not None else "",
            error_is_transient=tally.error is not None and tally.error.transient,
            stopped=tally.stop.is_set(),
        )

    def _planned(self) -> tuple[list[str], list[str]]:
        """For a dry run: names of pieces of ledgers; of verdicts and reports, which the tally counts as pending already."""
        of = (self.layout, self.store.url, self.collector, self.now_ns, self.doubted)
        judged: list[str] = []
        for puts in upload_judged.planned(*of):
            self.tally.add(puts)
            judged += puts.pending
        return upload_ledgers.planned(*of), judged
