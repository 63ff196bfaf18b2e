"""Whether a day is to be published, from what, and if not, why not. Pure.

A day is final when it is over and
- each collector with raw of it has closed it in its ledger, or says there that it has ended, and all that the ledger saw
  is in the bucket (one that has no trade of it has nothing to close, and is there once it has something of a later day),
- a collector that was at it in its last hour, and has not ended, has an hour of the next day in the bucket,
- the next trade after the day is there,
- each missing trade has an outcome in a ledger;
or when 48 hours have passed. Which trade is the day's last is known by ids as far as it was received in the day, and for
sure once the day was made: then it is asked again, by `decide_made`. What comes later makes a new version of it, by inputs that are a superset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.publish_facts import DayFacts, LedgerFact, RawFact, day_after
from crypto_lake.upkeep.publish_ids import ids_of, latest_of, missing_of, without
from crypto_lake.upkeep.publish_manifest import FinalBecause, PublishedInput, PublishedManifest

FINAL_ANYWAY_NS: Final = 48 * 3600 * 10**9
_LAST_HOUR: Final = 23


@dataclass(frozen=True, slots=True)
class Make:
    """The day is to be made of `inputs`. `gone`: inputs of the version before that are no longer in the bucket.

    `carried`: Unix hours whose rows are taken over from it, for some of their raw is gone. `why`: for a person.
    """

    inputs: tuple[RawFact, ...]
    gone: tuple[PublishedInput, ...]
    carried: frozenset[int]
    final_because: FinalBecause
    why: str


@dataclass(frozen=True, slots=True)
class Waits:
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpToDate:
    """`gone`: inputs that have gone since the manifest was written."""

    gone: tuple[PublishedInput, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """Something is as this program does not leave it. Nothing of the day is touched until a person has looked."""

    problem: str


Decision = Make | Waits | UpToDate | Alert


def decide(facts: DayFacts, now_ns: int, *, rebuild: bool = False) -> Decision:
    """`now_ns`: the lake's clock. `rebuild`: make it again, even where nothing is new."""
    if facts.changed:
        name, problem = facts.changed[0]
        more = f" (and {len(facts.changed) - 1} more)" if len(facts.changed) > 1 else ""
        return Alert(f"{name} {problem}{more}; nothing was published")
    published = facts.published if facts.published is not None and facts.published.version else None
    gone, replaced = _lost(published, facts.raw)
    if replaced:
        return Alert(
            f"{replaced[0]} is not the object any more that the published day was made of, and raw is never "
            "replaced; find out who did it. Nothing was published"
        )
    inputs = inputs_of(facts)
    why = _why(published, inputs, facts, rebuild=rebuild)
    if not why:
        return UpToDate(tuple(one for one in gone if not one.gone))
    if now_ns < Hour(facts.day, _LAST_HOUR).end_ns:
        return Waits(("it is not over",))
    return _make_or_wait(facts, Make(tuple(inputs), gone, _carried(published, gone), "complete", why), now_ns)


def decide_made(facts: DayFacts, job: Make, now_ns: int) -> Make | Waits:
    """What becomes of a day that was made as `job` says, now that its `own_ids` are known.

    Where the inputs are still those of `job`, it is to be put; else it is to be made again, of more.
    """
    return _make_or_wait(facts, replace(job, inputs=tuple(inputs_of(facts))), now_ns)


def _make_or_wait(facts: DayFacts, job: Make, now_ns: int) -> Make | Waits:
    waits = reasons_to_wait(facts, job.inputs)
    if waits and now_ns < Hour(facts.day, _LAST_HOUR).end_ns + FINAL_ANYWAY_NS:
        return Waits(waits)
    return replace(job, final_because="time" if waits else "complete")


def inputs_of(facts: DayFacts) -> list[RawFact]:
    """The objects that may hold something of the day: its own, the first hour after it, and strays by their ids.

    A trade goes by its own time: one of the day's last second is received in the next day, and with a clock that is
    behind one of its first second in the day before. One that came hours late is found by its id, too. The more is
    known of the day's last trade, the more these are, never less.
    """
    after = day_after(facts.day)
    chosen = {fact.name for fact in facts.raw if fact.day == facts.day or (fact.day, fact.hour) == (after, 0)}
    following = _following(facts)
    if following is not None:
        chosen.add(following.name)
    low = facts.last_before  # None: of any id, the first ever are late
    ends = (latest_of(facts), ids_of(fact for fact in facts.raw if fact.name in chosen).last)
    high = max((id_ for id_ in ends if id_ is not None), default=None)
    if high is not None:
        for fact in facts.raw:
            if any(first <= high and (low is None or last > low) for first, last in fact.id_runs):
                chosen.add(fact.name)
    return sorted((fact for fact in facts.raw if fact.name in chosen), key=lambda fact: fact.name)


def _following(facts: DayFacts) -> RawFact | None:
    """The first object of a later day with a trade that follows the day's."""
    last_id = latest_of(facts)
    later = [
        fact
        for fact in facts.raw
        if fact.day > facts.day and fact.last_id is not None and (last_id is None or fact.last_id > last_id)
    ]
    return min(later, key=lambda fact: (fact.day, fact.hour, fact.name), default=None)


