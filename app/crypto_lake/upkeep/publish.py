"""`publish`: final days of bars, made from all collectors' raw in the bucket, and put there.

It needs no data directory; with one it takes raw from there where it is the same, to the byte. Each write carries the
generation of what it replaces, so any number of publishers may run: one of them wins, the others say so. Cut off
anywhere, the next run completes it (see `publish_manifest` for the order of writes).
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from crypto_lake.lake import locks, tasks
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Clock, SystemClock
from crypto_lake.model.copies import Copies, PublishedCopies, summed
from crypto_lake.store import (
    Corrupted,
    LocalFileChanged,
    NoSuchObject,
    Refused,
    RetentionPolicyBlocks,
    Store,
    StoreError,
)
from crypto_lake.upkeep import publish_folder
from crypto_lake.upkeep.publish_day import AlertError, DayWork, Situation, SymbolState
from crypto_lake.upkeep.publish_look import SymbolReader, list_bucket
from crypto_lake.upkeep.publish_objects import RacedError
from crypto_lake.upkeep.publish_report import DayOutcome, PublishReport
from crypto_lake.upkeep.publish_stage import MakeError

_log = logging.getLogger(__name__)
# Of one object alone; any other error of the store would meet the next one too, and ends the run.
_OF_ONE_OBJECT: Final = (LocalFileChanged, Corrupted, NoSuchObject, Refused, RetentionPolicyBlocks)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `bytes`: of the raw of the day at hand."""

    days_done: int
    days: int
    at: str
    bytes_done: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Selection:
    """None: all."""

    symbols: Sequence[str] | None = None
    days: Sequence[str] | None = None
    rebuild: bool = False


def publish(
    store: Store,
    *,
    layout: Layout | None = None,
    staging: Path | None = None,
    clock: Clock | None = None,
    selection: Selection = Selection(),
    dry_run: bool = False,
    stop: threading.Event | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> PublishReport:
    """Publish what is final, oldest day first, and make new versions where more came in since.

    `layout`: a data directory whose raw may be used, and which gets the task's report; its lock `upload` is held.
    `staging`: where days are put together, by default `state/publishing` of the data directory, else the system's
    folder for temporary files. It needs room for the raw of one symbol's day. `clock`: the lake's.
    `stop`: when it is set, no other day is begun. A dry run asks and changes nothing.
    Raises LockHeldError where another run has the lock. What else goes wrong stands in the report.
    """
    run = _Run(
        store,
        layout,
        (clock or SystemClock()).now_ns(),
        selection,
        stop or threading.Event(),
        progress,
        dry_run,
    )
    with ExitStack() as stack:
        if layout is None or dry_run:
            run.folder = stack.enter_context(publish_folder.temporary(staging))
            return run.run()
        stack.enter_context(locks.hold(layout.locks, "upload"))
        own = staging or layout.state / "publishing"
        if staging is None:
            shutil.rmtree(own, ignore_errors=True)  # what a run before left that was cut off
        run.folder = stack.enter_context(publish_folder.temporary(own))
        task = tasks.begin(layout, "publish", time.time_ns())
        try:
            report = run.run()
        except BaseException as error:
            tasks.end(layout, task, time.time_ns(), f"{type(error).__name__}: {error}", task.figures)
            raise
        if not (report.stopped and not report.problem):
            tasks.end(layout, task, time.time_ns(), report.problem, report.figures())
        return report


@dataclass
class _Run:
    store: Store
    layout: Layout | None
    now_ns: int
    selection: Selection
    stop: threading.Event
    progress: Callable[[Progress], None] | None
    dry_run: bool
    folder: Path = Path()
    started: float = field(default_factory=time.monotonic)
    outcomes: list[DayOutcome] = field(default_factory=list[DayOutcome])
    up_to_date: int = 0
    bytes_read: int = 0
    error: StoreError | None = None
    _standing: set[str] = field(default_factory=set[str])  # days that a symbol has, published
    _copies: dict[str, list[Copies]] = field(
        default_factory=dict[str, list[Copies]]
    )  # of these days' symbols
    _first_open: str = ""  # the oldest day that a symbol has and that is not published
    _days: int = 0
    _done: int = 0
    _at: str = ""

    def run(self) -> PublishReport:
        try:
            self._all_days()
        except StoreError as error:
            self.error = error
            _log.error("publishing ended early: %s", error)
        last_day = self._last_published_day()
        return PublishReport(
            url=self.store.url,
            dry_run=self.dry_run,
            seconds=round(time.monotonic() - self.started, 3),
            up_to_date=self.up_to_date,
            bytes_read=self.bytes_read,
            days=self.outcomes,
            last_published_day=last_day,
            copies=self._copies_of(last_day),
            error=str(self.error) if self.error else "",
            error_is_transient=self.error.transient if self.error else False,
            stopped=self.stop.is_set() and self._done < self._days,
        )

    def _all_days(self) -> None:
        listings = list_bucket(self.store, self.selection.symbols)
        situation = Situation(
            self.store,
            self.layout,
            listings,
            self.folder,
            self.now_ns,
            self.selection.rebuild,
            self.dry_run,
            self._tell,
        )
        states = {
            at: SymbolState(SymbolReader(self.store, listing))
            for at, listing in listings.items()
            if at[1] != CONTROL
        }
        order = sorted((day, *at) for at, state in states.items() for day in state.listing.days())
        self._days = len(order)
        for day, exchange, symbol in order:
            if self.stop.is_set():
                return
            self._at = f"{symbol} {day}"
            self._tell(0, 0)
            state = states[exchange, symbol]
            work = DayWork(situation, state, day)
            self._one_day(work)
            if state.last_day == day:
                self._standing.add(day)
                if work.copies is not None:
                    self._copies.setdefault(day, []).append(work.copies)
            else:
                self._first_open = self._first_open or day  # they come in the order of days
            self._done += 1

    def _last_published_day(self) -> str | None:
        if self.error is not None or self._done < self._days or self.selection.symbols is not None:
            return None
        return max(
            (day for day in self._standing if not self._first_open or day < self._first_open), default=""
        )

    def _copies_of(self, day: str | None) -> PublishedCopies | None:
        found = self._copies.get(day) if day else None
        return summed(day, found) if day and found else None

    def _one_day(self, work: DayWork) -> None:
        chosen = self.selection.days is None or work.day in self.selection.days
        at = f"{work.listing.exchange} {work.listing.symbol} {work.day}"
        try:
            if work.passes(chosen=chosen):
                self.up_to_date += chosen
            elif chosen:
                work.look()
                self.up_to_date += not work.outcomes
            else:
                work.symbol.waits = True
        except RacedError as error:
            work.outcomes.append(work.told("raced", str(error)))
            work.give_way()
        except AlertError as error:
            _log.error("%s: %s", at, error)
            work.hold()
            work.outcomes.append(work.told("alert", str(error)))
        except (MakeError, OSError, msgspec.MsgspecError, *_OF_ONE_OBJECT) as error:
            _log.error("%s could not be published: %s", at, error)
            work.symbol.waits = True
            work.outcomes.append(work.told("failed", str(error)))
        finally:
            self.outcomes += work.outcomes
            self.bytes_read += work.fetched_bytes

    def _tell(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(Progress(self._done, self._days, self._at, done, total))
