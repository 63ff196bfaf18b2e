"""Which trades of some days are in raw already, one by one, and which are not."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from crypto_lake.completeness.heal_files import read_healed
from crypto_lake.completeness.heal_holes import HoleReader
from crypto_lake.completeness.runs import read_runs
from crypto_lake.exchanges import Exchange
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.raw_manifests import (
    raw_inputs,
    raw_manifest_paths,
    read_raw_manifest,
    sealed_into,
)
from crypto_lake.model.intervals import IntervalSet


def held_ids(layout: Layout, exchange: Exchange, symbol: str, days: Iterable[str]) -> IntervalSet:
    """Ids that raw of these days holds as single trades, or held: of files that went to the bucket manifests tell.

    Those that are known by sums alone are not among them.
    """
    held, gone = IntervalSet(), IntervalSet()
    for day in sorted(set(days)):
        files = {file.path: file for file in raw_inputs(layout, exchange.name, symbol, day)}
        for path in raw_manifest_paths(layout, exchange.name, symbol, day):
            healed = path.name.startswith("healed_")
            if healed and path in files:
                continue  # read below: whether its rows are single trades it alone says
            manifest = read_raw_manifest(layout, path)
            for first, last in manifest.id_runs if manifest is not None else ():
                (gone if healed else held).add_interval(first, last)
            files.pop(path, None)
        for file in files.values():
            if file.kind == "healed":
                for source, row in read_healed(exchange, file.path):
                    if source != exchange.past.aggregates.source:
                        held.add_interval(row.first_id, row.last_id)
        parts = [file.path for file in files.values() if file.kind != "healed" and not file.is_open]
        for run in read_runs(parts, exchange, lambda path: sealed_into(layout, path)):
            held.add_interval(run.first_id, run.last_id)
    # Of healed files that are gone from here the ledger says which ids were sums.
    reader = HoleReader(layout, exchange.name)
    reader.look()
    for want in reader.inexact():
        if want.symbol == symbol:
            gone.remove(want.ids)
    for interval in gone:
        held.add_interval(interval.first, interval.last)
    return held


def around(day: str) -> list[str]:
    """The day and those beside it: a trade may be received a little before midnight and bear a time after it."""
    at = date.fromisoformat(day)
    return [(at + timedelta(days=n)).isoformat() for n in (-1, 0, 1)]


def next_missing(held: IntervalSet, id_: int) -> int:
    """The first id from `id_` on that is not held."""
    for interval in held:
        if interval.first > id_:
            break
        if interval.last >= id_:
            return interval.last + 1
    return id_
