"""The manifest of a day of bars: what its file is, and what it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import polars as pl

from crypto_lake import __version__
from crypto_lake.bars import table
from crypto_lake.lake.checksums import measure
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import BarsHour, BarsManifest, Input, RawIndexEntry
from crypto_lake.model.checksums import Checksums


def day_manifest(
    layout: Layout,
    exchange: str,
    symbol: str,
    day: str,
    rows: pl.DataFrame,
    records: dict[int, BarsHour],
    inputs: tuple[Input, ...],
) -> BarsManifest:
    """Of the file as it lies here, which holds `rows`; a day without any has none. Not final: that is for another to say."""
    path = layout.bars(exchange, symbol, day)
    ids = rows.select(pl.col("first_trade_id").min(), pl.col("last_trade_id").max()).row(0)
    sums = measure(path) if rows.height else Checksums(0, "", "", "")
    return BarsManifest(
        exchange=exchange,
        symbol=symbol,
        day=day,
        path=str(path.relative_to(layout.root)),
        schema=table.BARS_SCHEMA_VERSION,
        program=__version__,
        bytes=sums.bytes,
        sha256=sums.sha256,
        rows=rows.height,
        trades=sum(record.trades for record in records.values()),
        first_trade_id=ids[0],
        last_trade_id=ids[1],
        final=False,
        inputs=inputs,
        hours=records,
        crc32c=sums.crc32c,
        md5=sums.md5,
    )


def inputs_of(
    records: Iterable[BarsHour],
    folder: str,
    entry_of: Callable[[str], RawIndexEntry | None],
    before: BarsManifest | None,
) -> tuple[Input, ...]:
    """What these hours were made of: files below `folder`, of which `entry_of` tells as far as they are here. `before`: the
    day's manifest so far, which tells of the others. Pure.
    """
    named = {given.path: given for given in before.inputs} if before is not None else {}
    found: list[Input] = []
    for name in sorted({name for record in records for name in record.inputs}):
        path, entry = f"{folder}/{name}", entry_of(name)
        if entry is not None:
            found.append(Input(path, entry.bytes, entry.sha256))
        elif path in named:
            found.append(named[path])
    return tuple(found)


def digests_of(manifest: BarsManifest) -> dict[int, str]:
    """Of the hours that have rows, by Unix hour."""
    return {hour: record.digest for hour, record in manifest.hours.items() if record.rows}
