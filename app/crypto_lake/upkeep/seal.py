"""`compact`: the parts of every finished hour become one sealed file, with a manifest that says what it holds.

One run at a time per data directory (lock `transform`). It may run beside the collector, whose open parts it leaves
alone; parts that a crash left open are closed first where no collector runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crypto_lake.completeness.content import knows
from crypto_lake.lake import durable, locks, parts, tasks
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout, parse_raw_name
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.lake.raw_manifests import (
    RawManifest,
    is_of_later_schema,
    raw_manifest_paths,
    read_raw_manifest,
)
from crypto_lake.model.clock import Clock, SystemClock
from crypto_lake.upkeep import seal_files
from crypto_lake.upkeep.seal_files import SealError, Work
from crypto_lake.upkeep.seal_plan import MARGIN_NS, Attest, DayState, plan
from crypto_lake.upkeep.seal_report import CompactReport, LeftAlone, SealedHour

_log = logging.getLogger(__name__)
REPORT_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. Bytes are of files as they lie on the disk; each is read twice or three times."""

    symbol: str
    day: str
    hours_sealed: int
    bytes_read: int


@dataclass
class _Tally:
    salvaged_parts: int = 0
    salvaged_cut_bytes: int = 0
    parts_deleted: int = 0
    attested: int = 0
    waiting: int = 0
    bytes_read: int = 0
    sealed: list[SealedHour] = field(default_factory=list[SealedHour])
    left_alone: list[LeftAlone] = field(default_factory=list[LeftAlone])
    failed: dict[str, str] = field(default_factory=dict[str, str])


def compact(
    layout: Layout,
    *,
    clock: Clock | None = None,
    symbols: Sequence[str] | None = None,
    days: Sequence[str] | None = None,
    margin_ns: int = MARGIN_NS,
    progress: Callable[[Progress], None] | None = None,
) -> CompactReport:
    """Seal what is finished, of all symbols and days or of those named (control records are the symbol `_control`).

    `clock`: the lake's; an hour is finished `margin_ns` after its end. A file or hour that fails is told in the report
    and does not stop the others. Cut off anywhere, the next run completes it.
    Raises LockHeldError where another run has the lock.
    """
    started, now_ns = time.monotonic(), (clock or SystemClock()).now_ns()
    with locks.hold(layout.locks, "transform"):
        task = tasks.begin(layout, "compact", time.time_ns())
        try:
            tally = _compact(layout, now_ns, symbols, days, margin_ns, progress)
            report = _report(tally, time.monotonic() - started)
        except BaseException as error:
            tasks.end(layout, task, time.time_ns(), f"{type(error).__name__}: {error}", {})
            raise
        problem = "; ".join(f"{path}: {why}" for path, why in list(report.failed.items())[:3])
        tasks.end(layout, task, time.time_ns(), problem, dict(report.figures()))
        return report


def _compact(
    layout: Layout,
    now_ns: int,
    symbols: Sequence[str] | None,
    days: Sequence[str] | None,
    margin_ns: int,
    progress: Callable[[Progress], None] | None,
) -> _Tally:
    tally, collector = _Tally(), layout.collector_id()
    quarantine = Quarantine(layout.quarantine)
    with _told(tally, "open parts"):
        for salvaged in parts.salvage_where_idle(layout, quarantine):
            tally.salvaged_parts += not salvaged.left
            tally.salvaged_cut_bytes += salvaged.cut_bytes
            if salvaged.problem:
                name = salvaged.path.relative_to(layout.root).as_posix()
                tally.left_alone.append(LeftAlone(name, salvaged.problem))
    for exchange in layout.exchanges():
        if not knows(exchange):
            tally.left_alone.append(
                LeftAlone(f"raw/{exchange}", "an exchange that this program does not know")
            )
            continue
        for symbol in [*layout.symbols(exchange), CONTROL]:
            if symbols is not None and symbol not in symbols:
                continue
            for day in layout.raw_days(exchange, symbol):
                if days is not None and day not in days:
                    continue

                def on_read(size: int, symbol: str = symbol, day: str = day) -> None:
                    tally.bytes_read += size
                    if progress is not None:
                        progress(Progress(symbol, day, len(tally.sealed), tally.bytes_read))

                work = Work(layout, exchange, symbol, collector, now_ns, quarantine, on_read)
                with _told(tally, f"raw/{exchange}/{symbol}/{day}"):
                    _seal_day(work, day, margin_ns, tally)
    return tally


