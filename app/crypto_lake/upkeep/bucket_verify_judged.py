"""A day's verdicts, or its report, as it came from the bucket: whether it is what was put, and can be read."""

from __future__ import annotations

import hashlib
import io
from typing import Final

import msgspec
import polars as pl

from crypto_lake.completeness.day_report import DayReport
from crypto_lake.store import Stored
from crypto_lake.upkeep.names import ReportObject, VerdictsObject
from crypto_lake.upkeep.verify_report import Difference

# What verdicts of every version have.
_NEEDED: Final = ("exchange", "symbol", "window_start", "verdict")
_decode_report = msgspec.json.Decoder(DayReport).decode


def problems_of(of: VerdictsObject | ReportObject, stored: Stored, data: bytes) -> list[Difference]:
    if stored.sha256 not in (None, hashlib.sha256(data).hexdigest()):
        return [Difference(of.name, f"has not the SHA-256 that was declared: {stored.sha256}")]
    problem = _verdicts(of, data) if isinstance(of, VerdictsObject) else _report(of, data)
    return [Difference(of.name, problem)] if problem else []


def _verdicts(of: VerdictsObject, data: bytes) -> str:
    try:
        rows = pl.read_parquet(io.BytesIO(data))
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return f"can't be read: {error}"
    if missing := [name for name in _NEEDED if name not in rows.columns]:
        return f"lacks {', '.join(missing)}"
    told = rows.select("exchange", "symbol", pl.col("window_start").dt.date().cast(pl.String)).unique().rows()
    others = [at for at in told if at != (of.exchange, of.symbol, of.day)]
    return f"holds verdicts of {' '.join(others[0])}" if others else ""


def _report(of: ReportObject, data: bytes) -> str:
    if of.suffix != "json":
        return ""
    try:
        report = _decode_report(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"can't be read: {error}"
    told = (report.exchange, report.symbol, report.day)
    return "" if told == (of.exchange, of.symbol, of.day) else f"is the report of {' '.join(told)}"
