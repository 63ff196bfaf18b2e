"""Filling history: days before the lake began, or that it lost, from daily archives or over REST.

It writes healed files and nothing else, so it may run beside the collector, which enters in its ledger what of them
fills a hole. A run that is cut off goes on where it was: what is in raw already is not fetched again, and days that
were had whole are noted in `state/backfill`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from crypto_lake.completeness import archive, heal
from crypto_lake.completeness.archive import ArchiveError, Archives
from crypto_lake.completeness.backfill_day import (
    DAY_US,
    HOUR_US,
    Day,
    DayRecord,
    Keeper,
    Progress,
    decode_record,
)
from crypto_lake.completeness.heal import Road
from crypto_lake.completeness.heal_files import Origin, write_healed
from crypto_lake.completeness.heal_rest import (
    FailedError,
    MustWaitError,
    PastRest,
    RefusedError,
    Reply,
    RoadClosedError,
)
from crypto_lake.completeness.held import around, held_ids, next_missing
from crypto_lake.exchanges import Exchange, PastRow
from crypto_lake.lake import records
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Clock, Hour
from crypto_lake.model.intervals import Interval, IntervalSet

log = logging.getLogger(__name__)

Source = Literal["auto", "archive", "rest"]
_TRIES: Final = 6
_SLICE_SECONDS: Final = 1.0  # of reading an archive, between two words of progress


class BackfillError(Exception):
    """A day that can't be had; the text says why, and what to do."""


class NoArchiveError(BackfillError):
    """The exchange has no archive of the day, or none yet."""


class UnreachableError(BackfillError):
    """The archives' host can't be reached: other days can't be had either."""


