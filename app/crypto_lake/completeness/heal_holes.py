"""Which holes are open, read from the ledgers as they grow."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from crypto_lake.completeness.entries import Hole, Outcome, decode_line
from crypto_lake.completeness.heal import Wanted
from crypto_lake.lake.layout import Layout
from crypto_lake.model.intervals import Interval, IntervalSet


@dataclass
class _Symbol:
    """How far its ledger was read, which file that was, and what is open by it: each hole with its times."""

    identity: tuple[int, int] = (0, 0)
    read_bytes: int = 0
    holes: list[Wanted] = field(default_factory=list[Wanted])
    open: IntervalSet = field(default_factory=IntervalSet)
    # Of holes that are not open: ids that can't be had, or of which only sums are known.
    inexact: IntervalSet = field(default_factory=IntervalSet)


class HoleReader:
    """Reads what was appended since the last look. The chain is not verified here: whoever writes has done it."""

    def __init__(self, layout: Layout, exchange: str) -> None:
        self._folder = layout.ledger(exchange, "x").parent
        self._symbols: dict[str, _Symbol] = {}

    def look(self) -> list[Wanted]:
        """Open holes of all symbols that have a ledger. Raises OSError where one can't be read."""
        found: list[Wanted] = []
        if not self._folder.is_dir():
            return found
        for path in self._folder.glob("*.jsonl"):
            symbol = self._symbols.setdefault(path.stem, _Symbol())
            _read_on(path, symbol)
            found += _parts(symbol, symbol.open)
        return found

    def inexact(self) -> list[Wanted]:
        """By the last look: ids that can't be had, or are known by sums alone. Whoever brings them is welcome."""
        return [part for symbol in self._symbols.values() for part in _parts(symbol, symbol.inexact)]


def _read_on(path: Path, symbol: _Symbol) -> None:
    seen = path.stat()
    if (seen.st_dev, seen.st_ino, seen.st_size) == (*symbol.identity, symbol.read_bytes):
        return  # as nearly always
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        if identity != symbol.identity or status.st_size < symbol.read_bytes:  # it was made anew
            symbol.identity, symbol.read_bytes = identity, 0
            symbol.holes, symbol.open, symbol.inexact = [], IntervalSet(), IntervalSet()
        if status.st_size == symbol.read_bytes:
            return
        file.seek(symbol.read_bytes)
        whole, newline, _ = file.read().rpartition(b"\n")
    symbol.read_bytes += len(whole) + len(newline)
    for encoded in whole.split(b"\n") if whole else []:
        # Most lines are of what was seen, and say nothing here.
        if b'"kind":"hole"' not in encoded and b'"kind":"outcome"' not in encoded:
            continue
        try:
            line = decode_line(encoded)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue  # `prove` tells it
        match line:
            case Hole():
                ids = Interval(line.first_id, line.last_id)
                symbol.holes.append(Wanted(path.stem, ids, line.after_time_us, line.before_time_us))
                symbol.open.add_interval(ids.first, ids.last)
            case Outcome():
                ids = Interval(line.first_id, line.last_id)
                symbol.open.remove(ids)
                symbol.inexact.remove(ids)
                # Also where sums say that ids never existed: asked for by time, a trade whose time runs against its id
                # may have been left out. The day's archive has the last word, and is had once.
                if line.outcome == "unavailable" or line.action == "aggTrades":
                    symbol.inexact.add_interval(ids.first, ids.last)
            case _:
                pass
    symbol.holes = [
        hole
        for hole in symbol.holes
        if symbol.open.shared_with(hole.ids) or symbol.inexact.shared_with(hole.ids)
    ]


def _parts(symbol: _Symbol, ids: IntervalSet) -> list[Wanted]:
    return [
        Wanted(hole.symbol, part, hole.after_time_us, hole.before_time_us)
        for hole in symbol.holes
        for part in ids.shared_with(hole.ids)
    ]
