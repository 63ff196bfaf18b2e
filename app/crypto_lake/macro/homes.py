"""Where the files of series are kept: the data directory, a bucket, or both. Nothing is overwritten unseen.

A file is read with a token and written with it: where another writer came between, nothing is written, and whoever
wanted to reads again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Protocol

from crypto_lake import __version__
from crypto_lake.lake.checksums import measure as sums_of
from crypto_lake.lake.macro_files import ROOT, folder_of, name_of, parse, years_of
from crypto_lake.lake.macro_schema import MACRO_SCHEMA_VERSION
from crypto_lake.macro import table
from crypto_lake.macro.days import Days, Seen
from crypto_lake.macro.table import NotOursError
from crypto_lake.store import Conflict, NoSuchObject, Store, measure

_LOOKS: Final = 8


class RacedError(Exception):
    """Other writers were faster each time."""


@dataclass(frozen=True, slots=True)
class Read:
    """A year as it was read. `token`: what is replaced by a write; 0 where there was no file."""

    days: Mapping[date, tuple[Seen, ...]]
    token: int


class Home(Protocol):
    def years(self, series: str) -> Mapping[int, str]:
        """Years of which there is a file, with its SHA-256 ("" where that is not known)."""
        ...

    def read(self, series: str, year: int) -> Read:
        """Raises NotOursError."""
        ...

    def write(self, series: str, year: int, days: Days, token: int) -> bool:
        """Put the year there, read back; False where another writer came between."""
        ...

    def where(self, series: str, year: int) -> str: ...


@dataclass(frozen=True, slots=True)
class LocalHome:
    """A data directory. Whoever writes holds the lock `macro`."""

    root: Path

    def years(self, series: str) -> dict[int, str]:
        return {year: sums_of(self._path(series, year)).sha256 for year in years_of(self.root, series)}

    def read(self, series: str, year: int) -> Read:
        try:
            return Read(table.read(self._path(series, year), series), 1)
        except FileNotFoundError:
            return Read({}, 0)

    def write(self, series: str, year: int, days: Days, token: int) -> bool:
        table.write(self._path(series, year), series, days)
        return True

    def where(self, series: str, year: int) -> str:
        return str(self._path(series, year))

    def _path(self, series: str, year: int) -> Path:
        return self.root / name_of(series, year)


@dataclass(frozen=True, slots=True)
class BucketHome:
    """A bucket. `scratch`: a folder for one file at a time."""

    store: Store
    scratch: Path

    def years(self, series: str) -> dict[int, str]:
        found: dict[int, str] = {}
        for stored in self.store.list(f"{ROOT}/{folder_of(series)}/"):
            named = parse(stored.name)
            if named is not None and named[0] == series:
                found[named[1]] = stored.sha256 or ""
        return found

    def read(self, series: str, year: int) -> Read:
        path = self.scratch / "read.parquet"
        generation = self._fetch(name_of(series, year), path)
        if generation == 0:
            return Read({}, 0)
        try:
            return Read(table.read(path, series), generation)
        except NotOursError as error:
            raise NotOursError(str(error).replace(str(path), self.where(series, year))) from error
        finally:
            path.unlink(missing_ok=True)

    def _fetch(self, name: str, path: Path) -> int:
        """The generation that was fetched; 0 where there is none. One that is replaced before it came is let go."""
        for _ in range(_LOOKS):
            stored = self.store.stat(name)
            if stored is None:
                return 0
            try:
                return self.store.fetch(name, path, generation=stored.generation).generation
            except NoSuchObject:
                continue
        raise RacedError(f"{self.store.url}/{name}: it was replaced {_LOOKS} times while it was read")

    def write(self, series: str, year: int, days: Days, token: int) -> bool:
        path = self.scratch / "write.parquet"
        table.write(path, series, days)
        try:
            result = self.store.put(
                path,
                name_of(series, year),
                measure(path),
                replaces=token or None,
                metadata={"kind": "macro", "schema": str(MACRO_SCHEMA_VERSION), "program": __version__},
            )
        finally:
            path.unlink(missing_ok=True)
        return not isinstance(result, Conflict)

    def where(self, series: str, year: int) -> str:
        return f"{self.store.url}/{name_of(series, year)}"