class Backfill:
    """Days of symbols, one after the other. Made inside a running event loop, for the holder of the lock `backfill`."""

    def __init__(
        self,
        layout: Layout,
        exchange: Exchange,
        clock: Clock,
        rest: PastRest,
        roads: Sequence[Road],
        archives: Archives,
        connection: str,
        *,
        source: Source = "auto",
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._layout, self._exchange, self._clock = layout, exchange, clock
        self._rest, self._roads, self._archives = rest, list(roads), archives
        self._connection = connection
        self._source: Source = source
        self._progress = progress

    def done(self, symbol: str) -> dict[str, DayRecord]:
        """What is noted of days that were had whole, and can be believed."""
        return {record.day: record for record in self._noted(symbol) if record.settled}

    def archived(self, symbol: str) -> set[str]:
        """Days whose archive was taken, whether it had all or not: it brings no more another time."""
        return {record.day for record in self._noted(symbol) if record.source == "archive"}

    def _noted(self, symbol: str) -> list[DayRecord]:
        return list(records.read_lines(self._record_path(symbol), decode_record))

    async def fill(self, symbol: str, day: str) -> DayRecord:
        """Fetch what raw does not hold of the day. Raises BackfillError, and OSError where it can't be written."""
        held = await asyncio.to_thread(held_ids, self._layout, self._exchange, symbol, around(day))
        work = Day(symbol, day, held, IntervalSet())
        # Before anything is asked: of what happens later an answer need not know.
        now_us = self._clock.now_ns() // 1000
        over = now_us >= work.end_us
        source, sha256 = "", ""
        if self._source != "rest" and over:
            sha256 = await self._from_archive(work)
            source = "archive" if sha256 else ""
        if self._source != "archive" and (not source or work.ids.holes()):
            source = await self._from_rest(work, now_us) or source
        elif not source:
            raise NoArchiveError(
                f"there is no archive of {symbol} for {day}: the exchange publishes a day's on the next. "
                "--source rest asks for single trades"
            )
        record = DayRecord(
            day=day,
            source=source,
            trades=work.ids.count(),
            fetched=work.fetched,
            files=work.files,
            first_id=work.ids.first,
            last_id=work.ids.last,
            missing=work.missing(),
            whole=source != self._exchange.past.aggregates.source
            and work.is_whole(now_us, archived=bool(sha256)),
            sha256=sha256,
            ended_ns=time.time_ns(),
            ends_known=work.ends_known(now_us, archived=bool(sha256)),
        )
        await asyncio.to_thread(records.append_lines, self._layout, self._record_path(symbol), [record])
        return record

    def _record_path(self, symbol: str) -> Path:
        return self._layout.state / "backfill" / self._exchange.name / f"{symbol}.jsonl"

    # An archive

    async def _from_archive(self, work: Day) -> str:
        """The archive's sha256, "" where there is none."""

        def told(size: int) -> None:
            work.bytes += size

        self._archives.on_bytes = told
        self._tell(work, "archive")
        try:
            fetched = await self._archives.fetch(work.symbol, work.day)
            if fetched is None:
                return ""
            try:
                await asyncio.to_thread(self._read_archive, work, fetched.path)
            finally:
                fetched.path.unlink(missing_ok=True)
            return fetched.sha256
        except ArchiveError as error:
            if self._source == "archive":
                unreachable = isinstance(error, archive.UnreachableError)
                raise (UnreachableError if unreachable else BackfillError)(str(error)) from None
            log.warning("%s; single trades are asked for instead", error)
            return ""

    def _read_archive(self, work: Day, path: Path) -> None:
        """In a thread: nothing else of this process waits for it."""
        keeper = Keeper(work, "archive", self._write)
        told_at = time.monotonic()
        for row in archive.rows(path, self._exchange.past):
            if not work.start_us - HOUR_US <= row.time_us < work.end_us + HOUR_US:
                raise ArchiveError(
                    f"{path.name} holds trade {row.first_id} of another day ({row.time_us} us)"
                )
            keeper.take(row)
            if not work.rows % 1000 and time.monotonic() - told_at >= _SLICE_SECONDS:
                told_at = time.monotonic()
                self._tell(work, "archive")
        keeper.flush()

    # REST

    async def _from_rest(self, work: Day, now_us: int) -> str:
        """Every trade of the day that is not held. Returns the call that brought some, "" where none did."""
        used = ""
        keeper: Keeper | None = None
        async for road, rows in self._pages(work, now_us):
            if keeper is None or keeper.source != road.call.source:
                if keeper is not None:
                    await asyncio.to_thread(keeper.flush)
                keeper = Keeper(work, road.call.source, self._write)
            for row in rows:
                keeper.take(row)
            if keeper.full:
                await asyncio.to_thread(keeper.flush)
            if keeper.took:
                used = road.call.source
            self._tell(work, road.call.source)
        if keeper is not None:
            await asyncio.to_thread(keeper.flush)
        return used

    async def _pages(self, work: Day, now_us: int) -> AsyncIterator[tuple[Road, list[PastRow]]]:
        """Rows of the day from the first trade on that is not held, page by page; some pages have none."""
        first = await self._first_between(work, work.start_us, work.end_us)
        if first is None:
            return
        # Where the next day begins; None: it has not begun, or nothing was traded in it yet.
        after = await self._first_between(work, work.end_us, work.end_us + DAY_US)
        work.begins_at, work.ends_at = first.first_id, after.first_id - 1 if after is not None else None
        # `key`: of an aggregate that is not behind `at`, also while single trades come: their call may be closed.
        at, key = first.first_id, first.key
        while after is None or at < after.first_id:
            at = next_missing(work.held, at)
            if after is not None and at >= after.first_id:
                break
            road, reply = await self._ask(work, at, key)
            rows = [row for row in reply.rows if row.last_id >= at]
            inside = [row for row in rows if work.start_us <= row.time_us < work.end_us]
            work.rows += len(reply.rows) - len(rows)
            yield road, inside
            if not reply.rows or len(inside) < len(rows):
                break
            last = reply.rows[-1]
            sums = road.call.source == self._exchange.past.aggregates.source
            if not rows and not (sums and last.key > key):
                break
            # Also where the whole page lies before `at`, among what is held: the next one follows it.
            key = last.key if sums else key
            at = max(at, last.last_id + 1)
        if work.ends_at is not None:
            last = work.ends_at
        elif work.ends_known(now_us, archived=False):
            last = work.held.last
        else:
            # The next day's trades may be held before REST tells of them. What was received on the day is of the day.
            of_day = await asyncio.to_thread(held_ids, self._layout, self._exchange, work.symbol, [work.day])
            last = of_day.last
        self._note_held(work, first.first_id, last)

    def _note_held(self, work: Day, first: int, last: int | None) -> None:
        """What raw held of the day before, from its first trade to its last."""
        if last is not None and last >= first:
            for part in work.held.shared_with(Interval(first, last)):
                work.ids.add_interval(part.first, part.last)

    async def _first_between(self, work: Day, start_us: int, end_us: int) -> PastRow | None:
        """The first trade then, or the aggregate that holds it: asked for by time, which aggregates alone allow.

        A page of them, since the first may be without trades: such are not among the rows.
        """
        call = self._exchange.past.aggregates
        query = self._exchange.past.aggregates_query(work.symbol, start_us, end_us - 1, call.rows)
        _, reply = await self._asked(
            work, lambda: [road for road in self._roads if road.call.source == call.source], lambda _: query
        )
        if not reply.rows and len(msgspec.json.decode(reply.body, type=list[msgspec.Raw])) >= call.rows:
            at = Hour.of_ns(start_us * 1000).day
            raise BackfillError(
                f"none of the first {call.rows} aggregates that the exchange has of {work.symbol} on {at} holds a "
                f"trade, so REST does not tell where {work.day} begins or ends; --source archive takes its archive"
            )
        return next((row for row in reply.rows if start_us <= row.time_us < end_us), None)

    async def _ask(self, work: Day, at: int, key: int) -> tuple[Road, Reply]:
        past = self._exchange.past

        def query(road: Road) -> dict[str, str]:
            if road.call.source == past.trades.source:
                return past.trades_query(work.symbol, at, road.call.rows)
            return past.aggregates_next(work.symbol, key, road.call.rows)

        return await self._asked(work, lambda: self._roads, query)

    async def _asked(
        self, work: Day, roads: Callable[[], Sequence[Road]], query: Callable[[Road], dict[str, str]]
    ) -> tuple[Road, Reply]:
        failures = 0
        while True:
            ways = roads()
            if not ways:
                raise BackfillError("no host that is known serves past trades to this address")
            road = ways[0]
            try:
                return road, await self._rest.ask(road, query(road))
            except MustWaitError as error:
                if error.seconds == float("inf"):
                    raise BackfillError(f"{error}; raise collector.weight_per_minute") from None
                self._tell(work, f"waiting {error.seconds:.0f} s: {error}")
                await asyncio.sleep(min(error.seconds, 5.0))
            except RoadClosedError as error:
                log.warning("%s", error)
                self._roads = [left for left in self._roads if left != road]
                if len(ways) == 1:
                    raise BackfillError(str(error)) from None
            except RefusedError as error:
                raise BackfillError(str(error)) from None
            except FailedError as error:
                failures += 1
                if failures == _TRIES:
                    raise BackfillError(f"{error}; the same command goes on where this one ends") from None
                await asyncio.sleep(heal.pause_seconds(min(failures, 2)))

    # Both

    def _write(self, work: Day, source: str, rows: Sequence[PastRow]) -> None:
        """In a thread. Raises OSError."""
        origin = Origin(self._connection, source, self._clock.now_ns())
        for hour, of_hour in heal.by_hour(rows):
            ids = Interval(of_hour[0].first_id, of_hour[-1].last_id)
            write_healed(self._layout, self._exchange.name, work.symbol, hour, of_hour, ids, origin)
            work.files += 1

    def _tell(self, work: Day, doing: str) -> None:
        self._progress(Progress(work.symbol, work.day, doing, work.rows, work.fetched, work.bytes))
