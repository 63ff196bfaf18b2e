"""Taking up a symbol's ledger: after a clean stop, after a crash, or from raw alone.

A checkpoint of the fold is kept beside the ledger each time a part is closed (`state/ledger/…`), without fsync. It
only saves time: without it the raw of the last hours is read again, and the ledger comes out the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from crypto_lake.completeness.entries import AnyLine, Hole, Seen
from crypto_lake.completeness.fold import FoldState, SymbolFold
from crypto_lake.completeness.ledger import BrokenLedgerError, LedgerFile
from crypto_lake.completeness.runs import read_runs
from crypto_lake.exchanges import Exchange
from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.clock import Hour

log = logging.getLogger(__name__)


class Checkpoint(msgspec.Struct, frozen=True):
    """The fold after all raw up to and including this part, and how long the ledger was then."""

    lines: int
    day: str
    hour: int
    part: int
    fold: FoldState


@dataclass
class SymbolLedger:
    """A symbol's fold and its file, kept in step: what the fold gives is appended at once."""

    symbol: str
    fold: SymbolFold
    file: LedgerFile
    lines: int

    def append(self, lines: list[AnyLine]) -> None:
        self.file.append(lines)
        self.lines += len(lines)


def checkpoint_path(layout: Layout, exchange: str, symbol: str) -> Path:
    return layout.state / "ledger" / exchange / f"{symbol}.json"


def save_checkpoint(layout: Layout, exchange: str, ledger: SymbolLedger, hour: Hour, part: int) -> None:
    """Keep the fold as it is when the part, and with it all raw before, has gone through it."""
    checkpoint = Checkpoint(ledger.lines, hour.day, hour.hour, part, ledger.fold.state())
    durable.write_fleeting(checkpoint_path(layout, exchange, ledger.symbol), msgspec.json.encode(checkpoint))


def open_ledger(
    layout: Layout, exchange: Exchange, symbol: str, collector: str, grace_ns: int, quarantine: Quarantine
) -> SymbolLedger:
    """Open the symbol's ledger and bring it up to the raw on the disk, which must be salvaged.

    A ledger that its own chain refutes is put aside whole and derived anew from the raw that is here.
    """
    path = layout.ledger(exchange.name, symbol)
    try:
        file, contents = LedgerFile.open(path, exchange.name, symbol, collector)
    except BrokenLedgerError as error:
        log.error("%s; it is put into quarantine and derived anew from raw", error)
        quarantine.add(f"ledger-{exchange.name}-{symbol}.jsonl", path.read_bytes(), str(error), str(path))
        path.unlink()
        checkpoint_path(layout, exchange.name, symbol).unlink(missing_ok=True)
        file, contents = LedgerFile.open(path, exchange.name, symbol, collector)
    if contents.torn:
        quarantine.add(
            f"ledger-{exchange.name}-{symbol}.cut", contents.torn, "a line cut by a crash", str(path)
        )
    checkpoint = _load_checkpoint(checkpoint_path(layout, exchange.name, symbol), len(contents.lines))
    fold = SymbolFold(grace_ns, checkpoint.fold if checkpoint else None)
    fold.take_up(contents.lines[checkpoint.lines if checkpoint else 0 :])
    ledger = SymbolLedger(symbol, fold, file, len(contents.lines))
    start = _start(checkpoint, contents.lines)
    for run in read_runs((f.path for f in _files_from(layout, exchange.name, symbol, start)), exchange):
        ledger.append(fold.trades(run))
    return ledger


def _load_checkpoint(path: Path, lines: int) -> Checkpoint | None:
    try:
        checkpoint = msgspec.json.decode(path.read_bytes(), type=Checkpoint)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        log.warning("checkpoint %s can't be read (%s); the ledger is completed from raw instead", path, error)
        return None
    return checkpoint if checkpoint.lines <= lines else None


def _start(checkpoint: Checkpoint | None, lines: list[AnyLine]) -> tuple[Hour, int] | None:
    """From which hour, and after which of its parts, raw has to be read; None: all that is here."""
    if checkpoint is not None:
        return Hour(checkpoint.day, checkpoint.hour), checkpoint.part
    for line in reversed(lines):
        if isinstance(line, Seen):
            day, _, hour = line.hour.partition("T")
            return Hour(day, int(hour)), 0
        if isinstance(line, Hole):
            # Found in this hour: what was seen since the flush at its beginning is in no line yet.
            return Hour.of_ns(line.found_ns), 0
    return None


def _files_from(layout: Layout, exchange: str, symbol: str, start: tuple[Hour, int] | None) -> list[RawFile]:
    files = [
        file
        for day in layout.raw_days(exchange, symbol)
        if start is None or day >= start[0].day
        for file in layout.raw_files(exchange, symbol, day)
        if file.kind != "healed" and not file.is_open
    ]
    if start is None:
        return files
    hour, part = start
    return [f for f in files if f.hour > hour or (f.hour == hour and (f.kind != "part" or f.number > part))]
