"""A day of bars as it lies on the disk, for who reads it and did not make it."""

from __future__ import annotations

import polars as pl

from crypto_lake.bars import table
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import read_bars_manifest, sha256_of


def read_day(
    layout: Layout, exchange: str, symbol: str, day: str
) -> tuple[pl.DataFrame, dict[int, str]] | None:
    """Rows, and digests by Unix hour; None where there is no file. Raises OSError where it can't be read as bars."""
    path = layout.bars(exchange, symbol, day)
    if not path.is_file():
        return None
    manifest = read_bars_manifest(layout, path)
    read = table.read(path, trusted=manifest is not None and sha256_of(path) == manifest.sha256)
    if read is None:
        raise OSError(
            f"{path} can't be read as bars; `crypto-lake verify` tells more, `crypto-lake transform --rebuild` makes it anew"
        )
    return read
