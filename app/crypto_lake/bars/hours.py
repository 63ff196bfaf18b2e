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
