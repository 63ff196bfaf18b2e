"""`crypto-lake backfill`: trades of past days, from the exchange's daily archives or over REST, into raw."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crypto_lake.cli.bucket import disk_limits
from crypto_lake.cli.common import (
    CommandError,
    ExitCode,
    config_options,
    data_option,
    load_settings,
    output_option,
)
from crypto_lake.cli.progress import counted, size
from crypto_lake.cli.selection import check_selection, clock_of

if TYPE_CHECKING:
    from crypto_lake.completeness.backfill import Backfill, DayRecord, Progress, Source
    from crypto_lake.config.schema import Config
    from crypto_lake.exchanges import Exchange
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.clock import Clock

_SCHEMA = 1
_DAY = "YYYY-MM-DD"


@click.command()
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@click.option("--from", "first", required=True, metavar=_DAY, help="The first day (UTC).")
@click.option("--to", "last", default=None, metavar=_DAY, help="The last day.  [default: the first]")
@click.option(
    "--source",
    type=click.Choice(["auto", "archive", "rest"]),
    default="auto",
    show_default=True,
    help="auto: a day's archive where there is one, and single trades over REST for the rest.",
)
@click.option("--again", is_flag=True, help="Look at days, too, that were had whole before.")
@data_option
@config_options
@output_option
def command(
    symbols: tuple[str, ...],
    first: str,
    last: str | None,
    source: Source,
    again: bool,
    data: Path | None,
    output: str,
    **options: Any,
) -> int:
    """Fetch the trades of past days that are not in raw, into files of their own.

    It may run beside the collector, and shares its budget of REST weight. Cut off anywhere, the same command goes on
    where it was. The next `transform` makes the bars.
    """
    import msgspec

    from crypto_lake.exchanges import EXCHANGES
    from crypto_lake.lake import durable, locks
    from crypto_lake.lake.layout import Layout
    from crypto_lake.upkeep.disk_budget import look, refusal

    last = last or first
    check_selection(symbols, (first, last))
    if last < first:
        raise CommandError(f"--to {last} is before --from {first}", ExitCode.USAGE)
    config = load_settings(options | {"data": data}).config
    if config.collector.exchange not in EXCHANGES:
        known = ", ".join(sorted(EXCHANGES))
        raise CommandError(
            f"collector.exchange: {config.collector.exchange} is not known; known are {known}", ExitCode.USAGE
        )
    layout = Layout(Path(config.data))
    durable.make_directory(layout.root)
    if full := refusal(look(layout.root, disk_limits(config)), disk_limits(config)):
        raise CommandError(full)
    clock = clock_of(config, layout)
    with locks.hold(layout.locks, "backfill"):
        run = _Run(config, layout, EXCHANGES[config.collector.exchange], clock, source, again)
        done, failed = asyncio.run(run.fill(symbols, first, last))
    missing = sum(day.missing for days in done.values() for day in days)
    if output == "json":
        document = {
            "schema": _SCHEMA,
            "symbols": {symbol: [msgspec.to_builtins(day) for day in days] for symbol, days in done.items()},
            "fetched": sum(day.fetched for days in done.values() for day in days),
            "missing": missing,
            "failed": failed,
        }
        click.echo(msgspec.json.encode(document).decode())
    else:
        _summary(done, missing)
    if failed:
        raise CommandError("\n".join(f"{what}: {why}" for what, why in failed.items()))
    return ExitCode.GAPS if missing else ExitCode.OK


class _Run:
    def __init__(
        self,
        config: Config,
        layout: Layout,
        exchange: Exchange,
        clock: Clock,
        source: Source,
        again: bool,
    ) -> None:
        self._config, self._layout, self._exchange, self._clock = config, layout, exchange, clock
        self._source: Source = source
        self._again = again

    async def fill(
        self, symbols: Sequence[str], first: str, last: str
    ) -> tuple[dict[str, list[DayRecord]], dict[str, str]]:
        """What came of each day, and which days failed, with the reason."""
        import aiohttp

        from crypto_lake.capture.healing import ways
        from crypto_lake.capture.tls import tls_context
        from crypto_lake.completeness import archive
        from crypto_lake.completeness.backfill import Backfill
        from crypto_lake.completeness.budget_file import open_budget
        from crypto_lake.completeness.heal_rest import PastRest

        collector, exchange = self._config.collector, self._exchange
        tls = tls_context(collector.endpoint.ca_file)
        limit = exchange.limits.weight_per_minute
        budget = open_budget(self._layout, exchange.name, collector.weight_per_minute, limit)
        folder = self._layout.state / "backfill"
        archive.remove_old(folder)
        rest = PastRest(exchange.past, budget, tls)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls if tls is not None else True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60),
        )
        try:
            with _Shown() as shown:
                backfill = Backfill(
                    self._layout,
                    exchange,
                    self._clock,
                    rest,
                    ways(exchange, collector.endpoint.rest),
                    archive.Archives(exchange.past, collector.endpoint.archive, session, folder),
                    f"rest-{self._layout.collector_id().rpartition('-')[2]}-backfill",
                    source=self._source,
                    progress=shown.progress,
                )
                return await self._fill(backfill, symbols, first, last)
        finally:
            await rest.close()
            await session.close()

    async def _fill(
        self, backfill: Backfill, symbols: Sequence[str], first: str, last: str
    ) -> tuple[dict[str, list[DayRecord]], dict[str, str]]:
        import msgspec

        from crypto_lake.completeness.backfill import BackfillError, days_of

        done: dict[str, list[DayRecord]] = {}
        failed: dict[str, str] = {}
        today = _day_of(self._clock)
        for symbol in dict.fromkeys(symbols):
            known = {} if self._again else backfill.done(symbol)
            done[symbol] = []
            for day in days_of(first, last):
                if day in known:
                    done[symbol].append(msgspec.structs.replace(known[day], fetched=0, files=0))
                    continue
                if day > today:
                    failed[f"{symbol} {day}"] = "the day has not begun"
                    break
                try:
                    done[symbol].append(await backfill.fill(symbol, day))
                except BackfillError as error:
                    failed[f"{symbol} {day}"] = str(error)
        return done, failed


def _day_of(clock: Clock) -> str:
    from crypto_lake.model.clock import Hour

    return Hour.of_ns(clock.now_ns()).day


def _told(day: DayRecord) -> str:
    source = f" from {day.source}" if day.fetched else ""
    missing = f", {counted(day.missing, 'id')} missing" if day.missing else ""
    return (
        f"{counted(day.trades, 'trade')}, {day.fetched:,} of them fetched{source} "
        f"into {counted(day.files, 'file')}{missing}"
    )


def _summary(done: dict[str, list[DayRecord]], missing: int) -> None:
    for symbol, listed in done.items():
        for day in listed:
            click.echo(f"{symbol:<12} {day.day}  {_told(day)}")
    days = [day for listed in done.values() for day in listed]
    fetched = sum(day.fetched for day in days)
    tail = f", {counted(missing, 'id')} missing" if missing else ""
    hint = "; `crypto-lake transform` makes the bars" if fetched else ""
    click.echo(f"{counted(fetched, 'trade')} fetched, {counted(len(days), 'day')} looked at{tail}{hint}")


class _Shown:
    """What it does now, on a terminal."""

    def __init__(self) -> None:
        self._update: Callable[[str], None] = lambda _: None
        self._end: Callable[[], None] = lambda: None

    def __enter__(self) -> _Shown:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.status import Status

            status = Status("looking", console=Console(stderr=True))
            status.start()
            self._update, self._end = status.update, status.stop
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def progress(self, now: Progress) -> None:
        came = f", {size(now.bytes)}" if now.bytes else ""
        self._update(
            f"{now.symbol} {now.day}  {now.doing}{came}  {now.rows:,} rows read, {now.fetched:,} new"
        )
