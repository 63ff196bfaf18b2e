"""What publishing goes by, of one symbol and day: plain facts, no decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from crypto_lake.model.intervals import IntervalSet
from crypto_lake.upkeep.publish_manifest import NOTHING_STANDS, PublishedManifest, Standing


@dataclass(frozen=True, slots=True)
class RawFact:
    """An object of raw that is in the bucket and is, by size and SHA-256, what its manifest says.

    `name`: of the object. `hour`: of the day in which it was received (of a healed one: the hour of its trades).
    """

    name: str
    collector: str
    day: str
    hour: int
    kind: str  # "hour" or "healed"
    bytes: int
    sha256: str
    generation: int
    id_runs: tuple[tuple[int, int], ...]

    @property
    def last_id(self) -> int | None:
        return self.id_runs[-1][1] if self.id_runs else None

    @property
    def short(self) -> str:
        """As the hours of a published manifest name it: without raw/<exchange>/<symbol>/."""
        return self.name.split("/", 3)[3]


@dataclass(frozen=True, slots=True)
class LedgerFact:
    """What a collector's ledger in the bucket says about a day.

    `closed_day`: the latest that its pieces close. `seen`: ids received in the day. `settled`: missing ids of which it is
    known, for good, that they can't be had. `problem`: why a piece could not be used, or nothing. `ended_ns`: since when
    the collector receives nothing of the symbol, by its own word, or did not when the day was over; None: not so.
    """

    closed_day: str = ""
    seen: IntervalSet = field(default_factory=IntervalSet)
    settled: IntervalSet = field(default_factory=IntervalSet)
    problem: str = ""
    ended_ns: int | None = None


@dataclass(frozen=True, slots=True)
class DayFacts:
    """A symbol's day, with the day before and the two after it.

    `lost`: objects of the day that have a manifest and are not there. `before`: what stands when it begins. `published`: what its manifest in the bucket says; None where it has none.
    `own_ids`: the first and the last trade of the day by the trades' own times, nothing twice where it has none; None as
    long as that is not known, for the day was not made yet.
    `unproven`: objects of the day without a manifest: they are being uploaded. `changed`: object and problem, of those
    that are not what their manifest says.
    """

    exchange: str
    symbol: str
    day: str
    raw: Sequence[RawFact]
    ledgers: Mapping[str, LedgerFact]
    published: PublishedManifest | None = None
    before: Standing = NOTHING_STANDS
    own_ids: tuple[int | None, int | None] | None = None
    day_before_waits: bool = False
    unproven: Sequence[str] = ()
    lost: Sequence[str] = ()
    changed: Sequence[tuple[str, str]] = ()

    @property
    def of_day(self) -> list[RawFact]:
        return [fact for fact in self.raw if fact.day == self.day]

    @property
    def last_before(self) -> int | None:
        """The last trade before the day."""
        return self.before.last[0] if self.before.last is not None else None


def day_after(day: str, days: int = 1) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()
