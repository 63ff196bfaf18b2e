"""What a transformation did: returned, printed, and left in `state/transform.json` for the status."""

from __future__ import annotations

import msgspec

from crypto_lake.lake.manifests import BarsManifest


class DayReport(msgspec.Struct, frozen=True):
    """One day of one symbol that was made. Counts are of the whole day as it now stands, not of the run alone."""

    symbol: str
    day: str
    rows: int
    trades: int
    quotes: int
    hours_made: int
    hours_kept_without_raw: int  # raw knows less than the rows do, which were kept
    duplicates: int
    conflicts: int  # trade ids of which two copies differ
    holes: int
    missing_ids: int
    incomplete_seconds: int
    final: bool


def report_of(
    manifest: BarsManifest, hours_made: int, hours_kept_without_raw: int, incomplete_seconds: int
) -> DayReport:
    """Of a day as its manifest tells of it."""
    records = manifest.hours.values()
    return DayReport(
        symbol=manifest.symbol,
        day=manifest.day,
        rows=manifest.rows,
        trades=sum(r.trades for r in records),
        quotes=sum(r.quotes for r in records),
        hours_made=hours_made,
        hours_kept_without_raw=hours_kept_without_raw,
        duplicates=sum(r.duplicates for r in records),
        conflicts=sum(r.conflicts for r in records),
        holes=sum(r.holes for r in records),
        missing_ids=sum(r.missing_ids for r in records),
        incomplete_seconds=incomplete_seconds,
        final=manifest.final,
    )


class TransformReport(msgspec.Struct, frozen=True):
    """A run. `lag_seconds`: the clock minus the newest bar's end, of the symbol that is furthest behind."""

    exchange: str
    started_ns: int
    seconds: float
    symbols: int
    rows: int
    trades: int
    hours_made: int
    duplicates: int
    conflicts: int
    unreadable: int  # lines and stretches put into quarantine in this run
    holes: int
    missing_ids: int
    files_read: int
    bytes_read: int
    salvaged_parts: int
    lag_seconds: float | None
    failed: dict[str, str]  # symbols that could not be made, with the error; the others were
    days: list[DayReport]


class Setup(msgspec.Struct, frozen=True):
    """What is the same for all symbols of a run. `now_ns`: the lake's time at its start."""

    root: str
    exchange: str
    days: tuple[str, ...] | None
    rebuild: bool
    now_ns: int


class SymbolResult(msgspec.Struct, frozen=True, tag="result"):
    """What came of one symbol. `failed`: why its bars could not be made."""

    symbol: str
    days: list[DayReport] = []
    unreadable: int = 0
    files_read: int = 0
    bytes_read: int = 0
    last_second: int | None = None
    failed: str | None = None
