"""One object of a bucket as a source for `check` of verify_files."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crypto_lake.store import Corrupted, NoSuchObject, Store
from crypto_lake.upkeep.verify_report import Item
from crypto_lake.upkeep.verify_source import Listing


@dataclass(frozen=True)
class Fetched:
    """Fetched, and gone again when it was read."""

    store: Store
    folder: Path
    of_manifest: bytes

    @contextmanager
    def fetch(self, name: str) -> Generator[Path]:
        target = self.folder / "object"
        try:
            self.store.fetch(name, target)
        except NoSuchObject as error:
            raise FileNotFoundError(str(error)) from None
        except Corrupted as error:
            raise OSError(str(error)) from None
        try:
            yield target
        finally:
            target.unlink(missing_ok=True)

    def manifest(self, name: str) -> bytes:
        return self.of_manifest

    def listing(self, symbols: Sequence[str] | None, days: Sequence[str] | None) -> Listing:
        return Listing()

    def has_moved(self, item: Item) -> bool:
        return False
