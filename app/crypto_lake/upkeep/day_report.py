"""Gathers how a day of a symbol was: bars, ledger, verdicts, raw and control records. And writes it down."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from crypto_lake.bars.day_file import read_day
from crypto_lake.bars.rows import BAR_SCHEMA
from crypto_lake.completeness import day_report, ledger, raw_times, verdict_table
from crypto_lake.completeness.day_report import SCHEMA, Coverage, DayReport, Verdicts
from crypto_lake.completeness.verdict import Counted, Explained, Verdict, differences_of
from crypto_lake.lake import durable
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.model.market import NS_PER_SECOND, US_PER_SECOND

_DAY_SECONDS: Final = 24 * 3600
_UNLIKE_TOLD: Final = 20


def is_due(layout: Layout, exchange: str, symbol: str, day: str) -> bool:
    """Whether the day's report is older than its verdicts, or not there."""
    try:
        written = layout.report(exchange, symbol, day, "json").stat().st_mtime_ns
        return layout.verdicts(exchange, symbol, day).stat().st_mtime_ns > written
    except FileNotFoundError:
        return True


def write_report(layout: Layout, exchange: str, symbol: str, day: str) -> list[Path]:
    """As JSON and as Markdown; the paths."""
    report = gather(layout, exchange, symbol, day)
    as_json = layout.report(exchange, symbol, day, "json")
    page = layout.report(exchange, symbol, day, "md")
    durable.write(page, day_report.markdown(report).encode())
    # Last: by it the report's age is told.
    durable.write(as_json, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    return [as_json, page]


def gather(layout: Layout, exchange: str, symbol: str, day: str) -> DayReport:
    """Raises OSError where bars are there and can't be read, BrokenLedgerError where the ledger is not what it was."""
    read = read_day(layout, exchange, symbol, day)
    bars = read[0] if read is not None else pl.DataFrame(schema=BAR_SCHEMA)
    ledger_path = layout.ledger(exchange, symbol)
    start_us = Hour(day, 0).start_ns // 1000
    gaps = day_report.gaps_of(
        ledger.account(ledger.read(ledger_path).lines), (start_us, start_us + _DAY_SECONDS * US_PER_SECOND)
    )
    offsets, disconnects = raw_times.control_facts(layout, exchange, day)
    samples = list(raw_times.latencies_us(layout, exchange, symbol, day, offsets))
    return DayReport(
        schema=SCHEMA,
        exchange=exchange,
        symbol=symbol,
        day=day,
        coverage=_coverage(layout, exchange, symbol, day, bars),
        gaps=gaps,
        ids_missing=day_report.missing_of(gaps),
        ids_healed=sum(gap.healed for gap in gaps),
        verdicts=_verdicts(layout, exchange, symbol, day, bars),
        latency=day_report.latency(samples),
        clock_offset=day_report.offsets([(offset, trip) for _, offset, trip in offsets]),
        disconnects=dict(sorted(disconnects.items())),
        has_ledger=ledger_path.exists(),
    )


def _coverage(layout: Layout, exchange: str, symbol: str, day: str, bars: pl.DataFrame) -> Coverage:
    days = layout.days_with_bars(exchange, symbol)
    start = Hour(day, 0).start_ns // NS_PER_SECOND
    end = start + _DAY_SECONDS
    seconds = bars["window_start"].dt.epoch("s")
    if not days or not days[0] <= day <= days[-1]:
        end = start
    elif len(seconds):
        start = seconds[0] if day == days[0] else start
        end = seconds[-1] + 1 if day == days[-1] else end
    states = dict(bars.group_by("state").len().sort("state").iter_rows())
    first, last = bars.select(pl.col("first_trade_id").min(), pl.col("last_trade_id").max()).row(0)
    return Coverage(
        seconds=end - start,
        bars=bars.height,
        states=states,
        trades=int(bars["trade_count"].sum()),
        first_trade_id=first,
        last_trade_id=last,
        quoted=bars.height - bars["bid"].null_count(),
        quote_updates=int(bars["quote_updates"].sum()),
    )


def _verdicts(layout: Layout, exchange: str, symbol: str, day: str, bars: pl.DataFrame) -> Verdicts:
    read = verdict_table.read(layout.verdicts(exchange, symbol, day))
    if read is None:
        return Verdicts(unjudged=bars.height)
    rows, counted = read[0], Counted(read[0])
    unlike = rows.filter(
        (pl.col("verdict") == Verdict.MISMATCH.value) & (pl.col("explained") == Explained.NOT.value)
    ).head(_UNLIKE_TOLD)
    return Verdicts(
        verified=counted.verified,
        mismatched=counted.mismatched,
        explained=counted.explained,
        unexplained=counted.unexplained,
        unverifiable=counted.unverifiable,
        unjudged=bars.join(rows, on="window_start", how="anti").height,
        unlike=[_unlike(row) for row in unlike.iter_rows(named=True)],
    )


def _unlike(row: dict[str, object]) -> str:
    fields = ", ".join(f"{name} {by}" for name, by in differences_of(row).items())
    return f"{row['window_start']:%H:%M:%S}: {fields or row['reason']}"
