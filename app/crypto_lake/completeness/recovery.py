"""Taking up a symbol's ledger: after a clean stop, after a crash, or from raw alone.

A checkpoint of the fold is kept beside the ledger each time a part is closed (`state/ledger/…`), without fsync. It
only saves time: without it the raw of the last hours is read again, and the ledger comes out the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from crypto_lake.completeness.entries import AnyLine, Hole, ReadLine, Seen
from crypto_lake.completeness.fold import SymbolFold
from crypto_lake.completeness.fold_state import FoldState
from crypto_lake.completeness.happened import CONNECTION_NS, Records, started
from crypto_lake.completeness.ledger import BrokenLedgerError, LedgerFile, has_ended
from crypto_lake.completeness.replay import Replay
from crypto_lake.completeness.runs import read_runs
from crypto_lake.exchanges import Exchange
from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.lake.raw_manifests import sealed_into
from crypto_lake.model.clock import Hour
from crypto_lake.model.market import NS_PER_SECOND, Stream

log = logging.getLogger(__name__)

_DAY_NS = 24 * 3600 * NS_PER_SECOND
_DAYS_KEPT = 3  # in a checkpoint; a clock is not set back by more


class Checkpoint(msgspec.Struct, frozen=True):
    """The fold after all raw up to and including this part, and how long the ledger was then.

    `through`: of the last days, the greatest number of a part that has gone through the fold. Numbers follow the
    order of receipt within a day; hours do not, where the clock was set back. `left`: lower ones that have not gone
    through it, since they could not be salvaged at the time, as (day, number).
    """

    lines: int
    day: str
    hour: int
    part: int
    fold: FoldState
    through: dict[str, int] = {}
    left: list[tuple[str, int]] = []


_decode_checkpoint = msgspec.json.Decoder(Checkpoint).decode


@dataclass
class SymbolLedger:
    """A symbol's fold and its file, kept in step: what the fold gives is appended in its order.

    `lines`: how many the file holds. `pending`: given by the fold and not in the file yet. `latest`: the last part that
    has gone through the fold, as far as this process knows; `through` and `left`: see Checkpoint.
    """

    symbol: str
    fold: SymbolFold
    file: LedgerFile
    lines: int
    through: dict[str, int] = field(default_factory=dict[str, int])
    latest: tuple[Hour, int] | None = None
    left: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    pending: list[AnyLine] = field(default_factory=list[AnyLine])

    def append(self, lines: list[AnyLine]) -> None:
        """Add the lines; they last when this returns. After an OSError they are pending, for the next time."""
        self.pending += lines
        self.flush()

    def flush(self) -> None:
        """Write what is pending. Raises OSError where that fails; it may be tried again."""
        if self.pending:
            self.file.append(self.pending)
            self.lines += len(self.pending)
            self.pending = []

    def passed_part(self, hour: Hour, part: int) -> None:
        """This part is closed, and has gone through the fold whole."""
        self.latest = (hour, part)
        self.through[hour.day] = max(part, self.through.get(hour.day, 0))
        self.through = dict(sorted(self.through.items())[-_DAYS_KEPT:])


def unended(layout: Layout, exchange: str) -> list[str]:
    """Symbols whose ledger does not end with saying that nothing is received any more."""
    folder = layout.ledger(exchange, "x").parent
    return sorted(path.stem for path in folder.glob("*.jsonl") if not has_ended(path))


def checkpoint_path(layout: Layout, exchange: str, symbol: str) -> Path:
    return layout.state / "ledger" / exchange / f"{symbol}.json"


def save_checkpoint(layout: Layout, exchange: str, ledger: SymbolLedger) -> None:
    """Keep the fold as it is. Nothing is kept where lines are pending, or no part has gone through it yet."""
    if ledger.pending or ledger.latest is None:
        return
    hour, part = ledger.latest
    checkpoint = Checkpoint(
        ledger.lines, hour.day, hour.hour, part, ledger.fold.state(), ledger.through, ledger.left
    )
    durable.write_fleeting(checkpoint_path(layout, exchange, ledger.symbol), msgspec.json.encode(checkpoint))


def open_ledger(
    layout: Layout,
    exchange: Exchange,
    symbol: str,
    collector: str,
    grace_ns: int,
    quarantine: Quarantine,
    records: Records | None = None,
) -> SymbolLedger:
    """Open the symbol's ledger and bring it up to the raw on the disk, which must be salvaged.

    A ledger that its own chain refutes is put aside whole and derived anew from the raw that is here. `records`: of
    control, where they are read for several symbols.
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
    if checkpoint is not None:
        ledger.through = dict(checkpoint.through)
        ledger.latest = (Hour(checkpoint.day, checkpoint.hour), checkpoint.part)
    ledger.left = [
        (day, raw.number)
        for day in layout.raw_days(exchange.name, symbol)[-_DAYS_KEPT:]
        for raw in layout.raw_files(exchange.name, symbol, day)
        if raw.is_open
    ]
    start = _start(checkpoint, contents.lines)
    paths = [f.path for f in _files_from(layout, exchange.name, symbol, start)]
    if not paths and fold.has_ended:
        return ledger
    records = records or Records(layout, exchange.name)
    happened = started(records.since(_records_from(checkpoint, start)), fold.started_ns)
    replay = Replay(fold, symbol, exchange.stream_name(symbol, Stream.TRADE), happened)
    for line in replay.trades(read_runs(paths, exchange, partial(sealed_into, layout))):
        ledger.append([line])
    ledger.append(list(replay.end()))
    fold.grace_ns = grace_ns  # an earlier process may have had another one
    return ledger


