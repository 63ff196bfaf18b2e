"""A collector's ledger of a symbol, as its pieces in the bucket: one after the other they are one chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crypto_lake.completeness import ledger
from crypto_lake.completeness.ledger import BrokenLedgerError
from crypto_lake.store import Corrupted, NoSuchObject, Store
from crypto_lake.upkeep.names import LedgerSegment
from crypto_lake.upkeep.verify_report import Difference


@dataclass(frozen=True, slots=True)
class ChainFound:
    """`problem`: the first, `path` being its piece's name."""

    lines: int
    problem: Difference | None = None


def check_chain(
    store: Store, pieces: Sequence[LedgerSegment], folder: Path, on_read: Callable[[LedgerSegment, int], None]
) -> ChainFound:
    """`pieces`: in their order. `folder`: where they are put together. `on_read`: is told each that was read, with its size.

    Raises StoreError.
    """
    path = folder / "ledger"
    ends: list[tuple[int, LedgerSegment]] = []
    with path.open("wb") as out:
        for piece in pieces:
            try:
                _, data = store.read(piece.name)
            except (Corrupted, NoSuchObject) as error:
                return ChainFound(0, Difference(piece.name, f"can't be read: {error}"))
            out.write(data)
            on_read(piece, len(data))
            ends.append((out.tell(), piece))
    try:
        contents = ledger.read(path)
    except BrokenLedgerError as error:
        at, line = _piece_of_line(path, ends, error.line)
        problem = str(error).replace(str(path), at.local)
        return ChainFound(0, Difference(at.name, problem, line=line))
    torn = Difference(pieces[-1].name, "ends within a line") if contents.torn else None
    return ChainFound(len(contents.lines), torn)


def _piece_of_line(
    path: Path, ends: Sequence[tuple[int, LedgerSegment]], number: int
) -> tuple[LedgerSegment, int]:
    """The piece that a line (from 1) of all of them is in, and its number there."""
    data = path.read_bytes()
    before = 0
    for end, piece in ends:
        lines = data.count(b"\n", 0, end)
        if number <= lines:
            return piece, number - before
        before = lines
    return ends[-1][1], number - before
