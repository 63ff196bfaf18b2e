"""Who has which trades of a day: ids across collectors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.upkeep.publish_facts import DayFacts, RawFact
from crypto_lake.upkeep.publish_manifest import CollectorIds, Ids, listed


def ids_of(facts: Iterable[RawFact]) -> IntervalSet:
    found = IntervalSet()
    for fact in facts:
        for first, last in fact.id_runs:
            found.add_interval(first, last)
    return found


def without(ids: IntervalSet, others: IntervalSet) -> IntervalSet:
    """Those that are not among the others."""
    left = IntervalSet(ids)
    for interval in others:
        left.remove(interval)
    return left


def latest_of(facts: DayFacts) -> int | None:
    """The greatest id that is known to be of the day or of one before it, or was received in it."""
    version = facts.published
    known = (
        facts.own_ids[1] if facts.own_ids is not None else None,
        facts.last_before,
        ids_of(facts.of_day).last,
        version.last_trade_id if version is not None else None,
    )
    return max((id_ for id_ in known if id_ is not None), default=None)


def missing_of(facts: DayFacts, inputs: Sequence[RawFact]) -> IntervalSet:
    """Ids that no input has, from the last trade before the day to the first one after it, as far as these are known.

    Which of two days a missing trade belongs to can't be known: one at the turn of two days is of both, and one of a day
    without trades is of each that it may be of. What is behind the day's last trade is known for sure once `own_ids` are:
    that trade may be received in the next day.
    """
    first, last = facts.own_ids or (ids_of(facts.of_day).first, latest_of(facts))
    if facts.last_before is not None:
        first = facts.last_before
        last = first if last is None else last
    if first is None or last is None:  # of ids before the first ever nothing is known
        return IntervalSet()
    every = ids_of(inputs)
    every.add(first)
    return IntervalSet(hole for hole in every.holes() if hole.last > first and hole.first <= last + 1)


def by_collector(inputs: Sequence[RawFact], span: Interval | None) -> tuple[CollectorIds, ...]:
    """What each collector has of the ids in `span` (the day's first and last; None where it has no trade)."""
    ids: Mapping[str, IntervalSet] = {
        name: _within(ids_of(fact for fact in inputs if fact.collector == name), span)
        for name in sorted({fact.collector for fact in inputs})
    }
    found: list[CollectorIds] = []
    for name, own in ids.items():
        only = own
        for other, theirs in ids.items():
            if other != name:
                only = without(only, theirs)
        missing = IntervalSet(own.missing(span)) if span is not None else IntervalSet()
        mine = [fact for fact in inputs if fact.collector == name]
        found.append(
            CollectorIds(
                name,
                objects=len(mine),
                bytes=sum(fact.bytes for fact in mine),
                ids=own.count(),
                only_here=only.count(),
                missing_ids=missing.count(),
                missing=runs(missing),
            )
        )
    return tuple(found)


def runs(ids: IntervalSet) -> Ids:
    return listed((interval.first, interval.last) for interval in ids)


def _within(ids: IntervalSet, span: Interval | None) -> IntervalSet:
    return IntervalSet(ids.shared_with(span)) if span is not None else IntervalSet()
