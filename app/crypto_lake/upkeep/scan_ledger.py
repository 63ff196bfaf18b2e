"""A symbol's ledger on the disk, and how much of it a bucket has by the records."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from crypto_lake.completeness import ledger
from crypto_lake.completeness.ledger import BrokenLedgerError
from crypto_lake.lake import uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.uploads import UploadRecord
from crypto_lake.upkeep import upload_ledger
from crypto_lake.upkeep.names import LedgerSegment, parse
from crypto_lake.upkeep.upload_ledger import LedgerLine, Piece, day_of


@dataclass(frozen=True, slots=True)
class LedgerScan:
    """A ledger as it lies there. `data`: its whole lines, durable. `problem`: why it can't be used, or nothing.

    pieces: records of what is in the bucket, in order, without a gap from the first byte on.
    edition: of the pieces, and of those to come; one more than was ever recorded where what is here does not begin
    with what was uploaded, because the ledger was begun anew.
    """

    exchange: str
    symbol: str
    data: bytes = b""
    lines: list[LedgerLine] = field(default_factory=list[LedgerLine])
    pieces: list[UploadRecord] = field(default_factory=list[UploadRecord])
    edition: int = 1
    problem: str = ""

    @property
    def uploaded_bytes(self) -> int:
        return self.pieces[-1].offset + self.pieces[-1].bytes if self.pieces else 0

    @property
    def last_day(self) -> str:
        return piece_day(self.pieces[-1]) if self.pieces else ""

    @property
    def last_number(self) -> int:
        named = parse(self.pieces[-1].name) if self.pieces else None
        return named.number if isinstance(named, LedgerSegment) else 0

    def next_pieces(self, now_ns: int) -> list[Piece]:
        return upload_ledger.pieces(self.lines, self.uploaded_bytes, self.last_day, now_ns, self.last_number)


def piece_day(record: UploadRecord) -> str:
    """The day of a recorded piece of a ledger, "" where the record is of something else."""
    named = parse(record.name)
    return named.day if isinstance(named, LedgerSegment) else ""


def scan_ledger(layout: Layout, exchange: str, symbol: str, url: str) -> LedgerScan:
    """Read and verify a ledger; none is an empty one. `url`: the bucket whose records count, "" for none."""
    path = layout.ledger(exchange, symbol)
    try:
        data, lines = _read(path)
    except BrokenLedgerError as error:
        return LedgerScan(exchange, symbol, problem=f"{error}. The collector derives it anew when it starts")
    records = uploads.read(layout, exchange, symbol, uploads.LEDGER, url).values() if url else ()
    pieces, edition = continued(data, records)
    return LedgerScan(exchange, symbol, data, lines, pieces, edition)


def _read(path: Path) -> tuple[bytes, list[LedgerLine]]:
    try:
        # What is uploaded must not be more than a power loss would leave.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", []
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    contents = ledger.read(path)
    with path.open("rb") as file:  # only ever appended to: these lines are still the first
        data = file.read(contents.whole_bytes)
    found: list[LedgerLine] = []
    end = 0
    for encoded, line in zip(data.split(b"\n"), contents.lines, strict=False):
        end += len(encoded) + 1
        found.append(LedgerLine(line, end, day_of(line)))
    return data, found


def continued(data: bytes, records: Iterable[UploadRecord]) -> tuple[list[UploadRecord], int]:
    """The recorded pieces that `data` begins with, and the edition that goes on. Pure."""
    by_edition: dict[int, list[UploadRecord]] = {}
    for record in records:
        named = parse(record.name)
        if isinstance(named, LedgerSegment):
            by_edition.setdefault(named.edition, []).append(record)
    if not by_edition:
        return [], 1
    latest = max(by_edition)
    pieces = sorted(by_edition[latest], key=lambda record: record.offset)
    at = 0
    for piece in pieces:
        body = data[piece.offset : piece.offset + piece.bytes]
        if piece.offset != at or hashlib.sha256(body).hexdigest() != piece.sha256:
            return [], latest + 1
        at += piece.bytes
    return pieces, latest