def _records_from(checkpoint: Checkpoint | None, start: _Start | None) -> Hour | None:
    """From where on control records have to be read: a checkpoint knows what was open, else they must tell."""
    if start is None or checkpoint is not None:
        return start.hour if start is not None else None
    return Hour.of_ns(max(0, start.hour.start_ns - CONNECTION_NS))


def _load_checkpoint(path: Path, lines: int) -> Checkpoint | None:
    try:
        checkpoint = _decode_checkpoint(path.read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        log.warning("checkpoint %s can't be read (%s); the ledger is completed from raw instead", path, error)
        return None
    return checkpoint if checkpoint.lines <= lines else None


@dataclass(frozen=True, slots=True)
class _Start:
    """Which raw has not gone through the fold: sealed hours from `hour` on, parts after those of `through`, and `left`.

    Of a day that `through` does not name, parts from `hour` on; where there is no checkpoint, all parts from the day
    before: the clock may have been set back to an earlier hour since the ledger's last line.
    """

    hour: Hour
    through: dict[str, int]
    left: frozenset[tuple[str, int]] = frozenset()

    @property
    def day(self) -> str:
        """The first from which anything is read, beside those of `through`."""
        return self.hour.day if self.through else Hour.of_ns(self.hour.start_ns - _DAY_NS).day

    def follows(self, file: RawFile) -> bool:
        if file.kind == "part" and file.hour.day in self.through:
            return file.number > self.through[file.hour.day] or (file.hour.day, file.number) in self.left
        if file.kind == "part" and not self.through:
            return file.hour.day >= self.day
        return file.hour >= self.hour


def _start(checkpoint: Checkpoint | None, lines: list[ReadLine]) -> _Start | None:
    """From where on raw has to be read; None: all that is here."""
    if checkpoint is not None:
        through = checkpoint.through or {checkpoint.day: checkpoint.part}
        return _Start(Hour(checkpoint.day, checkpoint.hour), through, frozenset(checkpoint.left))
    for line in reversed(lines):
        if isinstance(line, Seen):
            day, _, hour = line.hour.partition("T")
            return _Start(Hour(day, int(hour)), {})
        if isinstance(line, Hole):
            # Found in this hour: what was seen since the flush at its beginning is in no line yet.
            return _Start(Hour.of_ns(line.found_ns), {})
    return None


def _files_from(layout: Layout, exchange: str, symbol: str, start: _Start | None) -> list[RawFile]:
    """In the order in which they were received, as far as their names tell it."""
    files = [
        file
        for day in layout.raw_days(exchange, symbol)
        if start is None or day >= start.day or day in start.through
        for file in layout.raw_files(exchange, symbol, day)
        if file.kind != "healed" and not file.is_open and (start is None or start.follows(file))
    ]
    return sorted(
        files, key=lambda f: (f.hour.day, f.kind == "part", f.number if f.kind == "part" else f.hour.hour)
    )
