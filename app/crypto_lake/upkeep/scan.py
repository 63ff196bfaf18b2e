"""What lies in a data directory, as upload and cleanup need to know it: plain facts, no decisions.

Facts are of one symbol and day at a time, so that memory does not grow with the lake.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crypto_lake.lake import deletions
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.lake.raw_manifests import RawManifest, read_raw_manifest


@dataclass(frozen=True, slots=True)
class SymbolDay:
    exchange: str
    symbol: str
    day: str


@dataclass(frozen=True, slots=True)
class Seal:
    """What a raw file's manifest says it is. `inputs`: names and sha256 of the parts that it was made of."""

    bytes: int
    sha256: str
    crc32c: str
    md5: str
    id_runs: tuple[tuple[int, int], ...]
    inputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RawFact:
    """A raw file. `path`: relative to the data directory. `seal` None: it has no manifest that can be read."""

    of: SymbolDay
    path: str
    kind: str  # "part", "hour" or "healed"
    is_open: bool
    end_ns: int  # of its hour
    bytes: int
    seal: Seal | None

    @property
    def is_control(self) -> bool:
        return self.of.symbol == CONTROL

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def symbol_days(layout: Layout) -> list[SymbolDay]:
    """Every symbol and day with a folder of raw, control records among them; the oldest day first."""
    found = [
        SymbolDay(exchange, symbol, day)
        for exchange in layout.exchanges()
        for symbol in [*layout.symbols(exchange), CONTROL]
        for day in layout.raw_days(exchange, symbol)
    ]
    return sorted(found, key=lambda at: (at.day, at.exchange, at.symbol))


def raw_facts(layout: Layout, at: SymbolDay) -> list[RawFact]:
    """The day's raw files in the order of their hours; one that goes while it is looked at is left out."""
    found = [_fact(layout, at, file) for file in layout.raw_files(at.exchange, at.symbol, at.day)]
    return [fact for fact in found if fact is not None]


def _fact(layout: Layout, at: SymbolDay, file: RawFile) -> RawFact | None:
    try:
        size = file.path.stat().st_size
    except FileNotFoundError:
        return None
    manifest = read_raw_manifest(layout, file.path) if file.kind != "part" else None
    path = str(file.path.relative_to(layout.root))
    return RawFact(at, path, file.kind, file.is_open, file.hour.end_ns, size, _seal(manifest))


def _seal(manifest: RawManifest | None) -> Seal | None:
    if manifest is None:
        return None
    return Seal(
        manifest.bytes,
        manifest.sha256,
        manifest.crc32c,
        manifest.md5,
        manifest.id_runs,
        tuple((part.path.rpartition("/")[2], part.sha256) for part in manifest.inputs),
    )


def symbols_with_ledger(layout: Layout) -> list[tuple[str, str]]:
    """(exchange, symbol), sorted."""
    return sorted((path.parent.name, path.stem) for path in (layout.root / "ledger").glob("*/*.jsonl"))


def bar_days(layout: Layout) -> Iterator[SymbolDay]:
    """Every symbol and day whose bars are here as a file."""
    root = layout.root / "parquet"
    for folder in sorted(root.glob("*/*")):
        exchange, symbol = folder.parts[-2:]
        for day in layout.days_with_bars(exchange, symbol):
            yield SymbolDay(exchange, symbol, day)


def deleted(layout: Layout, at: SymbolDay) -> Sequence[deletions.DeletionRecord]:
    """What of the day was deleted here on purpose and is not there now."""
    records = deletions.read(layout, at.exchange, at.symbol, at.day)
    return [record for path, record in records.items() if not (layout.root / path).exists()]
