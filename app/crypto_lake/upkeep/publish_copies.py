"""How far the collectors' copies of a day's trades agree: who has which, and which do not say the same. Pure.

Copies are counted by replica, not by collector: a symbol that moved between shards, or whose volume was lost, has several
collectors in one replica. A collector of no replica is a copy of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Final, NamedTuple

from crypto_lake.lake.manifests import BarsHour
from crypto_lake.model.copies import Copies, replica_of
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.upkeep.publish_facts import RawFact
from crypto_lake.upkeep.publish_ids import ids_of, without
from crypto_lake.upkeep.publish_manifest import Differing

_MOST_NAMED: Final = 100


class _Copy(NamedTuple):
    """`collector`: empty for a replica's collectors together."""

    replica: str
    collector: str


def copies_of(
    inputs: Sequence[RawFact], span: Interval | None, hours: Mapping[int, BarsHour], missing: int
) -> Copies:
    """`span`: the day's first and last id, None where it has no trade. `missing`: ids that nobody has."""
    by_copy = {copy: _within(ids_of(facts), span) for copy, facts in _by_copy(inputs).items()}
    every = IntervalSet(interval for ids in by_copy.values() for interval in ids)
    only = {"a": 0, "b": 0, "": 0}
    for copy, own in by_copy.items():
        others = [ids for other, ids in by_copy.items() if other != copy]
        alone = reduce(without, others, own)
        only[copy.replica] += alone.count()
    # Copies whose times lie in two hours are counted in both: so it is known that they are there.
    counted_again = max(0, sum(record.trades for record in hours.values()) - every.count())
    return Copies(
        trades=every.count(),
        shared=every.count() - sum(only.values()),
        only_a=only["a"],
        only_b=only["b"],
        only_other=only[""],
        missing=missing,
        differing=counted_again + sum(record.conflicts for record in hours.values()),
    )


def differing_of(inputs: Sequence[RawFact], hours: Mapping[int, BarsHour]) -> tuple[Differing, ...]:
    """The first hundred trades of which two copies differ, with the collectors that have one."""
    ids = sorted({id_ for record in hours.values() for id_ in record.conflicting})[:_MOST_NAMED]
    if not ids:
        return ()
    held = {
        name: ids_of(fact for fact in inputs if fact.collector == name)
        for name in sorted({fact.collector for fact in inputs})
    }
    return tuple(Differing(id_, tuple(name for name, own in held.items() if id_ in own)) for id_ in ids)


def told(differing: Sequence[Differing], copies: Copies | None) -> str:
    """For a person; empty where no two copies differ."""
    if copies is None or not copies.differing:
        return ""
    how_many = "1 trade" if copies.differing == 1 else f"{copies.differing:,} trades"
    if not differing:
        return f"two copies of {how_many} differ, in an hour beside their own"
    first = differing[0]
    return f"two copies of {how_many} differ, the first is {first.id} of {', '.join(first.collectors)}"


def _by_copy(inputs: Sequence[RawFact]) -> dict[_Copy, list[RawFact]]:
    found: dict[_Copy, list[RawFact]] = {}
    for fact in inputs:
        replica = replica_of(fact.collector)
        found.setdefault(_Copy(replica, "" if replica else fact.collector), []).append(fact)
    return found


def _within(ids: IntervalSet, span: Interval | None) -> IntervalSet:
    return IntervalSet(ids.shared_with(span)) if span is not None else IntervalSet()
