"""`crypto-lake query`: bars of any interval, printed or written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from crypto_lake.cli.rows_shown import (
    WRITERS,
    Row,
    format_of,
    lake_options,
    of_lake_error,
    output_options,
    stoppable,
    target,
)

if TYPE_CHECKING:
    import polars as pl

_ROWS_AT_ONCE = 50_000
_SHORT = ("window_start", "open", "high", "low", "close", "volume_base", "trade_count", "state")


@click.command()
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@click.option("--every", default="1m", show_default=True, help="Interval: 1s, 5m, 4h, 1d, or any multiple.")
@click.option(
    "--from", "start", metavar="TIME", help="2024-08-08 or 2024-08-08T13:00, UTC.  [default: the first]"
)
@click.option("--to", "end", metavar="TIME", help="The same; excluded.  [default: the last]")
@click.option(
    "--columns", help="Names, separated by commas, or 'all'.  [default: all; in a table the usual ones]"
)
@click.option(
    "--fill",
    type=click.Choice(["previous"]),
    help="Rows for intervals of which nothing is known, at the close before.",
)
@lake_options
@output_options
def command(
    symbols: tuple[str, ...],
    every: str,
    start: str | None,
    end: str | None,
    columns: str | None,
    fill: str | None,
    data: str,
    exchange: str | None,
    output: str | None,
    out: Path | None,
) -> None:
    """Bars of SYMBOL, exact, with the seconds of each that are complete, healed or missing.

    Several symbols are given one after the other, or separated by commas. Times are UTC. Bars are of whole intervals:
    all that begin from --from on and before --to.
    """
    from crypto_lake.access.errors import LakeError
    from crypto_lake.access.lake import Lake

    shape = format_of(output, out)
    names = [name for symbol in symbols for name in symbol.split(",") if name]
    try:
        frames = Lake(data, exchange=exchange).batches(
            names,
            start,
            end,
            every,
            columns=_columns(columns, shape, names),
            fill="previous" if fill else None,
        )

        def work() -> None:
            with _progress(shape, out) as show, target(out, binary=shape in ("csv", "parquet")) as file:
                _write(_counted(frames, show), shape, file)

        stoppable(work)
    except LakeError as error:
        raise of_lake_error(error) from None


def _columns(asked: str | None, shape: str, symbols: list[str]) -> list[str] | None:
    if asked is None:
        several = ("window_start", "symbol", *_SHORT[1:]) if len(symbols) > 1 else _SHORT
        return list(several) if shape == "table" else None
    return None if asked == "all" else [name.strip() for name in asked.split(",")]


def _write(frames: Iterator[pl.DataFrame], shape: str, file: IO[Any]) -> None:
    first = next(frames)

    def all_frames() -> Iterator[pl.DataFrame]:
        yield first
        yield from frames

    if shape == "csv":
        # As text, and written by Python: polars tells a closed pipe in words of its own.
        parts = (
            part
            for frame in all_frames()
            for part in (frame.iter_slices(_ROWS_AT_ONCE) if len(frame) else [frame])
        )
        for number, part in enumerate(parts):
            text = part.write_csv(
                include_header=not number, datetime_format="%Y-%m-%d %H:%M:%SZ", line_terminator="\n"
            )
            file.write(text.encode())
    elif shape == "parquet":
        import pyarrow.parquet as pq

        with pq.ParquetWriter(file, first.to_arrow().schema, compression="zstd") as writer:
            for frame in all_frames():
                writer.write_table(frame.to_arrow())
    else:
        rows: Iterator[Row] = (row for frame in all_frames() for row in frame.iter_rows())
        WRITERS[shape](file, first.columns, rows)


def _progress(shape: str, out: Path | None) -> Any:
    """What is shown of a long reading: rows so far, where a terminal is there and nothing else is printed on it."""
    if not sys.stderr.isatty() or (out is None and sys.stdout.isatty() and shape != "table"):
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("reading")


def _counted(frames: Iterator[pl.DataFrame], show: Any) -> Iterator[pl.DataFrame]:
    count = 0
    for frame in frames:
        count += frame.height
        if show is not None:
            show.update(f"{count:,} rows")
        yield frame
    if show is not None:
        show.stop()  # before a table is printed
