"""Which missing trades to ask the exchange for, in which order, and what an answer means. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crypto_lake.exchanges import PastCall, PastHost, PastRow
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.model.market import US_PER_SECOND

# Trades that are missing happened between the two around them; the exchange's times may be a little out of order.
_TIME_SLACK_US: Final = 60 * US_PER_SECOND
# Until a hole is asked for again of which the exchange says nothing (yet), or says what must be confirmed.
_PAUSES_SECONDS: Final = (2.0, 10.0, 60.0, 300.0, 1800.0, 3600.0)
CONFIRM_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Ids of a symbol that are missing, and the times of the trades before and after them."""

    symbol: str
    ids: Interval
    after_time_us: int
    before_time_us: int


@dataclass(frozen=True, slots=True)
class Road:
    """A way to past trades: a call, at a host that serves it."""

    host: str
    call: PastCall

    @property
    def name(self) -> str:
        return f"{self.host}{self.call.path}"


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of the ids that were wanted.

    rows: those that tell of one of them, in order. skipped: ids between two rows of the answer, which has none of them.
    older: ids before its first row, though they were asked for: the exchange's memory does not reach them. reached:
    the greatest id it speaks of; below `wanted` where it speaks of none. problem: why it can't be believed; then
    nothing else is said.
    """

    rows: tuple[PastRow, ...] = ()
    skipped: tuple[Interval, ...] = ()
    older: Interval | None = None
    reached: int = -1
    problem: str = ""


def roads(hosts: Sequence[PastHost], calls: Sequence[PastCall]) -> list[Road]:
    """Single trades wherever they are served, then aggregates: what is exact goes first. `calls` in that order."""
    return [Road(host.url, call) for call in calls for host in hosts if call.source in host.serves]


def in_order(wanted: Iterable[Wanted]) -> list[Wanted]:
    """The most recent first: they are asked for by whoever looks at the lake now."""
    return sorted(wanted, key=lambda want: (-want.before_time_us, want.symbol, want.ids))


def pause_seconds(attempts: int) -> float:
    """After so many answers (1: the first) that did not help."""
    return _PAUSES_SECONDS[min(attempts, len(_PAUSES_SECONDS)) - 1]


def judge(wanted: Wanted, rows: Sequence[PastRow]) -> Told:
    """What rows, as the exchange gave them, say of the ids. They may begin before and end behind them.

    Asked for with the trade before them, ids are known not to exist where the answer has that trade and the next one.
    """
    ids = wanted.ids
    if not rows:
        return Told(reached=ids.first - 1)
    used: list[PastRow] = []
    skipped: list[Interval] = []
    at = rows[0].first_id
    for row in rows:
        if row.first_id < at:
            return Told(problem=f"the answer is out of order at id {row.first_id}")
        between = _within(at, row.first_id - 1, ids)
        if between is not None:
            skipped.append(between)
        if _within(row.first_id, row.last_id, ids) is not None:
            if problem := _wrong_time(wanted, row):
                return Told(problem=problem)
            used.append(row)
        at = row.last_id + 1
    return Told(
        tuple(used),
        tuple(skipped),
        _within(ids.first, rows[0].first_id - 1, ids),
        max(at - 1, ids.first - 1),
    )


def _within(first: int, last: int, ids: Interval) -> Interval | None:
    low, high = max(first, ids.first), min(last, ids.last)
    return Interval(low, high) if low <= high else None


def _wrong_time(wanted: Wanted, row: PastRow) -> str:
    """Another market's trades bear ids, too: a directory of a simulated one that is pointed at the real one."""
    low, high = sorted((wanted.after_time_us, wanted.before_time_us))
    if low - _TIME_SLACK_US <= row.time_us <= high + _TIME_SLACK_US:
        return ""
    return (
        f"trade {row.first_id} of {wanted.symbol} happened at {row.time_us} us by its answer, and between {low} and "
        f"{high} us by what is here: it is another market's"
    )


def leads_on(wanted: Wanted, rows: Sequence[PastRow], key: int | None) -> bool:
    """Whether aggregates that end before the ids may have next ones that tell of them: asked for by time, they may begin
    too early. `key`: of the last row before these.

    Not past the hole's own time: ids that are still smaller there are another market's. Not where keys don't rise.
    """
    if not rows or (key is not None and rows[-1].key <= key):
        return False
    return rows[-1].time_us <= max(wanted.after_time_us, wanted.before_time_us) + _TIME_SLACK_US


def covered(rows: Iterable[PastRow], ids: Interval) -> list[Interval]:
    """Which of the ids the rows tell of."""
    found = IntervalSet()
    for row in rows:
        part = _within(row.first_id, row.last_id, ids)
        if part is not None:
            found.add_interval(part.first, part.last)
    return list(found)


def by_hour(rows: Iterable[PastRow]) -> list[tuple[Hour, list[PastRow]]]:
    """Rows by the hour in which they happened, each hour's in their order."""
    hours: dict[Hour, list[PastRow]] = {}
    hour, start_us, end_us = None, 0, 0
    for row in rows:
        if hour is None or not start_us <= row.time_us < end_us:
            hour = Hour.of_ns(row.time_us * 1000)
            start_us, end_us = hour.start_ns // 1000, hour.end_ns // 1000
        hours.setdefault(hour, []).append(row)
    return sorted(hours.items())


def still_wanted(wanted: Iterable[Wanted], done: Mapping[str, IntervalSet]) -> list[Wanted]:
    """Without the ids that something was done about, by symbol."""
    left: list[Wanted] = []
    for want in wanted:
        settled = done.get(want.symbol)
        parts = settled.missing(want.ids) if settled is not None else [want.ids]
        left += [Wanted(want.symbol, part, want.after_time_us, want.before_time_us) for part in parts]
    return left
