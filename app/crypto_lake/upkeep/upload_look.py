"""What an upload looks at: the facts of each day, and a manifest that is in the bucket already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from crypto_lake.lake import uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.raw_manifests import decode_raw_manifest
from crypto_lake.store import Store, Stored, StoreError
from crypto_lake.upkeep import scan
from crypto_lake.upkeep.upload_plan import DayFacts, Upload


def look(layout: Layout, url: str, doubted: frozenset[str]) -> Iterator[DayFacts]:
    """Every symbol's day, the oldest first."""
    for at in scan.symbol_days(layout):
        yield day_facts(layout, at, url, doubted)


def day_facts(layout: Layout, at: scan.SymbolDay, url: str, doubted: frozenset[str]) -> DayFacts:
    raw = scan.raw_facts(layout, at)
    records = uploads.read(layout, at.exchange, at.symbol, at.day, url)
    sealed = [fact.path for fact in raw if fact.seal is not None]
    sizes = {path: _size(layout.manifest(layout.root / path)) for path in sealed}
    return DayFacts(raw, records, sizes, doubted)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def same_raw(layout: Layout, store: Store, one: Upload, stored: Stored) -> str | None:
    """The sha256 of a manifest in the bucket that promises the raw that ours does; None where it does not.

    So it is where a manifest was lost here and made anew: it tells of another time of sealing.
    """
    if one.kind != "manifest":
        return None
    try:
        ours = decode_raw_manifest((layout.root / one.path).read_bytes())
        theirs_stored, data = store.read(one.name)
        theirs = decode_raw_manifest(data)
    except (StoreError, OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    same = (ours.bytes, ours.sha256) == (theirs.bytes, theirs.sha256)
    return theirs_stored.sha256 if same and theirs_stored.generation == stored.generation else None
