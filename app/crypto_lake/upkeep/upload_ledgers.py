"""Pieces of ledgers into the bucket. What a piece is stands in `upload_ledger`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from crypto_lake.lake import durable, uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.model.checksums import measure_bytes
from crypto_lake.store import AlreadyThere, Conflict, Created, Declared, Store, Stored, StoreError
from crypto_lake.upkeep import upload_ledger
from crypto_lake.upkeep.names import LedgerSegment
from crypto_lake.upkeep.recording import record_of
from crypto_lake.upkeep.scan import symbols_with_ledger
from crypto_lake.upkeep.scan_ledger import LedgerScan, piece_day, scan_ledger
from crypto_lake.upkeep.upload_ledger import Piece
from crypto_lake.upkeep.upload_report import Refused
from crypto_lake.upkeep.upload_tally import Puts


def segment(scan: LedgerScan, piece: Piece, collector: str) -> LedgerSegment:
    return LedgerSegment(scan.exchange, scan.symbol, piece.day, collector, scan.edition, piece.number)


def _forgotten(scan: LedgerScan, piece: Piece, collector: str, store: Store) -> Piece:
    """The numbered piece that was put before this day's closing, and whose record was lost; else the piece itself."""
    if piece.number:
        return piece
    number = upload_ledger.next_number(piece.day, scan.last_day, scan.last_number)
    earlier = replace(piece, number=number)
    stored = store.stat(segment(scan, earlier, collector).name)
    return earlier if stored is not None and _begins_so(scan, piece, stored) else piece


def upload_ledger_of(
    layout: Layout,
    exchange: str,
    symbol: str,
    store: Store,
    *,
    collector: str,
    now_ns: int,
    doubted: frozenset[str],
    stopped: Callable[[], bool],
) -> Puts:
    """Put a symbol's closed pieces, one after the other, each recorded before the next."""
    result = Puts(error_of=f"ledger/{exchange}/{symbol}.jsonl")
    try:
        scan = scan_ledger(layout, exchange, symbol, store.url)
        if scan.problem:
            result.changed.append(Refused(result.error_of, "", scan.problem))
            return result
        for record in scan.pieces:  # that are recorded, but were not found so
            if record.name in doubted and not stopped():
                again = Piece(piece_day(record), record.offset, record.offset + record.bytes)
                _put(layout, scan, again, record.name, collector, store, now_ns, result)
        while not stopped():
            todo = scan.next_pieces(now_ns)
            result.pending = [segment(scan, piece, collector).name for piece in todo]
            if not todo:
                break
            piece = _forgotten(scan, todo[0], collector, store)
            name = segment(scan, piece, collector).name
            if not _put(layout, scan, piece, name, collector, store, now_ns, result):
                break
            scan = scan_ledger(layout, exchange, symbol, store.url)
    except (StoreError, OSError) as error:
        result.error = error
    return result


def _put(
    layout: Layout,
    scan: LedgerScan,
    piece: Piece,
    name: str,
    collector: str,
    store: Store,
    now_ns: int,
    result: Puts,
) -> bool:
    """Whether the piece is there now, and recorded."""
    body = scan.data[piece.offset : piece.end]
    sums = measure_bytes(body)
    declared = Declared(sums.bytes, sums.crc32c, sums.md5, sums.sha256)
    temporary = layout.state / "uploading" / f".{scan.exchange}-{scan.symbol}{durable.TEMPORARY_SUFFIX}"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(body)
        outcome = store.put(
            temporary, name, declared, metadata={"kind": "ledger", "collector": collector, "schema": "1"}
        )
    finally:
        temporary.unlink(missing_ok=True)
    match outcome:
        case Created(stored):
            result.created += 1
            result.created_bytes += stored.bytes
        case AlreadyThere(stored):
            result.found += 1
        case Conflict(stored, differences):
            if stored is None or not _begins_so(scan, piece, stored):
                problem = f"another object is under its name ({'; '.join(differences)})"
                result.conflicts.append(Refused(f"ledger/{scan.exchange}/{scan.symbol}.jsonl", name, problem))
                return False
            # Put when the ledger was shorter, and its record was lost: what is there is its day's piece.
            result.found += 1
    body = scan.data[piece.offset : piece.offset + stored.bytes]
    sha256, path = hashlib.sha256(body).hexdigest(), f"ledger/{scan.exchange}/{scan.symbol}.jsonl"
    record = record_of(store.url, stored, sha256, path, now_ns, offset=piece.offset)
    uploads.append(layout, scan.exchange, scan.symbol, uploads.LEDGER, [record])
    return True


def _begins_so(scan: LedgerScan, piece: Piece, stored: Stored) -> bool:
    """Whether the object holds whole lines of this ledger from the piece's beginning on, by size and checksums."""
    end = piece.offset + stored.bytes
    if stored.bytes == 0 or all(line.end != end for line in scan.lines):
        return False
    sums = measure_bytes(scan.data[piece.offset : end])
    return sums.crc32c == stored.crc32c and stored.sha256 in (None, sums.sha256)


def planned(layout: Layout, url: str, collector: str, now_ns: int, _doubted: frozenset[str]) -> list[str]:
    """Names of the pieces that the next upload puts first. (Of one that is doubted it would find out.)"""
    found: list[str] = []
    for exchange, symbol in symbols_with_ledger(layout):
        of = scan_ledger(layout, exchange, symbol, url)
        found += [segment(of, piece, collector).name for piece in of.next_pieces(now_ns)]
    return found


def uploading_folder(layout: Layout) -> Path:
    return layout.state / "uploading"
