"""`crypto-lake sql`: DuckDB's SQL over the lake, read only; its views and macros as text; a shell."""

from __future__ import annotations

import sys
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.common import CommandError, ExitCode
from crypto_lake.cli.rows_shown import (
    WRITERS,
    format_of,
    lake_options,
    of_lake_error,
    output_options,
    stoppable,
    target,
)

if TYPE_CHECKING:
    import duckdb

    from crypto_lake.access.files import LakeFiles

_ROWS_AT_ONCE = 10_000


@click.command()
@click.argument("statement", required=False)
@click.option("--show", metavar="NAME", help="Print the SQL of a view or macro, over the files themselves.")
@click.option("--symbol", "symbols", multiple=True, help="With --show: these only. May be repeated.")
@click.option("--from", "start", metavar="TIME", help="With --show: from this time on.")
@click.option("--to", "end", metavar="TIME", help="With --show: before this time.")
@click.option("--every", help="With --show: the interval, for macros that take one.")
@lake_options
@output_options
def command(
    statement: str | None,
    show: str | None,
    symbols: tuple[str, ...],
    start: str | None,
    end: str | None,
    every: str | None,
    data: str,
    exchange: str | None,
    output: str | None,
    out: Path | None,
) -> None:
    """Run a STATEMENT over the lake's views and macros; without one, a shell, or what comes from a pipe.

    Views bars_1s, bars_1m, bars_5m, bars_15m, bars_1h, bars_1d and others; macros bars, volume, volume_by_hour,
    volume_by_weekday, volume_profile, spread, gaps, coverage; of macro series the views macro, macro_versions,
    macro_known. Nothing but the lake can be read, and nothing written: --out takes the result. Of several statements the
    last one's rows are printed, in the shell each one's.
    """
    from crypto_lake.access.errors import LakeError
    from crypto_lake.access.files import LakeFiles
    from crypto_lake.access.lake import Lake
    from crypto_lake.access.places import open_place
    from crypto_lake.access.session import open_session

    try:
        if show is not None:
            lake = Lake(data, exchange=exchange)
            click.echo(f"{lake.sql_for(show, symbols or None, start, end, every=every)};")
            return
        given = [
            name
            for name, value in (("--symbol", symbols), ("--from", start), ("--to", end), ("--every", every))
            if value
        ]
        if given:
            raise CommandError(
                f"{', '.join(given)}: only with --show; say it in the statement", ExitCode.USAGE
            )
        files = LakeFiles(open_place(data))
        connection = open_session(files, read_only=True)
        if statement is None and sys.stdin.isatty():
            from crypto_lake.cli.sql_shell import shell

            if out is not None or output == "parquet":
                raise CommandError("a shell prints; for a file give a statement with --out", ExitCode.USAGE)
            shell(
                connection,
                Lake(data, exchange=exchange),
                lambda one: _run(connection, files, one, output or "table", None),
            )
            return
        shape = format_of(output, out)
        text = statement if statement is not None else sys.stdin.read()
        stoppable(lambda: _run(connection, files, text, shape, out))
    except LakeError as error:
        raise of_lake_error(error) from None


def _run(
    connection: duckdb.DuckDBPyConnection,
    files: LakeFiles,
    statement: str | duckdb.Statement,
    shape: str,
    out: Path | None,
) -> None:
    """Run statements and write the last one's rows. QueryError where DuckDB refuses them."""
    from crypto_lake.access.session import asking

    with asking(files):
        result = connection.sql(statement)
        if result is None:
            if out is not None:
                raise CommandError("the statement has no rows; nothing is written", ExitCode.USAGE)
            return
        if shape == "parquet":
            import pyarrow.parquet as pq

            reader: Any = result.to_arrow_reader(_ROWS_AT_ONCE)
            with (
                target(out, binary=True) as file,
                pq.ParquetWriter(file, reader.schema, compression="zstd") as writer,
            ):
                for batch in reader:
                    writer.write_batch(batch)
            return
        rows = result.iter_rows(_ROWS_AT_ONCE)
        first = list(islice(rows, 1))  # it runs here: a statement that fails prints nothing
        with target(out, binary=False) as file:
            WRITERS[shape](file, result.columns, chain(first, rows))
