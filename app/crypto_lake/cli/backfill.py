"""`crypto-lake backfill`: trades of past days, from the exchange's daily archives or over REST, into raw."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.bucket import disk_limits
from crypto_lake.cli.common import CommandError, ExitCode, lake_options, load_settings
from crypto_lake.cli.past import Filled, Past
from crypto_lake.cli.progress import counted
from crypto_lake.cli.selection import check_selection, clock_of, read_day

if TYPE_CHECKING:
    from crypto_lake.completeness.backfill import Source
    from crypto_lake.completeness.backfill_day import DayRecord

_SCHEMA = 1
_DAY = "YYYY-MM-DD"


@click.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL...]")
@click.option("--from", "first", default=None, metavar=_DAY, help="The first day (UTC).")
@click.option("--to", "last", default=None, metavar=_DAY, help="The last day.  [default: the first]")
@click.option(
    "--inexact",
    is_flag=True,
    help="The days of which trades are known by sums alone, or could not be had, from their archives. "
    "Symbols and days narrow it down.",
)
@click.option(
    "--source",
    type=click.Choice(["auto", "archive", "rest"]),
    default="auto",
    show_default=True,
    help="auto: a day's archive where there is one, and single trades over REST for the rest.",
)
@click.option("--again", is_flag=True, help="Look at days, too, that were had whole before.")
@lake_options
def command(
    symbols: tuple[str, ...],
    first: str | None,
    last: str | None,
    inexact: bool,
    source: Source,
    again: bool,
    output: str,
    **options: Any,
) -> int:
    """Fetch the trades of past days that are not in raw, into files of their own.

    It may run beside the collector, and shares its budget of REST weight. Cut off anywhere, the same command goes on
    where it was. The next `transform` makes the bars.
    """
    from crypto_lake.exchanges import EXCHANGES
    from crypto_lake.lake import durable, locks
    from crypto_lake.lake.layout import Layout
    from crypto_lake.upkeep.disk_budget import look, refusal

    span = _span(symbols, first, last, inexact, source)
    config = load_settings(options).config
    if config.collector.exchange not in EXCHANGES:
        known = ", ".join(sorted(EXCHANGES))
        raise CommandError(
            f"collector.exchange: {config.collector.exchange} is not known; known are {known}", ExitCode.USAGE
        )
    layout = Layout(Path(config.data))
    durable.make_directory(layout.root)
    if full := refusal(look(layout.root, disk_limits(config)), disk_limits(config)):
        raise CommandError(full)
    past = Past(config, layout, EXCHANGES[config.collector.exchange], clock_of(config, layout))
    with locks.hold(layout.locks, "backfill"):
        if inexact:
            chosen = _chosen(past.inexact(), symbols, span)
            filled = asyncio.run(past.fill_inexact(chosen, again=again))
        else:
            days = _days_of(span)
            filled = asyncio.run(past.fill(dict.fromkeys(symbols, days), source=source, again=again))
    missing = sum(day.missing for days in filled.done.values() for day in days)
    if output == "json":
        _document(filled, missing)
    else:
        _summary(filled, missing)
    if filled.failed:
        raise CommandError("\n".join(f"{what}: {why}" for what, why in filled.failed.items()))
    return ExitCode.GAPS if missing else ExitCode.OK


def _span(
    symbols: tuple[str, ...], first: str | None, last: str | None, inexact: bool, source: str
) -> tuple[str, str] | None:
    """The first and the last day; None: whichever there are. Raises CommandError for what can't be."""
    if not inexact and (not symbols or first is None):
        raise CommandError(
            "name symbols, and --from with the first day; or --inexact for the days of which trades are known by sums "
            "alone",
            ExitCode.USAGE,
        )
    if inexact and source == "rest":
        raise CommandError(
            "--inexact takes what archives have; it can't be with --source rest", ExitCode.USAGE
        )
    if first is None:
        if last is not None:
            raise CommandError("--to needs --from", ExitCode.USAGE)
        check_selection(symbols, ())
        return None
    check_selection(symbols, ())
    read_day("--from", first)
    if last is None:
        return first, first
    read_day("--to", last)
    if last < first:
        raise CommandError(f"--to {last} is before --from {first}", ExitCode.USAGE)
    return first, last


def _days_of(span: tuple[str, str] | None) -> list[str]:
    from crypto_lake.completeness.backfill_day import days_of

    assert span is not None
    return list(days_of(*span))


def _chosen(
    found: dict[str, list[str]], symbols: tuple[str, ...], span: tuple[str, str] | None
) -> dict[str, list[str]]:
    return {
        symbol: [day for day in days if span is None or span[0] <= day <= span[1]]
        for symbol, days in found.items()
        if not symbols or symbol in symbols
    }


def _document(filled: Filled, missing: int) -> None:
    import msgspec

    document = {
        "schema": _SCHEMA,
        "symbols": {
            symbol: [msgspec.to_builtins(day) for day in days] for symbol, days in filled.done.items()
        },
        "fetched": sum(day.fetched for days in filled.done.values() for day in days),
        "missing": missing,
        "failed": filled.failed,
        "waiting": filled.waiting,
    }
    click.echo(msgspec.json.encode(document).decode())


def _told(day: DayRecord) -> str:
    source = f" from {day.source}" if day.fetched else ""
    missing = f", {counted(day.missing, 'id')} missing" if day.missing else ""
    if not day.whole and not day.missing:
        missing = ", not whole yet"
    return (
        f"{counted(day.trades, 'trade')}, {day.fetched:,} of them fetched{source} "
        f"into {counted(day.files, 'file')}{missing}"
    )


def _summary(filled: Filled, missing: int) -> None:
    for symbol, listed in filled.done.items():
        for day in listed:
            click.echo(f"{symbol:<12} {day.day}  {_told(day)}")
    for what, why in filled.waiting.items():
        click.echo(f"{what}: {why}")
    days = [day for listed in filled.done.values() for day in listed]
    fetched = sum(day.fetched for day in days)
    tail = f", {counted(missing, 'id')} missing" if missing else ""
    hint = "; `crypto-lake transform` makes the bars" if fetched else ""
    click.echo(f"{counted(fetched, 'trade')} fetched, {counted(len(days), 'day')} looked at{tail}{hint}")
