"""`crypto-lake transform`: raw to one-second bars, whatever is new; then finished hours are sealed."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.bucket import disk_limits, existing_layout
from crypto_lake.cli.common import CommandError, ExitCode, lake_options, load_settings
from crypto_lake.cli.progress import counted
from crypto_lake.cli.selection import check_selection, clock_of, day_option, symbol_option

if TYPE_CHECKING:
    from crypto_lake.bars.report import TransformReport
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.clock import Clock


@click.command()
@click.option("--exchange", default=None, help="The exchange.  [default: every one with raw]")
@symbol_option
@day_option
@click.option("--rebuild", is_flag=True, help="Make the bars again even where nothing is new.")
@click.option(
    "--memory-mb",
    type=click.IntRange(min=200),
    default=None,
    help="How much memory it may take: so many processes share the symbols as have room in it.  "
    "[default: transform.memory_mb, 400]",
)
@click.option(
    "--seal/--no-seal", default=True, help="Seal finished hours after it, as compact does.  [default: seal]"
)
@lake_options
def command(
    exchange: str | None,
    symbols: tuple[str, ...],
    days: tuple[str, ...],
    rebuild: bool,
    memory_mb: int | None,
    seal: bool,
    output: str,
    **options: Any,
) -> None:
    """Turn raw parts into one-second bars, then seal the hours that are finished.

    Hours with new raw are made again, all others stand. It may run beside the collector. What could not be read is
    put into quarantine and counted; that is no failure.
    """
    import msgspec

    from crypto_lake.exchanges import EXCHANGES
    from crypto_lake.lake import tasks
    from crypto_lake.upkeep.disk_budget import look, refusal

    check_selection(symbols, days)
    if exchange is not None and exchange not in EXCHANGES:
        raise CommandError(
            f"--exchange {exchange}: unknown; known: {', '.join(sorted(EXCHANGES))}", ExitCode.USAGE
        )
    config = load_settings(options).config
    layout = existing_layout(config)
    names = [exchange] if exchange is not None else [n for n in layout.exchanges() if n in EXCHANGES]
    clock = clock_of(config, layout)
    arguments: dict[str, Any] = {
        "clock": clock,
        "symbols": symbols or None,
        "days": days or None,
        "rebuild": rebuild,
        "memory_mb": memory_mb or config.transform.memory_mb,
    }
    full = refusal(look(layout.root, disk_limits(config)), disk_limits(config))
    with tasks.reported(layout, "transform", time.time_ns) as task:
        reports = [] if full else [_transform(layout, name, arguments) for name in names]
        failed = [f"{name}: {why}" for report in reports for name, why in report.failed.items()]
        task.problem = full or "; ".join(failed)
        task.figures = _figures(reports)
    if output == "json":
        click.echo(msgspec.json.encode(reports).decode())
    else:
        for report in reports:
            _print(report)
        if not reports and not full:
            click.echo(f"{layout.root}: no raw yet")
    if seal:
        _seal(layout, clock, symbols, days, told=output != "json")
    if full:
        raise CommandError(full, ExitCode.UNAVAILABLE)
    if failed:
        raise CommandError("bars could not be made of " + "; ".join(failed))


def _transform(layout: Layout, exchange: str, arguments: dict[str, Any]) -> TransformReport:
    from crypto_lake.bars.transform import Progress, transform

    if not sys.stderr.isatty():
        return transform(layout, exchange, **arguments)
    from rich.console import Console
    from rich.status import Status

    with Status(f"{exchange}: reading", console=Console(stderr=True)) as status:

        def show(progress: Progress) -> None:
            status.update(
                f"{exchange}: {progress.symbol}, {progress.symbols_done} symbols done, "
                f"{progress.bytes_read / 1e6:,.0f} MB of raw read"
            )

        return transform(layout, exchange, progress=show, **arguments)


def _figures(reports: list[TransformReport]) -> dict[str, Any]:
    return {
        name: sum(getattr(report, name) for report in reports)
        for name in ("rows", "trades", "hours_made", "unreadable", "missing_ids", "files_read", "bytes_read")
    }


def _seal(
    layout: Layout, clock: Clock, symbols: tuple[str, ...], days: tuple[str, ...], *, told: bool
) -> None:
    """After the bars, not before: the parts are known then, and sealing them makes nothing to be read again."""
    from crypto_lake.upkeep.seal import compact

    report = compact(layout, clock=clock, symbols=symbols or None, days=days or None)
    if told and report.hours_sealed:
        click.echo(
            f"{counted(report.hours_sealed, 'hour')} sealed from {counted(report.parts_sealed, 'part')}"
        )
    if report.failed:
        raise CommandError(
            "could not be sealed: " + "; ".join(f"{name}: {why}" for name, why in report.failed.items())
        )


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
