"""`verify`: every file read again and compared with its manifest; what has none yet, with itself.

It takes no lock and changes nothing but its task's report, so it may run beside everything else. What is sealed or
made anew while it reads is looked at a second time before it counts as a difference.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from crypto_lake.lake import tasks
from crypto_lake.lake.deletions import deleted_paths
from crypto_lake.lake.layout import Layout
from crypto_lake.upkeep.verify_files import check
from crypto_lake.upkeep.verify_report import Checked, Difference, Item, VerifyReport
from crypto_lake.upkeep.verify_source import DiskSource, Listing, Source

REPORT_SCHEMA: Final = 1
_WORTH_WORKERS_BYTES: Final = 32 * 1024 * 1024  # below it processes cost more than they save


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    files_done: int
    files: int
    bytes_done: int
    bytes: int
    differences: int


def verify_disk(
    layout: Layout,
    *,
    symbols: Sequence[str] | None = None,
    days: Sequence[str] | None = None,
    only: Callable[[str], bool] | None = None,
    quick: bool = False,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    elsewhere: Iterable[str] = (),
) -> VerifyReport:
    """Verify a data directory, and leave the outcome in its task's report where it may be written.

    `only`: of names (`raw/binance/…`), those to look at. `elsewhere`: names of files that may be missing, beside those
    that `cleanup` deleted; others that have a manifest and are not here are differences. See `verify` for the rest.
    """
    source = DiskSource(layout.root, deleted_paths(layout, symbols, days) | frozenset(elsewhere))
    task = None
    with suppress(OSError):  # whoever may only read may verify too
        task = tasks.begin(layout, "verify", time.time_ns())
    try:
        report = verify(
            source,
            symbols=symbols,
            days=days,
            only=only,
            quick=quick,
            workers=workers,
            progress=progress,
        )
    except BaseException as error:
        if task is not None:
            tasks.end(layout, task, time.time_ns(), f"{type(error).__name__}: {error}", {})
        raise
    if task is not None:
        files = sorted({difference.path for difference in report.differences})
        problem = f"{len(files)} files differ, the first is {files[0]}" if files else ""
        tasks.end(layout, task, time.time_ns(), problem, dict(report.figures()))
    return report


def verify(
    source: Source,
    *,
    symbols: Sequence[str] | None = None,
    days: Sequence[str] | None = None,
    only: Callable[[str], bool] | None = None,
    quick: bool = False,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    again_seconds: float = 0.2,
) -> VerifyReport:
    """`workers`: processes (the source must then be picklable); None: as many as there are cores where it is worth it.

    `again_seconds`: so long after the first look, what differs is looked at again.
    """
    started = time.monotonic()
    listing = source.listing(symbols, days)
    if only is not None:
        listing.items = [item for item in listing.items if only(item.name)]
        listing.missing = [name for name in listing.missing if only(name)]
        listing.unknown = [name for name in listing.unknown if only(name)]
    total = sum(item.bytes for item in listing.items)
    checked: list[Checked] = []
    done_bytes = differences = 0
    for result in _check_all(source, listing.items, quick, _workers(workers, total)):
        checked.append(result)
        done_bytes += result.item.bytes
        differences += bool(result.differences)
        if progress is not None:
            progress(Progress(len(checked), len(listing.items), done_bytes, total, differences))
    checked = list(_look_again(source, checked, quick, again_seconds))
    return _report(listing, checked, time.monotonic() - started)


def _workers(asked: int | None, total_bytes: int) -> int:
    if asked is not None:
        return asked
    return len(os.sched_getaffinity(0)) if total_bytes >= _WORTH_WORKERS_BYTES else 1


def _check_all(source: Source, items: Sequence[Item], quick: bool, workers: int) -> Iterator[Checked]:
    one = partial(_check_one, source, quick)
    if workers < 2 or len(items) < 2:
        yield from map(one, items)
        return
    # The greatest first, so that none is left over for the end. `spawn`: a fork of a program with threads may hang.
    order = sorted(items, key=lambda item: -item.bytes)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(one, order, chunksize=max(1, min(32, len(order) // (8 * workers))))


def _check_one(source: Source, quick: bool, item: Item) -> Checked:
    return check(source, item, quick)


def _look_again(
    source: Source, checked: Sequence[Checked], quick: bool, after_seconds: float
) -> Iterator[Checked]:
    """What differs once more: it may have been sealed, or made anew with its manifest a moment later."""
    if any(result.differences for result in checked):
        time.sleep(after_seconds)
    for result in checked:
        if not result.differences:
            yield result
        elif not source.has_moved(result.item):
            yield check(source, result.item, quick)


def _report(listing: Listing, checked: Sequence[Checked], seconds: float) -> VerifyReport:
    missing = [Difference(name, "is missing; its manifest is here") for name in listing.missing]
    found = [difference for result in checked for difference in result.differences]
    kinds = Counter(result.item.kind for result in checked)
    return VerifyReport(
        schema=REPORT_SCHEMA,
        seconds=round(seconds, 3),
        files=len(checked),
        bytes=sum(result.item.bytes for result in checked),
        lines=sum(result.lines for result in checked),
        by_kind=dict(sorted(kinds.items())),
        without_manifest=sum(result.alone for result in checked),
        open_parts=listing.open_parts,
        absent=listing.absent,
        unfinished=listing.unfinished,
        unknown=listing.unknown,
        differences=sorted([*missing, *found], key=lambda d: (d.path, d.offset or 0, d.line or 0)),
    )
