"""`upload`: what is sealed goes to the bucket, is read back there, and is recorded.

One run at a time per data directory (lock `upload`). It may run beside everything else: it reads sealed files, which
only a clean-up takes away, and that only once they are uploaded. Cut off anywhere, the next run completes it: objects
are there whole or not at all, and one whose record was lost is found there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from crypto_lake.lake import locks, tasks, uploads
from crypto_lake.lake.checksums import measure
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.raw_manifests import RAW_MANIFEST_SCHEMA
from crypto_lake.lake.uploads import UploadRecord
from crypto_lake.model.clock import Clock, SystemClock
from crypto_lake.store import (
    AlreadyThere,
    Conflict,
    Corrupted,
    Created,
    Declared,
    Failed,
    Job,
    Limiter,
    LocalFileChanged,
    Outcome,
    Refused,
    RetentionPolicyBlocks,
    Store,
    StoreError,
    put_many,
)
from crypto_lake.upkeep import scan, upload_judged, upload_ledgers, upload_report
from crypto_lake.upkeep.scan_judged import judged_days
from crypto_lake.upkeep.upload_judged import JudgedResult, upload_judged_of
from crypto_lake.upkeep.upload_ledgers import LedgerResult, upload_ledger_of
from crypto_lake.upkeep.upload_look import look, same_raw
from crypto_lake.upkeep.upload_plan import Upload, plan
from crypto_lake.upkeep.upload_report import Sum, UploadReport

_log = logging.getLogger(__name__)
DEFAULT_WORKERS: Final = 4
# Of one object alone; any other error of the store would meet the next one too, and ends the run.
_OF_ONE_OBJECT: Final = (LocalFileChanged, Corrupted, Refused, RetentionPolicyBlocks)


class Stopped(StoreError):  # noqa: N818
    """The run was told to stop; raised within a put, so that it ends there."""

    transient = True


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    files_done: int
    files: int
    bytes_done: int
    bytes: int


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
    run = _Run(layout, store, now_ns, settings, stop or threading.Event(), progress)
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
            figures = report.figures(task.figures, run.last_verified_ns)
            tasks.end(layout, task, time.time_ns(), report.problem, figures)
        return report


@dataclass
class _Run:
    layout: Layout
    store: Store
    now_ns: int
    settings: Settings
    stop: threading.Event
    progress: Callable[[Progress], None] | None
    started: float = field(default_factory=time.monotonic)
    last_verified_ns: int = 0
    error: StoreError | None = None
    created: Sum = field(default_factory=Sum)
    found: Sum = field(default_factory=Sum)
    conflicts: list[upload_report.Refused] = field(default_factory=list[upload_report.Refused])
    changed: list[upload_report.Refused] = field(default_factory=list[upload_report.Refused])
    failed: list[upload_report.Refused] = field(default_factory=list[upload_report.Refused])
    ledgers: list[LedgerResult] = field(default_factory=list[LedgerResult])
    judged: list[JudgedResult] = field(default_factory=list[JudgedResult])
    _pending: dict[str, Upload] = field(default_factory=dict[str, Upload])
    _held: dict[str, int] = field(default_factory=dict[str, int])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _bytes_done: int = 0

    def __post_init__(self) -> None:
        self.collector = self.layout.collector_id()
        self.doubted = uploads.read_doubts(self.layout, self.store.url)
        self.plan = plan(look(self.layout, self.store.url, self.doubted), self.collector, self.now_ns)
        self._pending = {one.name: one for one in self.plan.uploads}
        self._files, self._bytes = len(self._pending), sum(one.bytes for one in self.plan.uploads)
        for item in self.plan.changed:
            self.changed.append(upload_report.Refused(item.path, "", item.problem))

    # deeds
    def put_all(self) -> None:
        self._put_ledgers()
        raws = deque(one for one in self.plan.uploads if one.kind != "manifest")
        ready = deque(one for one in self.plan.uploads if one.kind == "manifest" and one.proven)
        after = {
            one.path.removeprefix("manifests/").removesuffix(".json"): one
            for one in self.plan.uploads
            if one.kind == "manifest" and not one.proven
        }

        def jobs() -> Iterator[Job]:
            while (ready or raws) and not self._ended():
                one = ready.popleft() if ready else raws.popleft()
                job = self._measured(one)
                if job is not None:
                    yield job

        limiter = None
        if self.settings.bytes_per_second:
            limiter = Limiter(self.settings.bytes_per_second, sleep=self._sleep)
        # A manifest becomes ready only when its raw is in the bucket, so the last ones take another round.
        while (ready or raws) and not self._ended():
            outcomes = put_many(
                self.store,
                jobs(),
                workers=self.settings.workers,
                progress=self._on_progress,
                limiter=limiter,
            )
            with closing(outcomes) as each:
                for job, outcome in each:
                    one = self._pending[job.name]
                    if self._take(one, job, outcome) and one.kind != "manifest" and one.path in after:
                        ready.append(after.pop(one.path))
                    if self._ended():
                        break
        self._put_judged(limiter)

    def _put_ledgers(self) -> None:
        def put(at: tuple[str, str]) -> LedgerResult:
            if self._ended():
                return LedgerResult()
            return upload_ledger_of(
                self.layout,
                *at,
                self.store,
                collector=self.collector,
                now_ns=self.now_ns,
                doubted=self.doubted,
                stopped=self._ended,
            )

        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="ledgers") as pool:
            symbols = scan.symbols_with_ledger(self.layout)
            for at, result in zip(symbols, pool.map(put, symbols), strict=True):
                self.ledgers.append(result)
                self.conflicts += result.conflicts
                self.changed += result.changed
                self._count(result.created, result.created_bytes, result.found)
                if result.error is not None:
                    self._fail(f"ledger/{at[0]}/{at[1]}.jsonl", "", result.error)

    def _put_judged(self, limiter: Limiter | None) -> None:
        """Last of all: what they tell can be told again."""

        def put(at: scan.SymbolDay) -> JudgedResult:
            if self._ended():
                return JudgedResult()
            return upload_judged_of(
                self.layout,
                at,
                self.store,
                collector=self.collector,
                now_ns=self.now_ns,
                doubted=self.doubted,
                limiter=limiter,
                stopped=self._ended,
            )

        with ThreadPoolExecutor(self.settings.workers, thread_name_prefix="judged") as pool:
            for result in pool.map(put, judged_days(self.layout)):
                self.judged.append(result)
                self.conflicts += result.conflicts
                self._count(result.created, result.created_bytes, result.found)
                if result.error is not None:
                    self._fail(result.error_of, "", result.error)

    def _measured(self, one: Upload) -> Job | None:
        """The job of a file that is what it should be; what is not is told."""
        path = self.layout.root / one.path
        try:
            sums = measure(path)
        except FileNotFoundError:
            del self._pending[one.name]  # gone meanwhile: a clean-up runs beside
            return None
        except OSError as error:
            self._fail(one.path, one.name, error)
            return None
        seal = one.seal
        if seal is not None and (sums.bytes, sums.sha256) != (seal.bytes, seal.sha256):
            problem = (
                f"has sha256 {sums.sha256}, its manifest says {seal.sha256}; "
                f"`crypto-lake verify {one.path}` tells where it differs"
            )
            self.changed.append(upload_report.Refused(one.path, one.name, problem))
            return None
        metadata = {"collector": self.collector, "kind": one.kind, "schema": str(RAW_MANIFEST_SCHEMA)}
        return Job(
            path, one.name, Declared(sums.bytes, sums.crc32c, sums.md5, sums.sha256), metadata=metadata
        )

    def _take(self, one: Upload, job: Job, outcome: Outcome) -> bool:
        """Whether the object is there now, and recorded."""
        sha256 = job.declared.sha256
        match outcome:
            case Created(stored):
                self._count(1, stored.bytes, 0)
            case AlreadyThere(stored):
                self._count(0, 0, 1, stored.bytes)
            case Conflict(stored, differences):
                same = None if stored is None else same_raw(self.layout, self.store, one, stored)
                if stored is None or same is None:
                    problem = (
                        f"another object is under its name ({'; '.join(differences)}); it was left as it is"
                    )
                    self.conflicts.append(upload_report.Refused(one.path, one.name, problem))
                    _log.error("%s: %s/%s: %s", one.path, self.store.url, one.name, problem)
                    return False
                sha256 = same
                self._count(0, 0, 1, stored.bytes)
            case Failed(error):
                self._fail(one.path, one.name, error)
                return False
        record = UploadRecord(
            url=self.store.url,
            name=one.name,
            generation=stored.generation,
            bytes=stored.bytes,
            crc32c=stored.crc32c,
            sha256=sha256,
            uploaded_ns=self.now_ns,
            path=one.path,
        )
        uploads.append(self.layout, one.of.exchange, one.of.symbol, one.of.day, [record])
        self.last_verified_ns = time.time_ns()
        del self._pending[one.name]
        self._on_progress(job, job.declared.bytes)
        return True

    def _fail(self, path: str, name: str, error: StoreError | OSError) -> None:
        match error:
            case Stopped():
                return
            case LocalFileChanged():
                self.changed.append(upload_report.Refused(path, name, str(error)))
            case StoreError() if not isinstance(error, _OF_ONE_OBJECT):
                self.error = self.error or error
            case _:
                self.failed.append(upload_report.Refused(path, name, str(error)))
        _log.error("%s could not be uploaded: %s", path, error)

    # how far
    def _count(self, created: int, created_bytes: int, found: int, found_bytes: int = 0) -> None:
        self.created = Sum(self.created.files + created, self.created.bytes + created_bytes)
        self.found = Sum(self.found.files + found, self.found.bytes + found_bytes)
        if created or found:
            self.last_verified_ns = time.time_ns()

    def _ended(self) -> bool:
        return self.stop.is_set() or self.error is not None

    def _sleep(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise self._stopped()

    def _stopped(self) -> Stopped:
        return Stopped("the upload was told to stop", at=self.store.url, hint="The next run goes on.")

    def _on_progress(self, job: Job, held_bytes: int) -> None:
        if self.stop.is_set() and held_bytes < job.declared.bytes:
            raise self._stopped()
        with self._lock:
            self._bytes_done += held_bytes - self._held.get(job.name, 0)
            self._held[job.name] = held_bytes
            if self.progress is not None:
                done = self._files - len(self._pending)
                self.progress(Progress(done, self._files, self._bytes_done, self._bytes))

    def report(self, *, dry_run: bool) -> UploadReport:
        pending = list(self._pending.values())
        waiting: dict[str, Sum] = {}
        for item in self.plan.waiting:
            before = waiting.get(item.why, Sum())
            waiting[item.why] = Sum(before.files + 1, before.bytes + item.bytes)
        pieces = (
            self._planned(upload_ledgers.planned)
            if dry_run
            else [n for result in self.ledgers for n in result.pending]
        )
        judged = (
            self._planned(upload_judged.planned)
            if dry_run
            else [n for result in self.judged for n in result.pending]
        )
        return UploadReport(
            url=self.store.url,
            dry_run=dry_run,
            seconds=round(time.monotonic() - self.started, 3),
            created=self.created,
            found=self.found,
            done=Sum(self.plan.done_files, self.plan.done_bytes),
            ledger_pieces=sum(result.created + result.found for result in self.ledgers),
            pending=Sum(len(pending) + len(pieces) + len(judged), sum(one.bytes for one in pending)),
            oldest_pending_ns=min((one.end_ns for one in pending), default=None),
            waiting=waiting,
            planned=[*pieces, *(one.name for one in pending), *judged] if dry_run else [],
            conflicts=self.conflicts,
            changed=self.changed,
            failed=self.failed,
            error=str(self.error) if self.error is not None else "",
            error_is_transient=self.error is not None and self.error.transient,
            stopped=self.stop.is_set(),
        )

    def _planned(self, names: Callable[[Layout, str, str, int, frozenset[str]], list[str]]) -> list[str]:
        return names(self.layout, self.store.url, self.collector, self.now_ns, self.doubted)
