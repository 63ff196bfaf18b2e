"""Which hours `prove` takes on a disk, and of which raw is read for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crypto_lake.completeness.entries import ReadLine
from crypto_lake.completeness.prove import came_in, leading_to
from crypto_lake.lake import deletions
from crypto_lake.lake.layout import Layout, parse_raw_name
from crypto_lake.lake.raw_manifests import raw_manifest_paths
from crypto_lake.model.clock import Hour


class ProveError(RuntimeError):
    """It can't be proven; the message says why and what to do."""


@dataclass(frozen=True)
class Range:
    """Hours of receipt to prove, and of the raw that is read for it.

    `read`: from the trade before them on, as far as its raw is here, to the hour after them.
    """

    first: Hour
    last: Hour
    read: list[Hour]


def range_of(
    layout: Layout, exchange: str, symbol: str, days: tuple[str, str] | None, lines: Sequence[ReadLine]
) -> Range:
    """Raises ProveError where there is nothing to prove, or raw of it has gone.

    An hour of which the ledger says that trades came, and of which there is neither raw nor a manifest, is proven like
    the others: the ledger is wrong about it.
    """
    here, gone = _hours(layout, exchange, symbol)
    said = came_in(lines).keys()
    if days is not None:
        chosen = sorted(hour for hour in here | gone | said if days[0] <= hour.day <= days[1])
    else:
        # From the latest hour on before which raw has gone.
        latest_gone = max(gone, default=None)
        chosen = sorted(hour for hour in here | said if latest_gone is None or hour > latest_gone)
    if not chosen:
        known = sorted(here | gone | said)
        there = f"it goes from {known[0]} to {known[-1]}" if known else "there is none at all"
        raise ProveError(f"no raw of {symbol} was received on these days: {there}")
    if missing := sorted(gone.intersection(chosen)):
        raise ProveError(
            f"{len(missing)} hours of raw of {symbol} are not here any more, the first is {missing[0]}: prove these "
            "days from the bucket (--bucket)"
        )
    first, last = chosen[0], chosen[-1]
    before = leading_to(lines, first)
    if not before <= here:
        before = set[
            Hour
        ]()  # the ledger is taken at its word, also where raw of an hour before these is here
    after = min((hour for hour in here if hour > last), default=last)
    return Range(first, last, sorted({*before, first, *(h for h in here if first <= h <= last), after}))


def _hours(layout: Layout, exchange: str, symbol: str) -> tuple[set[Hour], set[Hour]]:
    """Hours of receipt of which raw is here, and of which some has gone: sealed files that were deleted, or all."""
    here = {
        file.hour
        for day in layout.raw_days(exchange, symbol)
        for file in layout.raw_files(exchange, symbol, day)
        if file.kind != "healed"
    }
    gone: set[Hour] = set()
    for day in layout.manifest_days(exchange, symbol):
        recorded = deletions.read(layout, exchange, symbol, day)
        for path in raw_manifest_paths(layout, exchange, symbol, day):
            file = parse_raw_name(day, path)
            if file is None or file.kind != "hour" or path.exists():
                continue
            # Where no deletion was recorded, a crash may have come before the file took the place of its parts.
            if file.hour not in here or str(path.relative_to(layout.root)) in recorded:
                gone.add(file.hour)
    return here - gone, gone
