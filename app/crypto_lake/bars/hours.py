"""What an hour of bars is made of, named in one key: an hour whose key stands need not be made again. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from crypto_lake.bars.rows import HOUR_SECONDS, Surroundings
from crypto_lake.bars.seconds import Edge, StandingQuote
from crypto_lake.lake.manifests import BarsHour, RawIndexEntry
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import IntervalSet
from crypto_lake.model.market import NS_PER_SECOND

KEY_VERSION = 1  # raised when the rules of a bar change in a way that should be told; nothing is remade by it


def day_of(hour: int) -> str:
    """The day of a Unix hour, as 2024-08-08."""
    return Hour.of_ns(hour * HOUR_SECONDS * NS_PER_SECOND).day


@dataclass(frozen=True, slots=True)
class Around:
    """Surroundings of an hour, and the greatest update id before it."""

    surroundings: Surroundings
    max_u: int


def surroundings(hours: Iterable[int], records: Mapping[int, BarsHour], reach: int) -> dict[int, Around]:
    """What stands before and after each of `hours` (Unix hours), by what is known of all hours."""
    wanted = set(hours)
    order = sorted(wanted | records.keys())
    after: dict[int, Edge | None] = {}
    following: Edge | None = None
    for hour in reversed(order):
        after[hour] = following
        record = records.get(hour)
        if record and record.first:
            following = Edge(*record.first)
    found: dict[int, Around] = {}
    before: Edge | None = None
    close: int | None = None
    quote: StandingQuote | None = None
    max_u = -1
    for hour in order:
        if hour in wanted:
            found[hour] = Around(Surroundings(before, close, after[hour], quote, reach), max_u)
        record = records.get(hour)
        if record is None:
            continue
        before = Edge(*record.last) if record.last else before
        close = record.close if record.close is not None else close
        quote = StandingQuote(*record.quote) if record.quote else quote
        max_u = max(max_u, record.max_u)
    return found


def key(
    hour: int, files: Sequence[tuple[str, int]], around: Around, elsewhere: Sequence[tuple[int, int]]
) -> str:
    """A digest of all that an hour's rows follow from.

    files: name and size of each raw file with a trade or quote of the hour. elsewhere: runs of ids between the
    trades around the hour that bear the time of another hour.
    """
    near = around.surroundings
    clipped = 0 if near.after else min(max(near.reach, hour * HOUR_SECONDS), (hour + 1) * HOUR_SECONDS)
    stands_on = (
        KEY_VERSION,
        sorted(files),
        near.before,
        near.close,
        near.after,
        near.quote,
        around.max_u,
        clipped,
        sorted(elsewhere),
    )
    return hashlib.sha256(msgspec.json.encode(stands_on)).hexdigest()


def ids_elsewhere(
    entries: Iterable[RawIndexEntry], hour: int, record: BarsHour | None, around: Around
) -> list[tuple[int, int]]:
    """Runs of ids, of files with no trade of this hour, that lie between the trades around it."""
    near = around.surroundings
    low = near.before.id if near.before else (record.first[0] if record and record.first else None)
    high = near.after.id if near.after else (record.last[0] if record and record.last else None)
    if low is None or high is None:
        return []
    found = IntervalSet()
    for entry in entries:
        if hour in entry.trade_hours:
            continue
        for first, last in entry.id_runs:
            within = max(first, low + 1), min(last, high - 1)
            if within[0] <= within[1]:
                found.add_interval(*within)
    return [(interval.first, interval.last) for interval in found]


def is_closed(day: Mapping[int, BarsHour], records: Mapping[int, BarsHour], end: int) -> bool:
    """Whether the bars of a day that ends with the hour before `end` lack nothing: it is there to its end, without a hole,
    and its last trade is followed by the next one.

    day: its hours. records: all hours that are known. A hole counts in the hour of the trade after it; that one of the
    hour which holds the first trade after the day may begin in the day.
    """
    if max(day, default=end) != end - 1 or any(record.holes for record in day.values()):
        return False
    hour_after = following(records, end)
    if hour_after is None:
        return False
    last = max(
        (record.last[0] for hour, record in records.items() if hour < end and record.last), default=None
    )
    after = records[hour_after]
    if last is None or after.first is None or after.first[0] <= last + 1:
        return True
    # Ids between may be known by their times in other hours. Until it is made, an hour says nothing of holes.
    return bool(after.key) and not after.holes


def following(records: Mapping[int, BarsHour], end: int) -> int | None:
    """The hour of the first trade at `end` or later; None where there is none yet."""
    return min((hour for hour, record in records.items() if hour >= end and record.first), default=None)
