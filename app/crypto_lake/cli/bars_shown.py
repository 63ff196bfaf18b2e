"""A few bars of a lake to look at, and how to read the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto_lake.cli.progress import counted

if TYPE_CHECKING:
    from pathlib import Path

    from crypto_lake.lake.layout import Layout

_COLUMNS = (
    "window_start",
    "open",
    "high",
    "low",
    "close",
    "volume_base",
    "trade_count",
    "bid",
    "ask",
    "state",
)
_ROWS = 5


def describe(layout: Layout) -> tuple[list[str], int]:
    """Lines for the user, and how many rows of bars there are."""
    import polars as pl

    root = layout.root / "parquet"
    counts: dict[str, int] = {}
    trades: dict[str, int] = {}
    for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
        files = sorted(folder.glob("**/*.parquet"))
        if files:
            frame = pl.scan_parquet(files, hive_partitioning=False)
            name = "/".join(folder.parts[-2:])
            counts[name], trades[name] = frame.select(pl.len(), pl.col("trade_count").sum()).collect().row(0)
    rows = sum(counts.values())
    if not rows:
        return [f"No bars in {root}. `crypto-lake status --data {layout.root}` tells why."], 0
    first = max(trades, key=lambda name: trades[name])
    files = sorted((root / first).glob("**/*.parquet"))
    last = pl.scan_parquet(files, hive_partitioning=False).tail(_ROWS).collect()
    glob = f"{root}/{first}/**/*.parquet"
    lines = [
        f"Bars: {rows:,} seconds of {counted(len(counts), 'symbol')} in {root}",
        f"The last {len(last)} of {first}:",
        "",
    ]
    lines += _table(last.select([name for name in _COLUMNS if name in last.columns]))
    lines += [
        "",
        "Read them:",
        f"  duckdb -c \"FROM read_parquet('{glob}')\"",
        f"  python -c \"import polars as pl; print(pl.read_parquet('{glob}', hive_partitioning=False))\"",
        "How the lake is:",
        f"  crypto-lake status --data {_quoted(layout.root)}",
    ]
    return lines, rows


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))


def _table(frame: object) -> list[str]:
    """Plain columns, whatever the terminal: numbers to the right."""
    import polars as pl

    assert isinstance(frame, pl.DataFrame)
    cells = [[_cell(value) for value in row] for row in frame.iter_rows()]
    names = frame.columns
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    lines = ["  ".join(name.rjust(width) for name, width in zip(names, widths, strict=True))]
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return lines


def _cell(value: object) -> str:
    from datetime import datetime
    from decimal import Decimal

    match value:
        case None:
            return "–"
        case datetime():
            return value.strftime("%H:%M:%S")
        case Decimal():
            text = format(value, "f")
            return text.rstrip("0").rstrip(".") if "." in text else text
        case _:
            return str(value)
