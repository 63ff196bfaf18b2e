"""Versions of a published day, from what was made to what its manifest says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from crypto_lake.lake.manifests import BarsHour
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.upkeep.publish_copies import copies_of, differing_of
from crypto_lake.upkeep.publish_facts import DayFacts
from crypto_lake.upkeep.publish_ids import by_collector, missing_of, runs, without
from crypto_lake.upkeep.publish_manifest import PublishedInput, PublishedManifest, Standing
from crypto_lake.upkeep.publish_plan import Make
from crypto_lake.upkeep.publish_stage import Made

# A version that was begun and whose file did not come is kept among `coming`, for its publisher may still be at it.
_MOST_COMING: Final = 4
_HOUR_NS: Final = 3600 * 10**9


def with_own_ids(facts: DayFacts, made: Made) -> DayFacts:
    """The facts of a day that was made: which trades are its own is known."""
    return replace(facts, own_ids=(made.manifest.first_trade_id, made.manifest.last_trade_id))


def new_version(facts: DayFacts, job: Make, made: Made, now_ns: int) -> PublishedManifest:
    """The version that follows the one in `facts`, which know its own trades; its file is not put yet."""
    manifest = made.manifest
    first, last = manifest.first_trade_id, manifest.last_trade_id
    missing = missing_of(facts, job.inputs)
    if job.gone and facts.published is not None:
        missing = without(missing, _known_to(facts.published))
    span = Interval(first, last) if first is not None and last is not None else None
    # What is gone from the bucket was somebody's copy too: what was told when it was there is told on.
    copies = (
        facts.published.copies
        if job.gone and facts.published is not None
        else copies_of(job.inputs, span, manifest.hours, missing.count())
    )
    inputs = [PublishedInput(f.name, f.bytes, f.sha256, f.generation) for f in job.inputs]
    inputs += [msgspec.structs.replace(one, gone=True) for one in job.gone]
    return PublishedManifest(
        exchange=manifest.exchange,
        symbol=manifest.symbol,
        day=manifest.day,
        path=manifest.path,
        schema=manifest.schema,
        program=manifest.program,
        bytes=manifest.bytes,
        sha256=manifest.sha256,
        crc32c=manifest.crc32c,
        md5=manifest.md5,
        rows=manifest.rows,
        trades=manifest.trades,
        first_trade_id=first,
        last_trade_id=last,
        final=True,
        inputs=tuple(sorted(inputs, key=lambda one: one.path)),
        hours=manifest.hours,
        version=facts.published.version + 1 if facts.published is not None else 1,
        generation=0,
        published_ns=now_ns,
        final_because=job.final_because,
        before=facts.before,
        collectors=by_collector(job.inputs, span),
        missing_ids=missing.count(),
        missing=runs(missing),
        unreadable=made.unreadable,
        control=made.control,
        carried_hours=tuple(sorted(job.carried)),
        copies=copies,
        differing=differing_of(job.inputs, manifest.hours),
    )


def _known_to(version: PublishedManifest) -> IntervalSet:
    """Ids whose trades are in this version's rows; none where too many are missing there to be listed."""
    known = IntervalSet()
    listed = sum(last - first + 1 for first, last in version.missing)
    if version.first_trade_id is not None and version.last_trade_id is not None:
        if listed == version.missing_ids:
            known.add_interval(version.first_trade_id, version.last_trade_id)
        for first, last in version.missing:
            known.remove(Interval(first, last))
    return known


def stood_before(now: Standing, version: PublishedManifest | None) -> Standing:
    """What stood when the day began: by what is published now, unless this version knew of a later trade.

    Then days before it were taken out of the bucket since, or can't be used; that is no reason to know less.
    """
    if version is None or not version.version or version.before.last is None:
        return now
    return version.before if now.last is None or now.last[0] < version.before.last[0] else now


def begun(before: PublishedManifest | None, version: PublishedManifest) -> PublishedManifest:
    """The manifest that tells that this version's file is about to be put."""
    base = before if before is not None else nothing_yet(version)
    others = [one for one in base.coming if one.sha256 != version.sha256]
    return msgspec.structs.replace(base, coming=(*others[-(_MOST_COMING - 1) :], version))


def entered(version: PublishedManifest, generation: int) -> PublishedManifest:
    """The manifest of a version whose file is there."""
    return msgspec.structs.replace(version, generation=generation, coming=())


def noted(before: PublishedManifest, version: PublishedManifest) -> PublishedManifest:
    """The manifest where the same content was made of more: the file stays, and what it is made of is told anew."""
    return msgspec.structs.replace(
        version,
        version=before.version,
        generation=before.generation,
        program=before.program,
        bytes=before.bytes,
        sha256=before.sha256,
        crc32c=before.crc32c,
        md5=before.md5,
    )


def with_gone(before: PublishedManifest, gone: Sequence[PublishedInput]) -> PublishedManifest:
    """The manifest where inputs have gone since."""
    paths = {one.path for one in gone}
    inputs = tuple(msgspec.structs.replace(one, gone=one.gone or one.path in paths) for one in before.inputs)
    return msgspec.structs.replace(before, inputs=inputs)


def nothing_yet(version: PublishedManifest) -> PublishedManifest:
    """The manifest of a day of which no version is complete."""
    return msgspec.structs.replace(
        version,
        version=0,
        generation=0,
        bytes=0,
        sha256="",
        crc32c="",
        md5="",
        rows=0,
        trades=0,
        first_trade_id=None,
        last_trade_id=None,
        final=False,
        inputs=(),
        hours={},
        collectors=(),
        missing_ids=0,
        missing=(),
        unreadable=0,
        control=(),
        carried_hours=(),
        coming=(),
        copies=None,
        differing=(),
    )


def same_content(before: PublishedManifest, version: PublishedManifest) -> bool:
    """Whether every hour has the same rows, whichever library wrote them."""
    return before.digests == version.digests


def hours_that_lost(before: PublishedManifest, now: Mapping[int, BarsHour]) -> list[int]:
    """Unix hours that know fewer trades than the version before did, though made of all that it was made of."""
    lost = [
        hour
        for hour, record in before.hours.items()
        if record.trades > (made.trades if (made := now.get(hour)) is not None else 0)
    ]
    return sorted(lost)


def hours_worse(before: PublishedManifest, now: Mapping[int, BarsHour]) -> frozenset[int]:
    """Unix hours that know less than the version before did: fewer trades, or by the same ones fewer seconds or more ids
    missing. One that got trades is none of them.
    """
    return frozenset(
        hour
        for hour, record in before.hours.items()
        if (made := now.get(hour)) is None
        or (made.trades, made.rows, -made.missing_ids) < (record.trades, record.rows, -record.missing_ids)
    )


def left_out(before: PublishedManifest, job: Make) -> list[int]:
    """Hours of the day (0..23) of which something new came in that was not used, since other raw of them is gone."""
    known = {one.path for one in before.inputs}
    return sorted(
        {
            fact.hour
            for fact in job.inputs
            if fact.name not in known and Hour(fact.day, fact.hour).start_ns // _HOUR_NS in job.carried
        }
    )
