"""Whether bars were made of a raw file, by what the transformation left: its index of raw and the days' manifests."""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import (
    BarsManifest,
    RawIndexEntry,
    read_bars_manifest,
    read_raw_index,
)
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.scan import RawFact

_HOUR_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class BarsMade:
    """`days`: the days of bars that hold something of the file. `missing`: why bars were not made of it, or nothing.

    `unused`: lines of it that no bar can be made of (yet): trades of a kind that bars don't use, what can't be read.
    """

    days: tuple[str, ...] = ()
    missing: str = ""
    unused: int = 0


@dataclass
class SymbolBarsScan:
    """One symbol's manifests and index, read when they are asked for."""

    layout: Layout
    exchange: str
    symbol: str
    _manifests: dict[str, BarsManifest | None] = field(default_factory=dict[str, BarsManifest | None])
    _index: dict[str, dict[str, RawIndexEntry]] = field(default_factory=dict[str, dict[str, RawIndexEntry]])

    def manifest(self, day: str) -> BarsManifest | None:
        if day not in self._manifests:
            path = self.layout.bars(self.exchange, self.symbol, day)
            self._manifests[day] = read_bars_manifest(self.layout, path)
        return self._manifests[day]

    def made_of(self, fact: RawFact) -> BarsMade:
        """Whether every hour of bars with something of this file names it, or its parts, among what it was made of."""
        day = fact.of.day
        if day not in self._index:
            self._index[day] = read_raw_index(self.layout, self.exchange, self.symbol, day)
        read_from = _read_as(fact, self._index[day])
        if read_from is None:
            return BarsMade(missing="the transformation has not read it: `crypto-lake transform`")
        days: set[str] = set()
        for name, entry in read_from.items():
            for hour in {*entry.trade_hours, *entry.quote_hours}:
                of_hour = Hour.of_ns(hour * _HOUR_NS)
                manifest = self.manifest(of_hour.day)
                record = manifest.hours.get(hour) if manifest is not None else None
                if record is None or not record.key or f"{day}/{name}" not in record.inputs:
                    if record is not None and record.refused:
                        return BarsMade(
                            missing=f"bars of {of_hour} were not made of it: other raw of that hour is gone from "
                            "here, so they stand as they are"
                        )
                    return BarsMade(missing=f"bars of {of_hour} were not made of it: `crypto-lake transform`")
                days.add(of_hour.day)
        unused = sum(entry.unreadable + entry.skipped for entry in read_from.values())
        return BarsMade(tuple(sorted(days)), unused=unused)


def _read_as(fact: RawFact, index: dict[str, RawIndexEntry]) -> dict[str, RawIndexEntry] | None:
    """Under which names the transformation read the file: its own, or those of its parts before they were sealed."""
    seal = fact.seal
    if seal is None:
        return None
    entry = index.get(fact.name)
    if entry is not None and (entry.bytes, entry.sha256) == (seal.bytes, seal.sha256):
        return {fact.name: entry}
    if seal.inputs and all(name in index and index[name].sha256 == sha for name, sha in seal.inputs):
        return {name: index[name] for name, _ in seal.inputs}
    return None
