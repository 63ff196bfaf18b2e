"""`crypto-lake compact`: finished hours sealed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crypto_lake.cli.common import CommandError, complain, data_option, output_option
from crypto_lake.cli.progress import counted, size
from crypto_lake.cli.selection import check_selection, day_option, existing_lake, lake_clock, symbol_option

if TYPE_CHECKING:
    from crypto_lake.lake.layout import Layout
    from crypto_lake.upkeep.seal_report import CompactReport

_SHOWN = 20


@click.command()
@data_option
@symbol_option
@day_option
@output_option
def command(data: Path | None, symbols: tuple[str, ...], days: tuple[str, ...], output: str) -> None:
    """Seal finished hours: join their parts into one file, read it back, write its manifest.

    The parts go only after that. It may run beside the collector, and be interrupted anywhere: the next run completes
    it. What is damaged is put into quarantine and counted, what is not the lake's is told and left alone; neither is
    a failure.
    """
    import msgspec

    check_selection(symbols, days)
    report = _compact(existing_lake(data), symbols, days)
    if output == "json":
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print(report)
    if report.failed:
        raise CommandError("\n".join(f"{name}: {why}" for name, why in report.failed.items()))


def _compact(layout: Layout, symbols: tuple[str, ...], days: tuple[str, ...]) -> CompactReport:
    from crypto_lake.upkeep.seal import Progress, compact

    chosen = (symbols or None, days or None)
    if not sys.stderr.isatty():
        return compact(layout, clock=lake_clock(layout), symbols=chosen[0], days=chosen[1])
    from rich.console import Console
    from rich.status import Status

    with Status("looking", console=Console(stderr=True)) as status:

        def show(progress: Progress) -> None:
            status.update(
                f"{progress.symbol} {progress.day}, {counted(progress.hours_sealed, 'hour')} sealed, "
                f"{size(progress.bytes_read)} read"
            )

        return compact(layout, clock=lake_clock(layout), symbols=chosen[0], days=chosen[1], progress=show)


def _print(report: CompactReport) -> None:
    for hour in report.sealed[:_SHOWN]:
        notes = [f"{hour.missing_ids:,} ids missing"] if hour.missing_ids else []
        notes += [f"{hour.damaged_bytes:,} damaged bytes put aside"] if hour.damaged_bytes else []
        tail = f"  ({', '.join(notes)})" if notes else ""
        made_of = f"{hour.parts:>3} parts" if hour.parts else "as it is "
        click.echo(f"{hour.path:<56} {made_of}  {hour.lines:>10,} lines  {size(hour.bytes):>8}{tail}")
    if len(report.sealed) > _SHOWN:
        click.echo(f"and {len(report.sealed) - _SHOWN:,} more")
    salvaged = f", {counted(report.salvaged_parts, 'part')} salvaged" if report.salvaged_parts else ""
    waiting = f", {counted(report.hours_waiting, 'hour')} not finished" if report.hours_waiting else ""
    click.echo(
        f"{counted(report.hours_sealed, 'hour')} sealed from {counted(report.parts_sealed, 'part')} "
        f"({size(report.bytes_sealed)}) in {report.seconds:.1f} s{salvaged}{waiting}"
    )
    for item in report.left_alone[:_SHOWN]:
        complain(f"{item.path}: {item.problem}")
    if len(report.left_alone) > _SHOWN:
        complain(f"and {len(report.left_alone) - _SHOWN} more; -o json has all")
