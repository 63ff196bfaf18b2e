"""Healing: one hole after the other, the most recent first, until none is left that can be filled.

It runs beside the collector's hot path: one request at a time, its answer's rows in one short step, files in a thread.
What it holds is bounded: so many pages, then they are written, and it looks anew for what to do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from crypto_lake.completeness import heal
from crypto_lake.completeness.entries import Outcome
from crypto_lake.completeness.heal import Road, Told, Wanted
from crypto_lake.completeness.heal_doubt import Doubts, KeepAnswer
from crypto_lake.completeness.heal_files import (
    Healed,
    Origin,
    on_disk,
    outcomes,
    remove_leftovers,
    write_healed,
)
from crypto_lake.completeness.heal_holes import HoleReader
from crypto_lake.completeness.heal_patience import Patience, Roads
from crypto_lake.completeness.heal_rest import (
    FailedError,
    MustWaitError,
    PastRest,
    RefusedError,
    RoadClosedError,
)
from crypto_lake.exchanges import Exchange, PastRow
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Clock
from crypto_lake.model.intervals import Interval, IntervalSet

log = logging.getLogger(__name__)

State = Literal["idle", "healing", "waiting", "blocked", "unreachable"]

_LOOK_SECONDS: Final = 1.0  # between two looks at the ledgers
_DISK_SECONDS: Final = 60.0  # between two looks at what a backfill may have brought
_PAGES: Final = 20  # of a hole at a time: 20,000 rows, some 4 MB
_MOST_WAIT_SECONDS: Final = 2.0  # so that a new hole, or a larger share, is seen soon
_DISK_PAUSE_SECONDS: Final = 30.0

Settle = Callable[[str, Sequence[Outcome]], None]


@dataclass(frozen=True, slots=True)
class HealingFigures:
    """Since the start. `state`: blocked: the exchange has said so (429, 418); waiting: the budget is spent.

    holes: that are open now; oldest_us: when the oldest of them was, 0 for none. `problem`: why something could not be done,
    of the latest such thing.
    """

    state: State = "idle"
    holes: int = 0
    trades_healed: int = 0
    aggregated: int = 0  # of these, known by sums alone
    files: int = 0
    never_existed: int = 0
    unavailable: int = 0
    requests: Mapping[int, int] = field(default_factory=dict[int, int])
    problem: str = ""
    oldest_us: int = 0


class Healer:
    """`settle` takes what the ledger is to be told; `keep_answer` keeps an answer among the control records, and returns
    when it was received. Both are called from the event loop.
    """

    def __init__(
        self,
        layout: Layout,
        exchange: Exchange,
        clock: Clock,
        rest: PastRest,
        roads: Sequence[Road],
        connection: str,
        *,
        settle: Settle,
        keep_answer: KeepAnswer,
    ) -> None:
        self._layout, self._exchange, self._clock = layout, exchange, clock
        self._rest = rest
        self._roads = Roads(roads, exchange.past.trades.source)
        self._connection = connection
        self._settle = settle
        self._holes = HoleReader(layout, exchange.name)
        self._done: dict[str, IntervalSet] = {}
        self._looked_for: set[tuple[str, Interval]] = set()
        self._looked_at = float("-inf")
        self._patience = Patience()
        # Where a turn ended before its hole did: the key of the last row before these ids, by symbol, first id and road.
        self._keys: dict[tuple[str, int, str], int] = {}
        self._doubts = Doubts(self._patience, clock, self._settled, keep_answer)
        self._state: State = "idle"
        self._open = self._oldest_us = 0
        self._problem = ""
        self._trades = self._aggregated = self._files = 0

    @property
    def figures(self) -> HealingFigures:
        return HealingFigures(
            self._state,
            self._open,
            self._trades,
            self._aggregated,
            self._files,
            self._doubts.never_existed,
            self._doubts.unavailable,
            dict(self._rest.requests),
            self._problem,
            self._oldest_us,
        )

    async def run(self) -> None:
        """Until cancelled. What goes wrong is told, and tried again."""
        told = ""
        try:
            await asyncio.to_thread(remove_leftovers, self._layout)
        except Exception as error:
            log.warning("temporary files of healing could not be removed: %s", error)
        while True:
            try:
                wait = await self.step()
                told = ""
            except Exception as error:
                # A disk that takes nothing is left to what is collected; what was fetched is fetched again.
                wait = _DISK_PAUSE_SECONDS if isinstance(error, OSError) else _MOST_WAIT_SECONDS
                self._problem = f"{type(error).__name__}: {error}"
                if str(error) != told:
                    log.warning("healing: %s", error, exc_info=not isinstance(error, OSError))
                    told = str(error)
            await asyncio.sleep(wait)

    async def step(self) -> float:
        """Look what is missing, and do something about one hole. Returns how many seconds to wait."""
        wanted = heal.still_wanted(await asyncio.to_thread(self._holes.look), self._done)
        wanted = await self._adopted(wanted)
        self._open = len(wanted)
        self._oldest_us = min((want.before_time_us for want in wanted), default=0)
        if not wanted:
            self._state, self._problem = "idle", ""
            self._patience.clear()
            self._keys.clear()
            return _LOOK_SECONDS
        now = time.monotonic()
        due = [want for want in wanted if self._patience.is_due(want, now)]
        if not due:
            if self._state == "healing":
                self._state = "idle"
            return _LOOK_SECONDS
        road = self._roads.best(now)
        if road is None:
            self._state = "unreachable"
            return _LOOK_SECONDS
        try:
            await self._heal(heal.in_order(due)[0], road)
            self._state = "healing"
            return 0.0
        except MustWaitError as error:
            self._state, self._problem = ("blocked" if error.by else "waiting"), str(error)
            return min(error.seconds, _MOST_WAIT_SECONDS)
        except RoadClosedError as error:
            self._roads.not_served(road, now)
            self._problem = str(error)
            log.warning("%s; the next way to past trades is used for an hour", error)
        except FailedError as error:
            self._roads.failed(road, now)
            if str(error) != self._problem:
                log.warning("healing: %s", error)
            self._problem = str(error)
        return _LOOK_SECONDS

    async def _adopted(self, wanted: list[Wanted]) -> list[Wanted]:
        """Without what files on the disk fill: looked for when a hole is new, and of all now and then."""
        now = time.monotonic()
        again = now - self._looked_at >= _DISK_SECONDS
        new = [w for w in wanted if again or (w.symbol, w.ids) not in self._looked_for]
        inexact = self._holes.inexact() if again else []
        if again:
            self._looked_at, self._looked_for = now, set[tuple[str, Interval]]()
        self._looked_for |= {(w.symbol, w.ids) for w in new}
        if not new and not inexact:
            return wanted
        found = await asyncio.to_thread(on_disk, self._layout, self._exchange, new, inexact)
        for symbol, outcome in found:
            self._settled(symbol, [outcome])
        return heal.still_wanted(wanted, self._done) if found else wanted

    # One hole

    async def _heal(self, want: Wanted, road: Road) -> None:
        """Fetch the ids, a few pages of them at most; what was had is written whatever comes in between."""
        rows: list[PastRow] = []
        left = want
        told = Told()
        # Of the last row that came. Times alone would lead to the hole's beginning again, page by page.
        key = self._keys.pop((want.symbol, want.ids.first, road.name), None)
        try:
            for _ in range(_PAGES):
                reply = await self._rest.ask(road, self._query(road, left, key))
                self._roads.worked(road)
                told = heal.judge(left, reply.rows)
                if told.problem:
                    self._problem = told.problem
                    self._patience.put_off(want, time.monotonic())
                    return
                rows += told.rows
                if told.skipped or told.older is not None:
                    break
                exact = road.call.source == self._exchange.past.trades.source
                if told.reached < left.ids.first and (exact or not heal.leads_on(left, reply.rows, key)):
                    break
                if told.reached >= left.ids.last:
                    self._patience.forget(want.symbol, want.ids.first)
                    return
                key = reply.rows[-1].key
                left = Wanted(
                    want.symbol,
                    Interval(told.reached + 1, want.ids.last),
                    want.after_time_us,
                    want.before_time_us,
                )
            else:
                return
        except RefusedError as error:
            self._problem = str(error)
            self._doubts.refused(left, road, error)
            return
        finally:
            if key is not None and told.reached < want.ids.last:
                self._keys[want.symbol, left.ids.first, road.name] = key
            if rows:
                await self._write(want, road, rows)
        self._problem = self._doubts.not_all(left, road, told, reply) or self._problem

    def _query(self, road: Road, left: Wanted, key: int | None, limit: int | None = None) -> dict[str, str]:
        past, call = self._exchange.past, road.call
        if call.source == past.trades.source:
            # With the trade before, so that a jump right behind it is seen for what it is.
            first = max(left.ids.first - 1, 0)
            return past.trades_query(left.symbol, first, limit or min(left.ids.last - first + 2, call.rows))
        if key is not None:
            return past.aggregates_next(left.symbol, key, limit or call.rows)
        return past.aggregates_query(
            left.symbol, left.after_time_us, max(left.before_time_us, left.after_time_us), call.rows
        )

    async def _write(self, want: Wanted, road: Road, rows: Sequence[PastRow]) -> None:
        origin = Origin(self._connection, road.call.source, self._clock.now_ns())
        for hour, of_hour in heal.by_hour(rows):
            healed = await asyncio.to_thread(
                write_healed,
                self._layout,
                self._exchange.name,
                want.symbol,
                hour,
                of_hour,
                want.ids,
                origin,
            )
            self._wrote(want, healed)

    def _wrote(self, want: Wanted, healed: Healed) -> None:
        found = outcomes(healed, want.ids)
        count = sum(o.last_id - o.first_id + 1 for o in found)
        self._files += 1
        self._trades += count
        if healed.source == self._exchange.past.aggregates.source:
            self._aggregated += count
        self._settled(want.symbol, found)
        log.info("healed %d trades of %s from %s into %s", count, want.symbol, healed.source, healed.path)

    def _settled(self, symbol: str, found: Sequence[Outcome]) -> None:
        done = self._done.setdefault(symbol, IntervalSet())
        for outcome in found:
            done.add_interval(outcome.first_id, outcome.last_id)
        self._settle(symbol, found)
