"""Records of what was deleted here, why, and on what proof. `state/deletions/`, by symbol and day, append-only.

A record lasts before its file goes. So a file that is not there was deleted by the lake if, and only if, there is a
record; where the file is there although a record says it went, a crash came between, and the file counts.
They are appended under the lock `cleanup`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from crypto_lake.lake.layout import Layout
from crypto_lake.lake.records import append_lines, read_lines


class DeletionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """`why`: the reason's code (see docs/retention.md). `proof`: what was looked at right before, by name.

    `deleted_ns`: by the lake's clock.
    """

    path: str  # relative to the data directory
    bytes: int
    sha256: str
    why: str
    deleted_ns: int
    proof: Mapping[str, str | int] = {}


_decode = msgspec.json.Decoder(DeletionRecord).decode


def path_of(layout: Layout, exchange: str, symbol: str, day: str) -> Path:
    return layout.state / "deletions" / exchange / symbol / f"{day}.jsonl"


def append(layout: Layout, exchange: str, symbol: str, day: str, records: Iterable[DeletionRecord]) -> None:
    """Add records; they last when this returns."""
    append_lines(layout, path_of(layout, exchange, symbol, day), records)


def read(layout: Layout, exchange: str, symbol: str, day: str) -> dict[str, DeletionRecord]:
    """The last record of each path. Its file may be there all the same: see above."""
    records = read_lines(path_of(layout, exchange, symbol, day), _decode)
    return {record.path: record for record in records}


def deleted_paths(
    layout: Layout, symbols: Collection[str] | None = None, days: Collection[str] | None = None
) -> frozenset[str]:
    """Every path of the data directory that has a record and no file: what was deleted on purpose. Of these symbols and
    days; None: of all.
    """
    found: set[str] = set()
    for path in (layout.state / "deletions").glob("*/*/*.jsonl"):
        if (symbols is not None and path.parent.name not in symbols) or (
            days is not None and path.stem not in days
        ):
            continue
        for record in read_lines(path, _decode):
            if not (layout.root / record.path).exists():
                found.add(record.path)
    return frozenset(found)


def is_deleted(layout: Layout, exchange: str, symbol: str, day: str, path: Path) -> bool:
    """Whether this file was here, and was deleted on purpose."""
    return not path.exists() and str(path.relative_to(layout.root)) in read(layout, exchange, symbol, day)
