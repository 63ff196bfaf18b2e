"""The two objects of a published day, its bars and their manifest: each is written under the generation of what it replaces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crypto_lake.bars.table import BARS_SCHEMA_VERSION
from crypto_lake.lake import uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.store import Conflict, Declared, PutResult, Store, Stored, measure
from crypto_lake.upkeep.names import BarsObject, Manifest
from crypto_lake.upkeep.publish_look import read_published
from crypto_lake.upkeep.publish_manifest import PublishedManifest, encode, to_metadata
from crypto_lake.upkeep.recording import record_of


class RacedError(Exception):
    """Another publisher changed the object meanwhile."""


@dataclass
class DayObjects:
    """`file`: as it was seen last, None where there is none. `watched`: digest of what was listed of the day's raw.
    `folder`: where a manifest is put together.
    """

    store: Store
    bars: BarsObject
    file: Stored | None
    watched: str
    folder: Path
    _generation: int = 0  # of the manifest, 0 where there is none

    def read_manifest(self) -> PublishedManifest | None:
        """What is written next replaces this one. Raises StoreError, and MsgspecError for one of a later program."""
        found = read_published(self.store, Manifest(self.bars).name)
        if found is None:
            return None
        stored, published = found
        self._generation = stored.generation
        return published

    def put_file(self, path: Path, version: PublishedManifest) -> Stored:
        """Raises RacedError, StoreError."""
        metadata = {"kind": "bars", "schema": str(BARS_SCHEMA_VERSION), "version": str(version.version)}
        declared = Declared(version.bytes, version.crc32c, version.md5, version.sha256)
        replaces = self.file.generation if self.file is not None else None
        self.file = _done(
            self.store.put(path, self.bars.name, declared, replaces=replaces, metadata=metadata)
        )
        return self.file

    def put_manifest(self, manifest: PublishedManifest, watched: str | None = None) -> None:
        """`watched`: None for what was listed. Raises RacedError, StoreError."""
        path = self.folder / "manifest.json"
        path.write_bytes(encode(manifest))
        stored = _done(
            self.store.put(
                path,
                Manifest(self.bars).name,
                measure(path),
                replaces=self._generation or None,
                metadata=to_metadata(manifest, self.watched if watched is None else watched),
            )
        )
        self._generation = stored.generation

    def record(self, layout: Layout, now_ns: int) -> None:
        """Tell whoever cleans up that the day, where it is here too, is in the bucket."""
        stored, at = self.file, self.bars
        if stored is None or not layout.bars(at.exchange, at.symbol, at.day).is_file():
            return
        known = uploads.read(layout, at.exchange, at.symbol, at.day, self.store.url).get(at.name)
        if known is not None and known.generation == stored.generation:
            return
        record = record_of(self.store.url, stored, stored.sha256 or "", at.local, now_ns)
        uploads.append(layout, at.exchange, at.symbol, at.day, [record])


def _done(result: PutResult) -> Stored:
    if isinstance(result, Conflict):
        raise RacedError(
            f"another publisher wrote it meanwhile ({'; '.join(result.differences)}); its version was left, and the "
            "next run looks at it"
        )
    return result.stored
