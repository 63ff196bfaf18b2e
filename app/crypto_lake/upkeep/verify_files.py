"""One file, read whole and compared with what is said of it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import msgspec

from crypto_lake.completeness import ledger
from crypto_lake.completeness.content import Content, knows
from crypto_lake.completeness.ledger import BrokenLedgerError
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.manifests import BarsManifest
from crypto_lake.lake.raw_manifests import decode_raw_manifest
from crypto_lake.model.checksums import Checksummer, Checksums
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.verify_compare import (
    differs_in_bytes,
    hour_differences,
    manifest_differences,
    raw_differences,
)
from crypto_lake.upkeep.verify_report import Checked, Difference, Item
from crypto_lake.upkeep.verify_source import Source

_CHUNK_BYTES = 1024 * 1024
_decode_manifest = msgspec.json.Decoder(BarsManifest).decode


def check(source: Source, item: Item, quick: bool) -> Checked:
    """What is wrong with the file; what can't be read is told as a difference too.

    `quick`: bytes and checksums alone where there is a manifest; what it says of lines, ids and rows is then not
    counted again. A file that differs is always looked at more closely.
    """
    try:
        with source.fetch(item.name) as path:
            match item.kind:
                case "ledger":
                    return _check_ledger(item, path)
                case "bars":
                    return Checked(item, 0, tuple(_check_bars(source, item, path, quick)))
                case _:
                    return _check_raw(source, item, path, quick)
    except FileNotFoundError:
        return Checked(item, 0, (Difference(item.name, "is missing"),))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Checked(item, 0, (Difference(item.name, f"can't be read: {error}"),))


def _check_raw(source: Source, item: Item, path: Path, quick: bool) -> Checked:
    data = source.manifest(item.name) if item.kind != "part" else None
    if data is None and item.kind == "hour":
        missing = Difference(item.name, "has no manifest; `crypto-lake compact` makes one where it is whole")
        return Checked(item, 0, (missing, *_bad_bytes(item, path)))
    try:
        manifest = decode_raw_manifest(data) if data is not None else None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        unreadable = Difference(item.name, f"its manifest can't be read: {error}")
        return Checked(item, 0, (unreadable, *_bad_bytes(item, path)))
    own = tuple(manifest_differences(item.name, data)) if data is not None else ()
    if manifest is not None and quick:
        differences = (*own, *raw_differences(item.name, manifest, _sums(path), None))
        if not differences:
            return Checked(item, manifest.lines)
        return Checked(item, 0, (*_bad_bytes(item, path), *differences))
    sums, make, bad = Checksummer(md5=False), _content_of(item), list[Difference]()
    content = make()
    for found in read_frames(path):
        sums.update(found.packed)
        if isinstance(found, BadBytes):
            bad.append(_bad(item, found))
        else:
            content.add(found.data)
    summary = content.summary()
    if manifest is not None:
        differences = raw_differences(item.name, manifest, sums.result(), summary)
        return Checked(item, summary.lines, (*bad, *own, *differences))
    if summary.unreadable:
        line = _first_unreadable(path, make)
        whose = f"no message of {item.symbol} received in {item.day}T{item.hour:02d}"
        bad.append(
            Difference(item.name, f"{summary.unreadable} of {summary.lines} lines are {whose}", line=line)
        )
    return Checked(item, summary.lines, tuple(bad), alone=True)


def _sums(path: Path) -> Checksums:
    sums = Checksummer(md5=False)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            sums.update(chunk)
    return sums.result()


def _content_of(item: Item) -> Callable[[], Content]:
    if not knows(item.exchange):
        raise OSError(f"exchange {item.exchange} is none that this program knows")
    hour = None if item.kind == "healed" else Hour(item.day, item.hour)
    return lambda: Content(item.exchange, item.symbol, hour)


def _bad_bytes(item: Item, path: Path) -> Iterator[Difference]:
    for found in read_frames(path):
        if isinstance(found, BadBytes):
            yield _bad(item, found)


def _bad(item: Item, bad: BadBytes) -> Difference:
    return Difference(item.name, f"no frame decodes: {bad.reason}", offset=bad.offset, size=bad.size)


def _first_unreadable(path: Path, make: Callable[[], Content]) -> int | None:
    """Its number among the file's unpacked lines, from 1."""
    number = 0
    for frame in read_frames(path):
        if isinstance(frame, BadBytes):
            continue
        for line in frame.data.splitlines(keepends=True):
            number += 1
            content = make()
            content.add(line)
            if content.summary().unreadable:
                return number
    return None


def _check_ledger(item: Item, path: Path) -> Checked:
    try:
        # A line that is being written, or that a crash cut, is no difference: it was never acknowledged.
        return Checked(item, len(ledger.read(path).lines))
    except BrokenLedgerError as error:
        return Checked(item, 0, (Difference(item.name, str(error), line=error.line),))


def _check_bars(source: Source, item: Item, path: Path, quick: bool) -> Iterator[Difference]:
    data = source.manifest(item.name)
    if data is None:
        yield Difference(item.name, "has no manifest; `crypto-lake transform` makes one")
        return
    yield from manifest_differences(item.name, data)
    try:
        manifest = _decode_manifest(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        yield Difference(item.name, f"its manifest can't be read: {error}")
        return
    if not manifest.rows and not path.exists():
        return  # a day that is known to have no row
    if problem := differs_in_bytes(manifest, _sums(path)):
        yield Difference(item.name, problem)
        yield from _rows_apart(manifest, item, path)
    elif not quick:
        yield from check_rows(manifest, item.name, path)


def _rows_apart(manifest: BarsManifest, item: Item, path: Path) -> Iterator[Difference]:
    """Which hours differ, told by a process of its own: the reader of Parquet can abort on damaged bytes (measured)."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_silence) as pool:
        try:
            yield from pool.submit(rows_of_damaged, manifest, item.name, path).result()
        except BrokenProcessPool:
            yield Difference(item.name, "is so damaged that reading it ends the program that does")


def _silence() -> None:
    """What a library says of its own panic is not for the user: the difference is."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def rows_of_damaged(manifest: BarsManifest, name: str, path: Path) -> list[Difference]:
    try:
        return list(check_rows(manifest, name, path))
    except BaseException as error:  # a panic of the library is no Exception
        return [Difference(name, f"can't be read: {type(error).__name__}")]


def check_rows(manifest: BarsManifest, name: str, path: Path) -> Iterator[Difference]:
    import polars as pl

    from crypto_lake.bars import table  # polars: only where there is Parquet to read
    from crypto_lake.bars.rows import HOUR_SECONDS
    from crypto_lake.model.market import US_PER_SECOND

    read = table.read(path, trusted=True)  # or in a process of its own, see above
    if read is None:
        yield Difference(name, "is no file of bars that can be read")
        return
    rows, named = read
    hours = (rows["window_start"].cast(pl.Int64) // (HOUR_SECONDS * US_PER_SECOND)).unique().sort().to_list()
    found = {int(hour): table.hour_of(rows, hour) for hour in hours if hour is not None}
    counted = {hour: (table.digest(part), part.height) for hour, part in found.items()}
    yield from hour_differences(manifest, name, named, counted)
    ids = rows.select(pl.col("first_trade_id").min(), pl.col("last_trade_id").max()).row(0)
    if ids != (manifest.first_trade_id, manifest.last_trade_id):
        said = (manifest.first_trade_id, manifest.last_trade_id)
        yield Difference(name, f"its trade ids are {ids}, its manifest says {said}")
