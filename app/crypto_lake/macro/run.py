"""`backfill`, `update` and `check` of macro series: ask, keep, and tell what is absent.

One series that can't be had does not stop the others; a limit of the provider stops asking, since it would meet them
all. What was told is kept at once, so a run that is cut off anywhere goes on where it was.
"""

from __future__ import annotations

import logging
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal

from crypto_lake.lake import locks
from crypto_lake.lake.layout import Layout
from crypto_lake.macro.days import Days, observed
from crypto_lake.macro.homes import BucketHome, Home, LocalHome, RacedError
from crypto_lake.macro.keep import SeriesFiles
from crypto_lake.macro.plan import (
    Span,
    expected,
    finished,
    span_to_update,
    today_of,
    wait_seconds,
)
from crypto_lake.macro.provider import (
    Answer,
    NoSuchSeries,
    NothingThere,
    Provider,
    RateLimited,
    Refused,
    Unavailable,
)
from crypto_lake.macro.report import MacroReport, Outcome
from crypto_lake.macro.table import NotOursError
from crypto_lake.macro.telling import Told, described
from crypto_lake.store import Store, StoreError

_log = logging.getLogger(__name__)
PAUSE_SECONDS = 0.5  # between two series, so that a run is no burst
Task = Literal["backfill", "update"]


@dataclass(frozen=True, slots=True)
class Settings:
    """`start`: the first day of a series of which nothing is known. `patience_seconds`: for all waits of a run."""

    start: date
    revisit_days: int = 14
    patience_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Progress:
    series_done: int
    series: int
    at: str


def run(
    task: Task,
    series: Sequence[str],
    provider: Provider,
    *,
    settings: Settings,
    layout: Layout | None = None,
    store: Store | None = None,
    span: Span | None = None,
    dry_run: bool = False,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    stop: threading.Event | None = None,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] = _log.warning,
    chance: Callable[[], float] = random.random,
) -> MacroReport:
    """Ask the provider for each series and keep what is new, in the data directory, in the bucket, or in both.

    `span`: the days to ask for, in place of what the task would. `now_us`: the system's clock; `known_at` is by it.
    `say` is told each wait. `stop`: when it is set, no other series is begun and no wait goes on. A dry run asks and
    writes nothing. Raises LockHeldError where another run writes to the data directory; ValueError where there is
    neither a directory nor a bucket. What else goes wrong stands in the report.
    """
    if layout is None and store is None:
        raise ValueError("neither a data directory nor a bucket to keep series in")
    with ExitStack() as stack:
        if layout is not None and not dry_run:
            stack.enter_context(locks.hold(layout.locks, "macro"))
        at_hand = _Run(
            task,
            series,
            provider,
            settings,
            homes_of(stack, layout, store),
            span,
            dry_run,
            now_us,
            stop or threading.Event(),
            progress,
            say,
            chance,
        )
        at_hand.run()
        return at_hand.report(str(layout.root) if layout is not None else "", store.url if store else "")


def homes_of(stack: ExitStack, layout: Layout | None, store: Store | None) -> list[Home]:
    homes: list[Home] = [LocalHome(layout.root)] if layout is not None else []
    if store is not None:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="crypto-lake-macro-"))
        homes.append(BucketHome(store, Path(scratch)))
    return homes