def reasons_to_wait(facts: DayFacts, inputs: Sequence[RawFact]) -> tuple[str, ...]:
    """Why the day, that is over, is not final by what is known; nothing where it is."""
    found: list[str] = []
    if facts.day_before_waits:
        found.append("the day before waits")
    if facts.unproven:
        found.append(f"{len(facts.unproven)} objects of it have no manifest yet")
    if facts.lost:
        found.append(f"{len(facts.lost)} objects of it are gone, the first is {facts.lost[0]}")
    own = facts.of_day
    for collector in sorted({fact.collector for fact in own}):
        reason = _collector_waits(facts, collector)
        if reason:
            found.append(f"{collector} {reason}")
    if _following(facts) is None:
        found.append("the next trade after it is not there yet")
    missing = missing_of(facts, inputs)
    for ledger in facts.ledgers.values():
        missing = without(missing, ledger.settled)
    if len(missing):
        found.append(f"{missing.count()} missing trades have no outcome yet")
    return tuple(found)


def _collector_waits(facts: DayFacts, collector: str) -> str:
    ledger = facts.ledgers.get(collector)
    raw = [fact for fact in facts.raw if fact.collector == collector]
    ended = ledger is not None and _has_ended(ledger, [fact for fact in raw if fact.day == facts.day])
    if ledger is None or (ledger.closed_day < facts.day and not ended):
        # Ledgers tell of trades. One with a trade of the day is uploaded before any raw of the day after.
        traded = any(fact.id_runs for fact in raw if fact.day == facts.day)
        followed = any(fact.day > facts.day for fact in raw)
        return "has not closed the day in its ledger" if traded or not followed else ""
    if ledger.problem:
        return f"has a ledger that can't be used: {ledger.problem}"
    to_come = without(ledger.seen, ids_of(raw))
    if len(to_come):
        return f"saw {to_come.count()} trades that are not in the bucket yet"
    last_hour = max(fact.hour for fact in raw if fact.day == facts.day)
    if last_hour == _LAST_HOUR and not ended and not any(fact.day > facts.day for fact in raw):
        return "has yet to upload the hour after the day"
    return ""


def _has_ended(ledger: LedgerFact, of_day: Sequence[RawFact]) -> bool:
    """Whether nothing of the day is to come from a collector, by its own word.

    Its word may be old: where there is raw of an hour that began after it, it went on, and the ledger has yet to say so.
    """
    at_ns = ledger.ended_ns
    return at_ns is not None and not any(
        fact.kind == "hour" and Hour(fact.day, fact.hour).start_ns > at_ns for fact in of_day
    )


def _why(
    published: PublishedManifest | None, inputs: Sequence[RawFact], facts: DayFacts, *, rebuild: bool
) -> str:
    """Why the day is to be made; nothing where it stands as it should."""
    if published is None:
        return "first version"
    known = {one.path for one in published.inputs}
    new = [fact for fact in inputs if fact.name not in known]
    if new:
        return f"{len(new)} new inputs, the first is {new[0].name}"
    if published.before != facts.before:
        return "what stood before it is another"
    return "rebuild" if rebuild else ""


def _lost(
    published: PublishedManifest | None, raw: Sequence[RawFact]
) -> tuple[tuple[PublishedInput, ...], list[str]]:
    """Inputs of the version before that are gone, and names of those that are another object now."""
    if published is None:
        return (), []
    there = {fact.name: fact for fact in raw}
    gone = tuple(one for one in published.inputs if one.path not in there)
    replaced = [
        one.path
        for one in published.inputs
        if one.path in there and (there[one.path].bytes, there[one.path].sha256) != (one.bytes, one.sha256)
    ]
    return gone, replaced


def _carried(published: PublishedManifest | None, gone: Sequence[PublishedInput]) -> frozenset[int]:
    if published is None or not gone:
        return frozenset()
    names = {one.path.split("/", 3)[3] for one in gone}
    return frozenset(hour for hour, record in published.hours.items() if not names.isdisjoint(record.inputs))


# A file whose generation is not the one that the manifest tells of


@dataclass(frozen=True, slots=True)
class FileSeen:
    """The file of a day as the store tells it."""

    generation: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Ours:
    """The file is the one that the manifest tells of, or both are absent."""


@dataclass(frozen=True, slots=True)
class Complete:
    """The file is there, its manifest was not written any more: a publish was cut off. This version is to be entered."""

    version: PublishedManifest


@dataclass(frozen=True, slots=True)
class Orphan:
    """The file is there and no manifest at all: ours where it is, to the byte, what the day's raw makes."""

    problem: str


@dataclass(frozen=True, slots=True)
class Unknown:
    problem: str


def recognise(
    manifest: PublishedManifest | None, file: FileSeen | None
) -> Ours | Complete | Orphan | Unknown:
    recorded = manifest.generation if manifest is not None else 0
    if file is None:
        if recorded == 0:
            return Ours()
        return Unknown(f"generation {recorded} is recorded, and there is no file; nothing was written")
    if file.generation == recorded:
        return Ours()
    for version in manifest.coming if manifest is not None else ():
        if file.sha256 is not None and version.sha256 == file.sha256:
            return Complete(version)
    if manifest is None:
        return Orphan(
            f"its file is there, of generation {file.generation}, without a manifest, and is not what its raw makes. "
            "Nothing was overwritten; move the file away to have the day published"
        )
    return Unknown(
        f"its file is of generation {file.generation}, {recorded or 'none'} is recorded: another program wrote it. "
        "Nothing was overwritten; move the file away, and its manifest, to have the day published anew"
    )
