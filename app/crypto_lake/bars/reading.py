"""Raw files to columns, in chunks: what can be read is, and what can't is returned with its reason."""

# pyright: reportUnknownMemberType=false
# Signatures of polars name types of numpy, which is not installed.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import polars as pl

from crypto_lake.bars.lines import Template, parse_files
from crypto_lake.bars.rows import HOUR_SECONDS
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.manifests import RawIndexEntry, sha256_of
from crypto_lake.model.market import NS_PER_SECOND, US_PER_SECOND

CHUNK_BYTES: Final = 4 * 1024 * 1024  # of lines, unpacked, at a time; memory goes with it
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


def _note_trades(files: list[FileRead], trades: pl.DataFrame) -> None:
    if trades.is_empty():
        return
    by_file = trades.group_by("file").agg(
        pl.len(),
        (pl.col("time_us") // (HOUR_SECONDS * US_PER_SECOND)).unique().alias("hours"),
        pl.col("id").max().alias("greatest"),
    )
    for place, count, hours, greatest in by_file.iter_rows():
        file = files[int(place)]
        file.trades += count
        file.trade_hours.update(hours)
        if greatest > file.greatest_id:
            file.greatest_id = greatest
            file.receipts.clear()
    last = trades.filter(pl.col("id") == pl.col("id").max().over("file"))
    for place, id_, received_ns, connection in last.select(
        "file", "id", "received_ns", "connection"
    ).iter_rows():
        if id_ == files[place].greatest_id:
            files[place].receipts.add((received_ns, connection))
    ordered = trades.select("file", "id")
    rising = (pl.col("id") > pl.col("id").shift(1)) | (pl.col("file") != pl.col("file").shift(1))
    if not ordered.select(rising.all()).item():
        ordered = ordered.unique().sort("file", "id")
    runs = (
        ordered.with_columns(
            ((pl.col("id") - pl.col("id").shift(1) != 1) | (pl.col("file") != pl.col("file").shift(1)))
            .fill_null(True)
            .alias("start")
        )
        .with_columns(
            pl.col("start").shift(-1, fill_value=True).alias("end"),
        )
        .filter(pl.col("start") | pl.col("end"))
    )
    starts, ends = runs.filter("start"), runs.filter("end")
    for place, first, last_id in zip(starts["file"], starts["id"], ends["id"], strict=True):
        files[place].runs.append((first, last_id))


def _note_quotes(files: list[FileRead], quotes: pl.DataFrame) -> None:
    if quotes.is_empty():
        return
    by_file = quotes.group_by("file").agg(
        pl.len(), (pl.col("received_ns") // (HOUR_SECONDS * NS_PER_SECOND)).unique().alias("hours")
    )
    for place, count, hours in by_file.iter_rows():
        files[place].quotes += count
        files[place].quote_hours.update(hours)


def _merged(runs: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(runs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)
