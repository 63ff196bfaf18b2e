"""Healed files: trades that were fetched, written as raw lines, and found again."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec

from crypto_lake.completeness.entries import Outcome
from crypto_lake.completeness.heal import Wanted, covered
from crypto_lake.exchanges import Exchange, PastRow
from crypto_lake.lake import durable, envelope, locks
from crypto_lake.lake.frames import BadBytes, FrameCompressor, read_frames
from crypto_lake.lake.layout import Layout, healed_ids
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet

_FRAME_ROWS: Final = 1000
_LOCK_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Healed:
    """A file that was written. `path` is relative to the data directory."""

    path: str
    source: str
    rows: tuple[PastRow, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows came from: the connection's name, the call or archive, and when they were received."""

    connection: str
    source: str
    received_ns: int


def write_healed(
    layout: Layout,
    exchange: str,
    symbol: str,
    hour: Hour,
    rows: Sequence[PastRow],
    ids: Interval,
    origin: Origin,
) -> Healed:
    """Write rows of one hour as a file of its own; it lasts when this returns. `ids`: those that were wanted."""
    lines = [envelope.encode(origin.received_ns, origin.connection, r.message, origin.source) for r in rows]
    refused = next((reason for row in rows if (reason := envelope.refusal(row.message))), None)
    if refused is not None:
        raise ValueError(f"an answer for {symbol} can't become raw lines: {refused}")
    texts = [b"".join(lines[at : at + _FRAME_ROWS]) for at in range(0, len(lines), _FRAME_ROWS)]
    first, last = max(rows[0].first_id, ids.first), min(rows[-1].last_id, ids.last)

    def make(temporary: Path) -> None:
        compressor = FrameCompressor()
        temporary.write_bytes(b"".join(compressor.frame(text) for text in texts))

    def check(temporary: Path) -> None:
        if [None if isinstance(f, BadBytes) else f.data for f in read_frames(temporary)] != texts:
            raise OSError(
                f"{temporary} reads back otherwise than it was written; the disk is not to be trusted"
            )

    with _writing(layout):
        path = _free_path(layout, exchange, symbol, hour, first, last)
        durable.write_with(path, make, check)
    return Healed(str(path.relative_to(layout.root)), origin.source, tuple(rows))


def _free_path(layout: Layout, exchange: str, symbol: str, hour: Hour, first: int, last: int) -> Path:
    """A name that no file ever had: what went to the bucket, and is gone from here, has left its manifest."""
    number = 1
    while True:
        path = layout.healed(exchange, symbol, hour, first, last, number)
        if not path.exists() and not layout.manifest(path).exists():
            return path
        number += 1


@contextmanager
def _writing(layout: Layout) -> Generator[None]:
    """A collector and a backfill may write at once: one of them at a time. In a thread: it waits for its turn."""
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            with locks.hold(layout.locks, "healed"):
                yield
                return
        except locks.LockHeldError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.05)


def remove_leftovers(layout: Layout) -> None:
    """Temporary files of a writer that was killed."""
    with _writing(layout):
        for path in layout.raw_root().glob(f"*/*/*/.healed_*{durable.TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)


def outcomes(healed: Healed, ids: Interval) -> list[Outcome]:
    """The ledger's lines for what the file has of a hole."""
    return [
        Outcome(
            first_id=part.first,
            last_id=part.last,
            action=healed.source,
            outcome="healed",
            file=healed.path,
        )
        for part in covered(healed.rows, ids)
    ]


def read_healed(exchange: Exchange, path: Path) -> Iterator[tuple[str, PastRow]]:
    """Source and row of every line that can be read. Raises OSError where the file can't be."""
    past = exchange.past
    read = {past.trades.source: past.trades.read, past.aggregates.source: past.aggregates.read}
    read["archive"] = past.trades.read
    for frame in read_frames(path):
        if isinstance(frame, BadBytes):
            continue
        for line in frame.data.splitlines():
            try:
                found = envelope.decode(line)
                if found.source in read:
                    yield from ((found.source, row) for row in read[found.source](b"[%s]" % found.message))
            except (ValueError, msgspec.MsgspecError):
                continue


def on_disk(
    layout: Layout, exchange: Exchange, wanted: Iterable[Wanted], inexact: Iterable[Wanted] = ()
) -> list[tuple[str, Outcome]]:
    """Outcomes, with their symbols, of holes that files on the disk fill, and no ledger knows yet.

    A crash may come between a file and its line, and a backfill writes files while the collector runs. `inexact`: ids
    for which single trades alone are news.
    """
    aggregates = exchange.past.aggregates.source
    found: list[tuple[str, Outcome]] = []
    for want, exact_only in [*((w, False) for w in wanted), *((w, True) for w in inexact)]:
        files = [
            f for path in _candidates(layout, exchange.name, want) if (f := _load(layout, exchange, path))
        ]
        left = IntervalSet([want.ids])
        for healed in sorted(files, key=lambda file: (file.source == aggregates, file.path)):
            if exact_only and healed.source == aggregates:
                continue
            for part in list(left):
                new = outcomes(healed, part)
                found += [(want.symbol, outcome) for outcome in new]
                for outcome in new:
                    left.remove(Interval(outcome.first_id, outcome.last_id))
    return found


def _load(layout: Layout, exchange: Exchange, path: Path) -> Healed | None:
    """None where it has gone meanwhile, or holds nothing."""
    try:
        rows = list(read_healed(exchange, path))
    except OSError:
        return None
    if not rows:
        return None
    return Healed(str(path.relative_to(layout.root)), rows[0][0], tuple(row for _, row in rows))


def _candidates(layout: Layout, exchange: str, want: Wanted) -> Iterator[Path]:
    first, last = sorted((want.after_time_us, want.before_time_us))
    day, end = (date.fromisoformat(Hour.of_ns(us * 1000).day) for us in (first, last))
    while day <= end:
        for file in layout.raw_files(exchange, want.symbol, day.isoformat()):
            if file.kind == "healed":
                low, high = healed_ids(file.path)
                if low <= want.ids.last and high >= want.ids.first:
                    yield file.path
        day += timedelta(days=1)