@dataclass
class _Run:
    task: Task
    series: Sequence[str]
    provider: Provider
    settings: Settings
    homes: Sequence[Home]
    span: Span | None
    dry_run: bool
    now_us: Callable[[], int]
    stop: threading.Event
    progress: Callable[[Progress], None] | None
    say: Callable[[str], None]
    chance: Callable[[], float]
    started: float = field(default_factory=time.monotonic)
    waited_seconds: float = 0.0
    told: list[Told] = field(default_factory=list[Told])
    limit: str = ""  # why no other series is asked for
    error: StoreError | None = None

    def run(self) -> None:
        for number, series in enumerate(self.series):
            if self.stop.is_set():
                return
            if self.progress is not None:
                self.progress(Progress(number, len(self.series), series))
            if number and not self.limit:
                self.stop.wait(PAUSE_SECONDS)
            try:
                self.told.append(self._one(SeriesFiles(series, self.homes)))
            except StoreError as error:
                self.error = error
                _log.error("macro series: ended early: %s", error)
                return

    def _one(self, files: SeriesFiles) -> Told:
        today = today_of(self.now_us())
        span = self.span or Span(min(self.settings.start, today), today)

        def failed(outcome: Outcome, text: str) -> Told:
            (_log.info if outcome == "not_asked" else _log.warning)("%s", text)
            return Told(files.series, span, outcome, text, files=tuple(files.written))

        if self.limit:
            return failed("not_asked", f"{files.series}: not asked for: {self.limit}")
        try:
            if self.task == "update" and self.span is None:
                span = span_to_update(files.latest(), self.settings.start, self.settings.revisit_days, today)
            before = files.known_in(span)  # read before asking: see `days.stamped`
            answer = self._asked(files.series, span)
            return self._kept(files, span, before, answer)
        except NotOursError as error:
            return failed(
                "alert", f"{files.series}: {error}. Nothing was overwritten: move it aside, and run again"
            )
        except RateLimited as error:
            self.limit = f"the provider limits how often it may be asked (it was met at {error.series})"
            return failed("waits", str(error))
        except Unavailable as error:
            return failed("waits", str(error))
        except (NoSuchSeries, NothingThere, Refused, RacedError) as error:
            return failed("failed", str(error))
        except OSError as error:
            return failed("failed", f"{files.series}: {error}")

    def _asked(self, series: str, span: Span) -> Answer:
        """Ask again while patience lasts. Raises ProviderError."""
        failures = 0
        while True:
            try:
                return self.provider.daily(series, span.first, span.last)
            except Unavailable as error:
                failures += 1
                wait = wait_seconds(error, failures, self.chance())
                if self.stop.is_set() or self.waited_seconds + wait > self.settings.patience_seconds:
                    raise
                self.say(f"{error.series}: {error.what}; next try in {wait:.0f} s")
                began = time.monotonic()
                self.stop.wait(wait)
                self.waited_seconds += time.monotonic() - began
                if self.stop.is_set():
                    raise

    def _kept(self, files: SeriesFiles, span: Span, before: Days, answer: Answer) -> Told:
        now_us = self.now_us()
        told = finished(answer, span, now_us)
        found = files.keep(told, now_us, dry_run=self.dry_run)
        known = observed(before, told, now_us) if self.dry_run else files.known_in(span)
        did: Outcome = "planned" if self.dry_run else "updated"
        return Told(
            files.series,
            span,
            did if found else "unchanged",
            timezone=answer.timezone,
            expected=expected(span, answer.timezone, now_us),
            empty=answer.empty,
            unfinished=tuple(sorted(day for day in answer.days if day in span and day not in told)),
            known=known,
            changes=tuple(found),
            latest=max(filter(None, (max(known, default=None), files.latest())), default=None),
            files=tuple(files.written),
        )

    def report(self, data: str, url: str) -> MacroReport:
        return MacroReport(
            task=self.task,
            provider=self.provider.name,
            data=data,
            url=url,
            dry_run=self.dry_run,
            seconds=round(time.monotonic() - self.started, 3),
            waited_seconds=round(self.waited_seconds, 3),
            series=described(self.told),
            error=str(self.error) if self.error else "",
            error_is_transient=self.error.transient if self.error else False,
            stopped=self.stop.is_set() and len(self.told) < len(self.series),
        )


def check(
    series: Sequence[str],
    *,
    layout: Layout | None = None,
    store: Store | None = None,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> MacroReport:
    """Read all that is kept of each series, and tell what is absent between its first day and its last.

    With a directory and a bucket, both are read. Nothing is asked of a provider, and nothing is written.
    """
    started = time.monotonic()
    told: list[Told] = []
    failure: StoreError | None = None
    with ExitStack() as stack:
        homes = homes_of(stack, layout, store)
        try:
            for one in series:
                told.append(_checked(SeriesFiles(one, homes), now_us()))
        except StoreError as error:
            failure = error
    return MacroReport(
        task="check",
        provider="",
        data=str(layout.root) if layout is not None else "",
        url=store.url if store is not None else "",
        seconds=round(time.monotonic() - started, 3),
        series=described(told),
        error=str(failure) if failure else "",
        error_is_transient=failure.transient if failure else False,
    )


def _checked(files: SeriesFiles, now_us: int) -> Told:
    today = today_of(now_us)
    nothing = Span(today, today)
    try:
        known = {day: history for year in files.years() for day, history in files.known(year).items()}
    except NotOursError as error:
        return Told(files.series, nothing, "alert", f"{files.series}: {error}")
    except RacedError as error:
        return Told(files.series, nothing, "waits", f"{files.series}: {error}")
    if not known:
        return Told(
            files.series, nothing, "failed", f"{files.series}: nothing is kept of it; run macro backfill"
        )
    span = Span(min(known), max(known))
    timezone = known[span.last][-1].values.timezone
    return Told(
        files.series, span, "unchanged", timezone=timezone, expected=span, known=known, latest=span.last
    )
