"""Raw files to columns, in chunks: what can be read is, and what can't is returned with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from crypto_lake.bars.lines import parse_files
from crypto_lake.bars.rows import HOUR_SECONDS
from crypto_lake.bars.template import Template
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.manifests import RawIndexEntry, sha256_of
from crypto_lake.model.market import NS_PER_SECOND, US_PER_SECOND

CHUNK_BYTES: Final = 2 * 1024 * 1024  # of lines, unpacked, at a time; memory goes with it
_MOST_FILES: Final = 200  # read together, however small they are
_KEPT_BYTES: Final = 1024 * 1024  # of unreadable lines of one file and reason; more are only counted


@dataclass(slots=True)
class Unreadable:
    """Lines or bytes of one file that share a reason. `data` may be less than all of them."""

    reason: str
    count: int = 0
    data: list[bytes] = field(default_factory=list[bytes])
    size: int = 0

    def add(self, data: bytes) -> None:
        self.count += 1
        if self.size + len(data) <= _KEPT_BYTES or not self.data:
            self.data.append(data)
            self.size += len(data)


@dataclass(slots=True)
class FileRead:
    """What a file held, gathered as it is read. `unreadable` goes by reason."""

    path: Path
    lines: int = 0
    trades: int = 0
    quotes: int = 0
    skipped: int = 0
    klines: int = 0
    trade_hours: set[int] = field(default_factory=set[int])
    quote_hours: set[int] = field(default_factory=set[int])
    runs: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    greatest_id: int = -1
    receipts: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])
    unreadable: dict[str, Unreadable] = field(default_factory=dict[str, Unreadable])

    def put_aside(self, data: bytes, reason: str) -> None:
        self.unreadable.setdefault(reason, Unreadable(reason)).add(data)

    def entry(self) -> RawIndexEntry:
        return RawIndexEntry(
            bytes=self.path.stat().st_size,
            sha256=sha256_of(self.path),
            lines=self.lines,
            trades=self.trades,
            quotes=self.quotes,
            unreadable=sum(item.count for item in self.unreadable.values()),
            skipped=self.skipped,
            trade_hours=tuple(sorted(self.trade_hours)),
            quote_hours=tuple(sorted(self.quote_hours)),
            id_runs=_merged(self.runs),
            last_receipts=tuple(sorted(self.receipts)),
            klines=self.klines,
        )


def read_files(
    paths: Sequence[Path],
    template: Template,
    take: Callable[[pl.DataFrame, pl.DataFrame], None],
    done: Callable[[list[FileRead]], None],
) -> None:
    """Read raw files whole, in this order. `take` gets trades and quotes, some megabytes of lines at a time, of
    one file or of several small ones; `done` gets the files that are read to their end, after their last lines.
    """
    batch: list[tuple[FileRead, bytes]] = []
    ended: list[FileRead] = []
    size = 0

    def flush() -> None:
        nonlocal batch, ended, size
        if batch:
            _read_batch(batch, template, take)
        done(ended)
        batch, ended, size = [], [], 0

    for path in paths:
        file = FileRead(path)
        for piece in _pieces(file):
            if size + len(piece) > CHUNK_BYTES and batch:
                flush()
            batch.append((file, piece))
            size += len(piece)
        ended.append(file)
        if len(ended) >= _MOST_FILES:
            flush()
    flush()


def _read_batch(
    batch: list[tuple[FileRead, bytes]],
    template: Template,
    take: Callable[[pl.DataFrame, pl.DataFrame], None],
) -> None:
    files: list[FileRead] = []
    texts: list[list[bytes]] = []
    for file, piece in batch:
        if not files or files[-1] is not file:
            files.append(file)
            texts.append([])
        texts[-1].append(piece)
    parsed = parse_files([b"".join(pieces) for pieces in texts], template)
    for place, file in enumerate(files):
        file.lines += parsed.lines[place]
        file.skipped += parsed.skipped[place] if parsed.skipped else 0
        file.klines += parsed.klines[place] if parsed.klines else 0
    for place, line, reason in parsed.bad:
        files[place].put_aside(line, reason)
    _note_trades(files, parsed.trades)
    _note_quotes(files, parsed.quotes)
    take(parsed.trades.drop("file"), parsed.quotes.drop("file"))


def _pieces(file: FileRead) -> Iterator[bytes]:
    """Whole lines, a frame's or what of it fits a chunk; what no frame decodes from is put aside."""
    for item in read_frames(file.path):
        if isinstance(item, BadBytes):
            with file.path.open("rb") as raw:
                raw.seek(item.offset)
                file.put_aside(raw.read(min(item.size, _KEPT_BYTES)), "no frame decodes")
            continue
        data = item.data if item.data.endswith(b"\n") else item.data + b"\n"
        while len(data) > CHUNK_BYTES:
            # A line longer than a chunk is handed on whole.
            cut = (data.rfind(b"\n", 0, CHUNK_BYTES) + 1) or (data.find(b"\n") + 1)
            yield data[:cut]
            data = data[cut:]
        if data:
            yield data


def _by_file(frame: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """The rows of each file, which follow each other."""
    file = frame["file"]
    at = 0
    while at < frame.height:
        place = int(file[at])
        end = int(file.search_sorted(place, side="right"))
        yield place, frame.slice(at, end - at)
        at = end


def _note_trades(files: list[FileRead], trades: pl.DataFrame) -> None:
    # Series by series: a query on so few rows takes longer to plan than to run.
    for place, rows in _by_file(trades):
        file = files[place]
        file.trades += rows.height
        file.trade_hours.update(_hours(rows["time_us"], HOUR_SECONDS * US_PER_SECOND))
        ids = rows["id"]
        step = ids.diff()
        if rows.height == 1 or (_int(step.min()) == 1 and _int(step.max()) == 1):
            runs, greatest, last = [(int(ids[0]), int(ids[-1]))], int(ids[-1]), rows.tail(1)
        else:
            runs, greatest = _runs(ids), _int(ids.max())
            last = rows.filter(ids == greatest)
        file.runs.extend(runs)
        if greatest > file.greatest_id:
            file.greatest_id = greatest
            file.receipts.clear()
        if greatest == file.greatest_id:
            file.receipts.update(zip(last["received_ns"], last["connection"], strict=True))


def _note_quotes(files: list[FileRead], quotes: pl.DataFrame) -> None:
    for place, rows in _by_file(quotes):
        files[place].quotes += rows.height
        files[place].quote_hours.update(_hours(rows["received_ns"], HOUR_SECONDS * NS_PER_SECOND))


def _hours(times: pl.Series, per_hour: int) -> list[int]:
    low, high = _int(times.min()) // per_hour, _int(times.max()) // per_hour
    return [low] if low == high else [int(hour) for hour in (times // per_hour).unique()]


def _runs(ids: pl.Series) -> list[tuple[int, int]]:
    """Intervals of ids without a hole."""
    ordered = ids.unique().sort()
    starts = ordered.diff().fill_null(2) > 1
    firsts, lasts = ordered.filter(starts), ordered.filter(starts.shift(-1, fill_value=True))
    return list(zip(firsts, lasts, strict=True))


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _merged(runs: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)
