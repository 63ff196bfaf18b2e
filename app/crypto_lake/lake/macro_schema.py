"""The columns of macro series' files, and the keys of their metadata: a contract, see docs/macro.md."""

from __future__ import annotations

from typing import Final

import polars as pl

MACRO_SCHEMA_VERSION: Final = 1
VERSION_KEY: Final = "crypto_lake.macro_schema"
DIGEST_KEY: Final = "crypto_lake.macro_rows"

MACRO_SCHEMA: Final = pl.Schema(
    {
        "series": pl.String(),
        "date": pl.Date(),
        "version": pl.Int32(),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Int64(),
        "currency": pl.String(),
        "timezone": pl.String(),
        "day_end": pl.Datetime("us", "UTC"),
        "known_at": pl.Datetime("us", "UTC"),
    }
)
"""The columns, described in docs/macro.md. Sorted by date and version; one row for each version of a day."""
