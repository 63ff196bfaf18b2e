"""Where `verify` reads from: the disk here; an object store can take its place."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from crypto_lake.lake import durable
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.layout import Layout, RawFile, parse_raw_name
from crypto_lake.lake.raw_manifests import raw_manifest_paths, read_raw_manifest, sealed_into
from crypto_lake.upkeep.verify_report import Item, Kind


@dataclass
class Listing:
    """What is to be looked at. `missing`: names that have a manifest and no file, although they should have."""

    items: list[Item] = field(default_factory=list[Item])
    missing: list[str] = field(default_factory=list[str])
    unknown: list[str] = field(default_factory=list[str])
    open_parts: int = 0
    absent: int = 0
    unfinished: int = 0


class Source(Protocol):
    """Files of a lake by their names in it (`raw/binance/…`)."""

    def listing(self, symbols: Sequence[str] | None, days: Sequence[str] | None) -> Listing: ...

    def fetch(self, name: str) -> AbstractContextManager[Path]:
        """The file, on this machine for as long as the block lasts. Raises FileNotFoundError where it is gone."""
        ...

    def manifest(self, name: str) -> bytes | None:
        """The bytes of the file's manifest, None where it has none."""
        ...

    def has_moved(self, item: Item) -> bool:
        """Whether the file is rightly no longer there since it was listed: a part that was sealed meanwhile."""
        ...


@dataclass(frozen=True)
class DiskSource:
    """A data directory. `elsewhere`: names of files that are known to be in the bucket and were deleted here."""

    root: Path
    elsewhere: frozenset[str] = frozenset()

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    @contextmanager
    def fetch(self, name: str) -> Generator[Path]:
        yield self.root / name

    def manifest(self, name: str) -> bytes | None:
        try:
            return self.layout.manifest(self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def has_moved(self, item: Item) -> bool:
        path = self.root / item.name
        return item.kind == "part" and not path.exists() and sealed_into(self.layout, path) is not None

    def listing(self, symbols: Sequence[str] | None, days: Sequence[str] | None) -> Listing:
        """Everything that has a manifest or should have one. Ledgers are of no day: with `days` they are left out."""
        found, layout = Listing(), self.layout
        for exchange in layout.exchanges():
            for symbol in [*layout.symbols(exchange), CONTROL]:
                if symbols is None or symbol in symbols:
                    self._list_raw(found, exchange, symbol, days)
        bars = layout.root / "parquet", layout.root / "manifests" / "parquet"
        for exchange in sorted({path.name for folder in bars for path in folder.glob("*") if path.is_dir()}):
            names = {path.name for folder in bars for path in (folder / exchange).glob("*") if path.is_dir()}
            for symbol in sorted(names):
                if symbols is None or symbol in symbols:
                    self._list_bars(found, exchange, symbol, days)
        for path in sorted((layout.root / "ledger").glob("*/*.jsonl")) if days is None else ():
            if symbols is None or path.stem in symbols:
                self._add(found, path, "ledger", path.parent.name, path.stem, "", -1)
        return found

    def _list_raw(self, found: Listing, exchange: str, symbol: str, days: Sequence[str] | None) -> None:
        layout = self.layout
        # Days of which only manifests are left are days too.
        left = layout.root / "manifests" / "raw" / exchange / symbol
        names = {*layout.raw_days(exchange, symbol), *(p.name for p in left.glob("*") if p.is_dir())}
        for day in sorted(names):
            if days is not None and day not in days:
                continue
            folder = layout.raw_day(exchange, symbol, day)
            there = sorted(folder.iterdir()) if folder.is_dir() else []
            for path in there:
                parsed = parse_raw_name(day, path)
                if parsed is None:
                    if not path.name.endswith(durable.TEMPORARY_SUFFIX):
                        found.unknown.append(self._name(path))
                elif parsed.is_open:
                    found.open_parts += 1
                else:
                    self._add(found, path, _kind(parsed), exchange, symbol, day, parsed.hour.hour)
            for path in raw_manifest_paths(layout, exchange, symbol, day):
                if path not in there and not path.exists():
                    self._note_missing(found, path)

    def _note_missing(self, found: Listing, path: Path) -> None:
        manifest = read_raw_manifest(self.layout, path)
        if self._name(path) in self.elsewhere:
            found.absent += 1
        elif (
            manifest and manifest.inputs and all((self.root / part.path).exists() for part in manifest.inputs)
        ):
            found.unfinished += 1
        else:
            found.missing.append(self._name(path))

    def _list_bars(self, found: Listing, exchange: str, symbol: str, days: Sequence[str] | None) -> None:
        for day in self.layout.bar_days(exchange, symbol):
            if days is None or day in days:
                path = self.layout.bars(exchange, symbol, day)
                if not path.exists() and self._name(path) in self.elsewhere:
                    found.absent += 1
                else:
                    self._add(found, path, "bars", exchange, symbol, day, -1)

    def _add(
        self, found: Listing, path: Path, kind: Kind, exchange: str, symbol: str, day: str, hour: int
    ) -> None:
        size = 0
        with suppress(FileNotFoundError):  # a day without a row has a manifest alone; who checks it will see
            size = path.stat().st_size
        found.items.append(Item(self._name(path), kind, size, exchange, symbol, day, hour))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _kind(file: RawFile) -> Kind:
    match file.kind:
        case "hour":
            return "hour"
        case "healed":
            return "healed"
        case _:
            return "part"
