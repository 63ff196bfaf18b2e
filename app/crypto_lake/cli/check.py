"""`crypto-lake check`: bars held against the exchange's own klines."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.bucket import existing_layout
from crypto_lake.cli.common import CommandError, ExitCode, complain, lake_options, load_settings
from crypto_lake.cli.outcome import leave, outcome_option
from crypto_lake.cli.past import Filled, archives_of_sums
from crypto_lake.cli.progress import counted
from crypto_lake.cli.selection import check_selection, clock_of, day_option, symbol_option

if TYPE_CHECKING:
    from crypto_lake.config.schema import Config
    from crypto_lake.lake.layout import Layout
    from crypto_lake.upkeep.check_report import CheckReport

_UNLIKE_SHOWN = 5


@click.command()
@symbol_option
@day_option
@click.option(
    "--again",
    is_flag=True,
    help="Ask the exchange for all of it: what was checked before, and what was streamed.",
)
@click.option(
    "--reports/--no-reports",
    default=True,
    help="Write the report of each day that is finished, as report does.  [default: reports]",
)
@click.option(
    "--archives/--no-archives",
    default=True,
    help="First fetch the exchange's archives of days that are known by sums alone, as backfill --inexact does. "
    " [default: archives]",
)
@click.option(
    "--patience",
    "patience_minutes",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    envvar="CHECK_PATIENCE",
    help="Minutes to wait in all, where the lake's share of the exchange's weight is used.",
)
@outcome_option
@lake_options
def command(
    symbols: tuple[str, ...],
    days: tuple[str, ...],
    again: bool,
    reports: bool,
    archives: bool,
    patience_minutes: float,
    outcome: Path | None,
    output: str,
    **options: Any,
) -> int:
    """Hold bars against the exchange's own klines, of the last eight days or of those named.

    Klines that were collected (the stream kline_1s) come first; the exchange is asked for seconds that have none, and for
    those that differ from theirs. Each second gets a verdict, kept beside the bars: verified, mismatch with the
    difference, or unverifiable. What was checked and has not changed is not asked for again. A symbol that the exchange
    says it no longer has is named, and is no failure. Exit code 3 where a bar differs and the ledger does not explain it,
    4 where the exchange could not be asked.
    """
    import msgspec

    from crypto_lake.lake import tasks
    from crypto_lake.upkeep.check_report import figures

    check_selection(symbols, days)
    config = load_settings(options).config
    layout = existing_layout(config)
    # What status and alerts go by is a run over all: a look at one day neither raises nor clears them.
    reported = (
        contextlib.nullcontext(tasks.Outcome())
        if symbols or days
        else tasks.reported(layout, "check", time.time_ns)
    )
    with reported as task:
        filled = archives_of_sums(config, layout, symbols, days) if archives else Filled()
        report = _check(layout, config, symbols, days, again=again, patience_seconds=patience_minutes * 60)
        report = msgspec.structs.replace(report, archives=_named(filled))
        written = _write_reports(layout, config, report) if reports else []
        wrong = [f"{name}: {why}" for name, why in report.failed.items()]
        task.problem = "; ".join([*wrong, *([report.problem] if report.problem else [])])
        task.figures = figures([report])
        task.note = report.note
    if outcome is not None:
        _leave(outcome, report, task.problem)
    for what, why in filled.failed.items():
        complain(f"the archive of {what}: {why}")
    if output == "json":
        click.echo(msgspec.json.encode(report).decode())
    else:
        _print_archives(filled)
        _print(report, written)
    if wrong:
        raise CommandError("could not be checked: " + "; ".join(wrong))
    if report.unexplained:
        return ExitCode.GAPS
    if report.problem:
        raise CommandError(f"not all could be asked for: {report.problem}", ExitCode.UNAVAILABLE)
    return ExitCode.OK


def _check(
    layout: Layout,
    config: Config,
    symbols: tuple[str, ...],
    days: tuple[str, ...],
    *,
    again: bool,
    patience_seconds: float,
) -> CheckReport:
    from crypto_lake.completeness.asking import Asker
    from crypto_lake.completeness.budget_file import open_budget
    from crypto_lake.exchanges import EXCHANGES
    from crypto_lake.upkeep.check import Progress, check

    exchange = EXCHANGES[config.collector.exchange]
    endpoint = config.collector.endpoint
    rest = (endpoint.rest or exchange.rest).rstrip("/")
    budget = open_budget(
        layout, exchange.name, config.collector.weight_per_minute, exchange.limits.weight_per_minute
    )
    clock = clock_of(config, layout)

    async def run(progress: Any) -> CheckReport:
        asker = Asker(exchange, rest, budget, _tls(endpoint.ca_file))
        try:
            return await check(
                layout,
                exchange.name,
                asker,
                clock=clock,
                symbols=symbols or None,
                days=days or None,
                again=again,
                patience_seconds=patience_seconds,
                progress=progress,
            )
        finally:
            await asker.close()

    if not sys.stderr.isatty():
        return asyncio.run(run(lambda _: None))
    from rich.console import Console
    from rich.status import Status

    with Status("checking", console=Console(stderr=True)) as status:

        def show(at: Progress) -> None:
            status.update(f"checking {at.symbol} {at.day}, {at.days_done} of {at.days} days done")

        return asyncio.run(run(show))


def _leave(path: Path, report: CheckReport, problem: str) -> None:
    from crypto_lake.model.task_outcome import TaskOutcome

    unlike = f"{counted(report.unexplained, 'bar')} unlike the exchange's" if report.unexplained else ""
    told = "; ".join(filter(None, (unlike, problem)))
    leave(path, TaskOutcome(task="check", ok=not told, problem=told))


def _tls(ca_file: str) -> Any:
    import ssl

    from crypto_lake.capture.tls import tls_context

    try:
        return tls_context(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise CommandError(f"endpoint.ca_file {ca_file} can't be used: {error}", ExitCode.USAGE) from None


def _write_reports(layout: Layout, config: Config, report: CheckReport) -> list[Path]:
    """Of finished days whose verdicts are younger than their report."""
    from crypto_lake.upkeep.day_report import is_due, write_report

    written: list[Path] = []
    for day in report.days:
        if day.finished and is_due(layout, day.exchange, day.symbol, day.day):
            written += write_report(layout, day.exchange, day.symbol, day.day)
    return written


def _named(filled: Filled) -> list[str]:
    return [f"{symbol} {day.day}" for symbol, done in filled.done.items() for day in done]


def _print_archives(filled: Filled) -> None:
    for symbol, done in filled.done.items():
        for day in done:
            click.echo(
                f"{symbol:<12} {day.day}  {counted(day.fetched, 'trade')} from the archive; "
                "the next transform makes their bars"
            )


def _print(report: CheckReport, written: list[Path]) -> None:
    for day in report.days:
        notes = [f"{count:,} {what}" for what, count in day.explained.items()]
        if day.by_stream:
            notes.append(f"{day.by_stream:,} by the stream")
        if day.revised:
            notes.append(f"{day.revised:,} klines told otherwise since")
        if day.unverifiable:
            notes.append(f"{day.unverifiable:,} unverifiable")
        tail = f"  ({', '.join(notes)})" if notes else ""
        differ = f"  {day.unexplained:,} DIFFER" if day.unexplained else ""
        click.echo(
            f"{day.symbol:<12} {day.day}  {day.seconds:>6,} seconds  {day.verified:>6,} verified{differ}{tail}"
        )
        for unlike in day.unlike[:_UNLIKE_SHOWN]:
            fields = ", ".join(f"{name} {by}" for name, by in unlike.fields.items())
            click.echo(f"  {unlike.second}: {fields or unlike.reason}")
    for path in written:
        click.echo(f"wrote {path}")
    for symbol, what in report.gone.items():
        click.echo(f"{symbol:<12} is gone: {what}; take it out of the symbols that are collected")
    unlike = report.unexplained
    hint = (
        f"; {counted(unlike, 'bar')} unlike the exchange's: `crypto-lake explain` shows one" if unlike else ""
    )
    click.echo(
        f"{report.exchange}: {counted(len(report.days), 'day')}, {counted(report.requests, 'request')} of weight "
        f"{report.weight:,} in {report.seconds:.1f} s{hint}"
    )
