"""`crypto-lake bigquery`: the bucket's bars as tables and views of BigQuery, printed or made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.common import CommandError, ExitCode, output_option
from crypto_lake.cli.progress import counted

if TYPE_CHECKING:
    from crypto_lake.access.bigquery import Dataset, Statement
    from crypto_lake.access.bigquery_apply import Report

_SCHEMA = 1


@click.group()
def command() -> None:
    """The bucket's bars as tables and views of BigQuery: see what is run, or have it run."""


def _where(function: Any) -> Any:
    function = click.option(
        "--macro/--no-macro",
        "macro",
        default=None,
        help="With the lake's macro series, or without.  [default: where the bucket has some; without with --symbols]",
    )(function)
    function = click.option(
        "--symbols",
        metavar="NAMES",
        help="Symbols, separated by commas.  [default: all with published days, as the bucket lists them]",
    )(function)
    function = click.option(
        "--exchange", help="Whose bars.  [default: the bucket's only one; binance with --symbols]"
    )(function)
    function = click.option(
        "--dataset", required=True, metavar="[PROJECT.]DATASET", help="Where the tables and views belong."
    )(function)
    return click.option(
        "--bucket", required=True, metavar="URL", help="The lake: gs://bucket/prefix, as publish writes it."
    )(function)


@command.command()
@_where
@output_option
def ddl(
    bucket: str, dataset: str, exchange: str | None, symbols: str | None, macro: bool | None, output: str
) -> None:
    """Print the statements, to read or to paste. With --symbols nothing is asked of anybody.

    An external table for each symbol, the view bars_1s over them, bars_1m to bars_1d as in Python and SQL, volume_1h,
    volume_1d, volume_by_hour, volume_by_weekday, volume_profile_1d, spread_1h, spread_1d, gaps and coverage; and where the
    lake keeps macro series an external table for them all, and the views macro, macro_versions and macro_known.
    """
    import json

    from crypto_lake.access.bigquery import script

    _, found = _statements(bucket, dataset, exchange, symbols, macro)
    if output == "json":
        rows = [{"kind": one.kind, "name": one.name, "sql": one.sql} for one in found]
        click.echo(json.dumps({"schema": _SCHEMA, "statements": rows}))
        return
    click.echo(script(found))


@command.command()
@_where
@click.option("--dry-run", is_flag=True, help="Change nothing: have BigQuery check what it can check.")
@click.option(
    "--create-dataset",
    "create_in",
    metavar="LOCATION",
    help="Make the dataset there if it is missing: EU, US …",
)
@click.option("--replace", is_flag=True, help="Also replace tables and views that crypto-lake did not make.")
@output_option
def apply(
    bucket: str,
    dataset: str,
    exchange: str | None,
    symbols: str | None,
    macro: bool | None,
    dry_run: bool,
    create_in: str | None,
    replace: bool,
    output: str,
) -> int:
    """Make the tables and views in BigQuery, with Application Default Credentials. Run again it makes the same again.

    New days are seen without it. It is run again for a new symbol, and after an update of this program. Exit code 4 where
    BigQuery does not answer.
    """
    import msgspec

    from crypto_lake.access.bigquery_apply import BigQueryError, open_client
    from crypto_lake.access.bigquery_apply import apply as run

    where, found = _statements(bucket, dataset, exchange, symbols, macro)
    try:
        report = run(
            open_client(where.project),
            where,
            found,
            bucket=bucket,
            dry_run=dry_run,
            create_in=create_in,
            replace=replace,
            progress=_show if sys.stderr.isatty() else None,
        )
    except BigQueryError as error:
        code = (
            ExitCode.UNAVAILABLE if error.transient else ExitCode.USAGE if error.usage else ExitCode.FAILURE
        )
        raise CommandError(str(error), code) from None
    if output == "json":
        document: dict[str, Any] = {"schema": _SCHEMA, **msgspec.to_builtins(report)}
        click.echo(msgspec.json.encode(document).decode())
    else:
        _tell(report)
    return ExitCode.OK


def _statements(
    bucket: str, dataset: str, exchange: str | None, symbols: str | None, macro: bool | None
) -> tuple[Dataset, list[Statement]]:
    from crypto_lake.access.bigquery import dataset_of, statements
    from crypto_lake.access.errors import LakeError
    from crypto_lake.cli.rows_shown import of_lake_error

    try:
        where = dataset_of(dataset)
        if symbols is not None:
            names = [name.strip() for name in symbols.split(",") if name.strip()]
            return where, statements(bucket, where, names, exchange or "binance", macro=bool(macro))
        # Refused before a bucket is asked for it.
        statements(bucket, where, ["A"], exchange or "binance")
        from crypto_lake.access.lake import Lake

        lake = Lake(bucket, exchange=exchange)
        with_macro = bool(lake.macro_series()) if macro is None else macro
        return where, statements(bucket, where, lake.symbols(), lake.exchange, macro=with_macro)
    except LakeError as error:
        raise of_lake_error(error) from None


def _show(done: int, of: int, name: str) -> None:
    click.echo(f"\r\x1b[K{done} of {of}: {name}", nl=False, err=True)
    if done == of - 1:
        click.echo("\r\x1b[K", nl=False, err=True)


def _tell(report: Report) -> None:
    for one in report.applied:
        unchecked = "" if one.checked else " (not checked: what it reads is not there yet)"
        click.echo(f"{one.outcome.replace('_', ' '):<13} {one.kind} {one.name}{unchecked}")
    tables = sum(one.kind == "table" for one in report.applied)
    made = "; the dataset is new" if report.made_dataset else ""
    tense = "would be there" if report.dry_run else "are there"
    click.echo(
        f"{counted(tables, 'table')} and {counted(len(report.applied) - tables, 'view')} {tense}: {report.dataset} in "
        f"{report.location}{made}"
    )