def _seal_day(work: Work, day: str, margin_ns: int, tally: _Tally) -> None:
    layout, exchange = work.layout, work.exchange
    folder = f"raw/{exchange}/{work.symbol}/{day}"
    for path in seal_files.stale_temporaries(layout, exchange, work.symbol, day):
        path.unlink(missing_ok=True)
    todo = plan(look(layout, exchange, work.symbol, day), work.now_ns, margin_ns)
    tally.left_alone += [LeftAlone(f"{folder}/{odd.name}", odd.problem) for odd in todo.odd]
    tally.waiting += len(todo.wait)
    for finish in todo.finish:
        # A run before this one sealed the hour and was cut off before all of its parts were gone.
        with _told(tally, finish.manifest.path):
            seal_files.ensure_sound(work, finish.manifest)
            _delete(work, finish.manifest, tally)
    for job in todo.attest:
        with _told(tally, f"{folder}/{job.file.path.name}"):
            _attest(work, job, tally)
    for job in todo.seal:
        with _told(tally, f"{folder}/hour {job.hour.hour:02d}"):
            manifest, left = seal_files.seal_hour(work, job)
            tally.left_alone += [LeftAlone(f"{folder}/{part.path.name}", why) for part, why in left]
            if manifest is not None:
                _note(tally, manifest)
                _delete(work, manifest, tally)


@contextmanager
def _told(tally: _Tally, name: str) -> Generator[None]:
    """What goes wrong in the block is told, and the rest goes on."""
    try:
        yield
    except OSError as error:
        _fail(tally, name, error)


def _attest(work: Work, job: Attest, tally: _Tally) -> None:
    try:
        manifest = seal_files.attest(work, job.file)
    except SealError as error:
        name = str(job.file.path.relative_to(work.layout.root))
        tally.left_alone.append(LeftAlone(name, str(error)))
    else:
        _note(tally, manifest)
        tally.attested += 1


def _fail(tally: _Tally, name: str, error: Exception) -> None:
    _log.error("%s could not be sealed: %s", name, error)
    tally.failed[name] = str(error) or type(error).__name__


def _delete(work: Work, manifest: RawManifest, tally: _Tally) -> None:
    deleted, odd = seal_files.delete_parts(work, manifest)
    tally.parts_deleted += deleted
    tally.left_alone += [LeftAlone(str(path.relative_to(work.layout.root)), why) for path, why in odd]


def _note(tally: _Tally, manifest: RawManifest) -> None:
    missing = sum(last - first + 1 for first, last in manifest.holes)
    tally.sealed.append(
        SealedHour(
            manifest.path,
            len(manifest.inputs),
            manifest.bytes,
            manifest.lines,
            manifest.trades,
            missing,
            manifest.damaged_bytes,
        )
    )


def look(layout: Layout, exchange: str, symbol: str, day: str) -> DayState:
    """What lies there of a day. Raises OSError where it can't be known."""
    files = layout.raw_files(exchange, symbol, day)
    known = {file.path.name for file in files}
    folder = layout.raw_day(exchange, symbol, day)
    strangers = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in known and parse_raw_name(day, path) is None and not _is_temporary(path)
    )
    sizes: dict[str, int] = {}
    for file in files:
        # An open part that its collector has just closed is still one that is being written.
        with suppress(FileNotFoundError):
            sizes[file.path.name] = file.path.stat().st_size
    present = [file for file in files if file.is_open or file.path.name in sizes]
    manifests: dict[str, RawManifest | None] = {}
    for path in raw_manifest_paths(layout, exchange, symbol, day):
        manifests[path.name] = read_raw_manifest(layout, path)
        if manifests[path.name] is None and is_of_later_schema(layout, path):
            raise OSError(
                f"{layout.manifest(path)} was written by a later version of the program; this one leaves the day "
                "alone. Install that version again"
            )
    return DayState(day, present, sizes, manifests, strangers)


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(durable.TEMPORARY_SUFFIX)


def _report(tally: _Tally, seconds: float) -> CompactReport:
    hours = [item for item in tally.sealed if item.parts]
    return CompactReport(
        schema=REPORT_SCHEMA,
        seconds=round(seconds, 3),
        salvaged_parts=tally.salvaged_parts,
        salvaged_cut_bytes=tally.salvaged_cut_bytes,
        hours_sealed=len(hours),
        files_attested=tally.attested,
        parts_sealed=sum(item.parts for item in hours),
        parts_deleted=tally.parts_deleted,
        bytes_sealed=sum(item.bytes for item in tally.sealed),
        lines=sum(item.lines for item in tally.sealed),
        damaged_bytes=sum(item.damaged_bytes for item in tally.sealed),
        hours_waiting=tally.waiting,
        sealed=tally.sealed,
        left_alone=tally.left_alone,
        failed=tally.failed,
    )
