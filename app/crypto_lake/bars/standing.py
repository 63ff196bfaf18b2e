"""The rows of a day as they stand on the disk: whether they are what was written, and what they know that raw does not.

Raw goes once it is uploaded, or of age. An hour of which some has gone is not made anew of what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from crypto_lake.bars import table
from crypto_lake.bars.raw import Core
from crypto_lake.bars.rows import BAR_SCHEMA
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import BarsHour, BarsManifest, sha256_of
from crypto_lake.lake.quarantine import Quarantine


@dataclass(frozen=True, slots=True)
class Standing:
    """rows: by Unix hour, of the hours whose rows are what was recorded. changed: the recorded hours whose rows are not.
    whole: the file is, to the byte, what its manifest says.
    """

    rows: dict[int, pl.DataFrame]
    changed: list[int]
    whole: bool


def is_there(layout: Layout, manifest: BarsManifest) -> bool:
    """Whether the file is here, by its size."""
    try:
        return (layout.root / manifest.path).stat().st_size == manifest.bytes
    except FileNotFoundError:
        return False


def is_whole(layout: Layout, manifest: BarsManifest) -> bool:
    return is_there(layout, manifest) and sha256_of(layout.root / manifest.path) == manifest.sha256


def rows_of(
    layout: Layout,
    path: Path,
    manifest: BarsManifest | None,
    records: Mapping[int, BarsHour],
    quarantine: Quarantine,
) -> Standing:
    """What stands of the hours in `records`. A file that can't be read as bars goes to quarantine."""
    whole = manifest is not None and is_whole(layout, manifest)
    found = table.read(path, trusted=whole)
    if found is None and path.exists():
        data, origin = path.read_bytes(), str(path.relative_to(layout.root))
        quarantine.add(origin.replace("/", "-"), data, "a file of bars that can't be read", origin)
    kept: dict[int, pl.DataFrame] = {}
    changed: list[int] = []
    for hour, record in records.items():
        rows = table.hour_of(found[0], hour) if found else pl.DataFrame(schema=BAR_SCHEMA)
        if rows.height == record.rows and (not record.rows or table.digest(rows) == record.digest):
            kept[hour] = rows
        else:
            changed.append(hour)
    return Standing(kept, changed, whole)


def know_more(record: BarsHour, core: Core) -> bool:
    """Whether the rows that stand know more than raw does now, because some of it has gone. Pure."""
    if core.trades.trades < record.trades:
        return True  # ids that were there: a file has gone, or was damaged where it lies
    if core.quotes.updates >= record.quotes:
        return False
    # Fewer quotes of all the same files may be right: an earlier hour's turned out to be later ones.
    names = {name for name, _ in core.files}
    return not record.inputs or any(name not in names for name in record.inputs)


def last_second(layout: Layout, manifests: Mapping[str, BarsManifest]) -> int | None:
    """The newest second that has a row, of the days, by their name, whose file is here and whole."""
    for day in sorted(manifests, reverse=True):
        manifest = manifests[day]
        if not manifest.rows or not is_whole(layout, manifest):
            continue
        found = table.read(layout.root / manifest.path, trusted=True)
        if found is not None and found[0].height:
            return int(found[0]["window_start"].cast(pl.Int64)[-1]) // 10**6
    return None
