"""A day that is being filled from the exchange's past: what is had of it, and what waits to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from crypto_lake.completeness.heal import Wanted
from crypto_lake.exchanges import PastRow
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.model.market import US_PER_SECOND

HOUR_US: Final = 3600 * US_PER_SECOND
DAY_US: Final = 24 * HOUR_US
_FILE_ROWS: Final = 50_000  # of one file; they are held in memory until it is written (some 15 MB)


class DayRecord(msgspec.Struct, frozen=True):
    """A day, and what came of it. `trades`: of the day that raw holds now; `missing`: ids of it that it does not.

    source: `archive`, `historicalTrades` or `aggTrades`; "" where there was nothing to fetch. `whole`: the day was over,
    its ends were known, and all between them was had, trade by trade. `ends_known`: earlier versions did not write it, and
    some of them took the end of what was held for the day's. `ended_ns`: real time.
    """

    day: str
    source: str
    trades: int
    fetched: int
    files: int
    first_id: int | None
    last_id: int | None
    missing: int
    whole: bool
    sha256: str = ""
    ended_ns: int = 0
    ends_known: bool = False

    @property
    def settled(self) -> bool:
        """Whether the day need not be looked at again: it is whole, and what says so can be believed."""
        return self.whole and (self.ends_known or bool(self.sha256))


decode_record = msgspec.json.Decoder(DayRecord).decode


@dataclass(frozen=True, slots=True)
class Progress:
    """`bytes`: of an archive, as it came over the network. `doing`: what it does, for a person."""

    symbol: str
    day: str
    doing: str
    rows: int
    fetched: int
    bytes: int


@dataclass
class Day:
    """A day being filled: what is had of it, and what waits to be written.

    begins_at, ends_at: its first and its last id, as REST tells them; None: it was not asked, or did not tell.
    """

    symbol: str
    day: str
    held: IntervalSet
    ids: IntervalSet
    rows: int = 0
    fetched: int = 0
    files: int = 0
    bytes: int = 0
    begins_at: int | None = None
    ends_at: int | None = None

    @property
    def start_us(self) -> int:
        return start_us(self.day)

    @property
    def end_us(self) -> int:
        return self.start_us + DAY_US

    def missing(self) -> int:
        """How many ids of the day are not had, from the first to the last that is known of."""
        told = (self.ids.first, self.ids.last, self.begins_at, self.ends_at)
        known = [id_ for id_ in told if id_ is not None]
        if not known:
            return 0
        return sum(len(hole) for hole in self.ids.missing(Interval(min(known), max(known))))

    def ends_known(self, now_us: int, *, archived: bool) -> bool:
        """Whether it is known where the day ends. now_us: before it was asked for.

        An archive has a day's end. REST tells it by the first trade after it; where there was none, the exchange may not
        have told its last trades yet. It is believed when the next day is over, too, without one.
        """
        if now_us < self.end_us:
            return False
        return archived or self.ends_at is not None or now_us >= self.end_us + DAY_US

    def is_whole(self, now_us: int, *, archived: bool) -> bool:
        """Whether all of the day is had, by `ends_known`."""
        return self.ends_known(now_us, archived=archived) and not self.missing()


class Keeper:
    """Takes rows in any order and any copies, and writes those that are not held, in files of bounded size."""

    def __init__(self, work: Day, source: str, write: Callable[[Day, str, Sequence[PastRow]], None]) -> None:
        self.source = source
        self.took = False
        self._work, self._write = work, write
        self._rows: list[PastRow] = []

    @property
    def full(self) -> bool:
        return len(self._rows) >= _FILE_ROWS

    def take(self, row: PastRow) -> None:
        work = self._work
        work.rows += 1
        if row.first_id == row.last_id:
            known = row.first_id in work.held
        else:
            known = not work.held.missing(Interval(row.first_id, row.last_id))
        work.ids.add_interval(row.first_id, row.last_id)
        if known:
            return
        work.held.add_interval(row.first_id, row.last_id)
        work.fetched += row.last_id - row.first_id + 1
        self.took = True
        self._rows.append(row)
        if self.source == "archive" and self.full:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            rows, self._rows = sorted(self._rows, key=lambda row: row.first_id), []
            self._write(self._work, self.source, rows)


def days_of(first: str, last: str) -> Iterator[str]:
    """Every day from the first to the last, both included."""
    for day in range(start_us(first), start_us(last) + 1, DAY_US):
        yield _name(day)


def start_us(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * US_PER_SECOND


def inexact_days(
    wanted: Iterable[Wanted], now_us: int, recent_days: int | None = None
) -> dict[str, list[str]]:
    """By symbol, the days that are over on which ids lie that can't be had, or are known by sums alone: those of the
    last `recent_days`, or all."""
    today_us = now_us - now_us % DAY_US
    oldest_us = 0 if recent_days is None else today_us - recent_days * DAY_US
    found: dict[str, set[str]] = {}
    for want in wanted:
        low, high = sorted((want.after_time_us, want.before_time_us))
        for day_us in range(max(low - low % DAY_US, oldest_us), min(high + 1, today_us), DAY_US):
            found.setdefault(want.symbol, set()).add(_name(day_us))
    return {symbol: sorted(days) for symbol, days in sorted(found.items())}


def _name(day_us: int) -> str:
    return datetime.fromtimestamp(day_us // US_PER_SECOND, UTC).strftime("%Y-%m-%d")
