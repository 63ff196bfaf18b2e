"""`crypto-lake transform`: raw to one-second bars, whatever is new."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crypto_lake.cli.common import CommandError, ExitCode, data_option, output_option

if TYPE_CHECKING:
    from crypto_lake.bars.report import TransformReport
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.clock import Clock


@click.command()
@data_option
@click.option("--exchange", default=None, help="The exchange.  [default: every one with raw]")
@click.option("--symbol", "symbols", multiple=True, help="Only this symbol. May be repeated.")
@click.option("--day", "days", multiple=True, metavar="YYYY-MM-DD", help="Only this day. May be repeated.")
@click.option("--rebuild", is_flag=True, help="Make the bars again even where nothing is new.")
@click.option(
    "--memory-mb",
    type=click.IntRange(min=200),
    default=400,
    show_default=True,
    help="How much memory it may take: so many processes share the symbols as have room in it.",
)
@output_option
def command(
    data: Path | None,
    exchange: str | None,
    symbols: tuple[str, ...],
    days: tuple[str, ...],
    rebuild: bool,
    memory_mb: int,
    output: str,
) -> None:
    """Turn raw parts into one-second bars.

    Hours with new raw are made again, all others stand. It may run beside the collector. What could not be read is
    put into quarantine and counted; that is no failure.
    """
    from datetime import date

    import msgspec

    from crypto_lake.exchanges import EXCHANGES
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.symbols import InvalidSymbolError, validate_symbol

    for day in days:
        try:
            well_formed = date.fromisoformat(day).isoformat() == day
        except ValueError:
            well_formed = False
        if not well_formed:
            raise CommandError(f"--day {day}: expected a day such as 2024-08-08", ExitCode.USAGE)
    for symbol in symbols:
        try:
            validate_symbol(symbol)
        except InvalidSymbolError as error:
            raise CommandError(f"--symbol {symbol}: {error}", ExitCode.USAGE) from None
    if exchange is not None and exchange not in EXCHANGES:
        raise CommandError(
            f"--exchange {exchange}: unknown; known: {', '.join(sorted(EXCHANGES))}", ExitCode.USAGE
        )
    root = data or Path("data")
    if not root.is_dir():
        raise CommandError(f"{root} does not exist; --data names the lake's directory", ExitCode.USAGE)
    layout = Layout(root)
    names = [exchange] if exchange is not None else [n for n in layout.exchanges() if n in EXCHANGES]
    reports = [_transform(layout, name, symbols, days, rebuild, memory_mb) for name in names]
    if output == "json":
        click.echo(msgspec.json.encode(reports).decode())
    else:
        for report in reports:
            _print(report)
        if not reports:
            click.echo(f"{root}: no raw yet")
    failed = [f"{name}: {why}" for report in reports for name, why in report.failed.items()]
    if failed:
        raise CommandError("bars could not be made of " + "; ".join(failed))


def _transform(
    layout: Layout,
    exchange: str,
    symbols: tuple[str, ...],
    days: tuple[str, ...],
    rebuild: bool,
    memory_mb: int,
) -> TransformReport:
    from crypto_lake.bars.transform import Progress, transform

    arguments = {
        "clock": _clock(layout),
        "symbols": symbols or None,
        "days": days or None,
        "rebuild": rebuild,
        "memory_mb": memory_mb,
    }
    if not sys.stderr.isatty():
        return transform(layout, exchange, **arguments)  # pyright: ignore[reportArgumentType]
    from rich.console import Console
    from rich.status import Status

    with Status(f"{exchange}: reading", console=Console(stderr=True)) as status:

        def show(progress: Progress) -> None:
            status.update(
                f"{exchange}: {progress.symbol}, {progress.symbols_done} symbols done, "
                f"{progress.bytes_read / 1e6:,.0f} MB of raw read"
            )

        return transform(layout, exchange, progress=show, **arguments)  # pyright: ignore[reportArgumentType]


def _clock(layout: Layout) -> Clock:
    """The lake's clock: a simulator's where the collector follows one, else the system's."""
    import msgspec

    from crypto_lake.model.clock import ClockSetting, ExchangeClock, SystemClock

    try:
        return ExchangeClock(msgspec.json.decode(layout.clock.read_bytes(), type=ClockSetting))
    except (FileNotFoundError, msgspec.MsgspecError):
        return SystemClock()


def _print(report: TransformReport) -> None:
    for day in report.days:
        notes = [
            f"{count:,} {what}"
            for count, what in (
                (day.missing_ids, "ids missing"),
                (day.conflicts, "conflicting copies"),
                (day.hours_kept_without_raw, "hours kept without raw"),
            )
            if count
        ]
        tail = f"  ({', '.join(notes)})" if notes else ""
        click.echo(
            f"{day.symbol:<12} {day.day}  {day.rows:>6,} bars  {day.trades:>10,} trades  "
            f"{day.hours_made:>2} h made{'  final' if day.final else ''}{tail}"
        )
    unreadable = f", {report.unreadable:,} unreadable put into quarantine" if report.unreadable else ""
    click.echo(
        f"{report.exchange}: {report.symbols} symbols, {report.hours_made} hours made, "
        f"{report.files_read:,} files read in {report.seconds:.1f} s{unreadable}"
    )
