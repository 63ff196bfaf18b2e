"""`crypto-lake explain`: a bar, its trades, the raw lines they came from, and their sum before your eyes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crypto_lake.cli.common import CommandError, ExitCode, data_option, output_option
from crypto_lake.cli.progress import counted
from crypto_lake.cli.selection import check_selection, existing_lake

if TYPE_CHECKING:
    from crypto_lake.bars.explanation import Explanation, LineTold
    from crypto_lake.lake.layout import Layout


@click.command()
@click.argument("symbol")
@click.argument("second", metavar="YYYY-MM-DDTHH:MM:SS")
@data_option
@click.option("--exchange", default="binance", show_default=True, help="The exchange.")
@output_option
def command(symbol: str, second: str, data: Path | None, exchange: str, output: str) -> int:
    """Show a bar, its trades and quotes, and the raw lines (file, frame, line) they came from; and add them up again.

    The time is UTC. Exit code 3 where the bar is not what its lines add up to, 1 where neither a bar nor a line of that
    second is here.
    """
    import msgspec

    from crypto_lake.bars.explain import explain
    from crypto_lake.exchanges import EXCHANGES

    check_selection((symbol,), ())
    if exchange not in EXCHANGES:
        raise CommandError(
            f"--exchange {exchange}: unknown; known: {', '.join(sorted(EXCHANGES))}", ExitCode.USAGE
        )
    layout = existing_lake(data)
    at = _second(second)
    told = explain(layout, exchange, symbol, at)
    told = msgspec.structs.replace(told, verdict=_verdict(layout, exchange, symbol, at))
    if told.bar is None and not told.trades and not told.quotes:
        raise CommandError(
            f"{layout.root} has neither a bar of {symbol} at {told.second} nor a raw line of it"
        )
    if output == "json":
        click.echo(msgspec.json.encode(told).decode())
    else:
        _print(told)
    return ExitCode.OK if told.agrees else ExitCode.GAPS


def _verdict(layout: Layout, exchange: str, symbol: str, second: int) -> str | None:
    """Of the last check, in words."""
    from crypto_lake.completeness import verdict_table
    from crypto_lake.completeness.klines import Source
    from crypto_lake.completeness.verdict import differences_of
    from crypto_lake.model.clock import Hour
    from crypto_lake.model.market import NS_PER_SECOND

    read = verdict_table.read(layout.verdicts(exchange, symbol, Hour.of_ns(second * NS_PER_SECOND).day))
    if read is None:
        return None
    rows = read[0]
    for row in rows.filter(rows["window_start"].dt.epoch("s") == second).iter_rows(named=True):
        notes = [f"{name} {by}" for name, by in differences_of(row).items()]
        notes = notes or ([row["reason"]] if row["reason"] else [])
        notes += [f"explained: {row['explained']}"] if row["explained"] else []
        notes += ["by the kline that was streamed"] if row["source"] == Source.STREAM.value else []
        return f"{row['verdict']} ({', '.join(notes)})" if notes else str(row["verdict"])
    return None


def _second(text: str) -> int:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise CommandError(
            f"{text}: expected a second of UTC such as 2026-11-20T12:00:01", ExitCode.USAGE
        ) from None
    return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp())


def _print(told: Explanation) -> None:
    state = f"{told.bar['state']}, in {told.bars_file}" if told.bar is not None else "there is no bar"
    click.echo(f"{told.symbol} {told.second} ({told.exchange}): {state}")
    click.echo(f"against the exchange's kline: {told.verdict or 'not checked yet'}")
    _print_trades(told)
    _print_quotes(told)
    if told.missing:
        click.echo("")
        click.echo(f"The bar was made of {counted(len(told.missing), 'file')} no longer here; not added up:")
        for name in told.missing:
            click.echo(f"  {name}")
    if told.fields:
        click.echo("")
        click.echo("field                              bar              added up")
        for one in told.fields:
            mark = "" if one.agrees else "  DIFFERS"
            click.echo(f"{one.name:<16} {_shown(one.bar):>21} {_shown(one.added_up):>21}{mark}")
        click.echo("")
        wrong = [one.name for one in told.fields if not one.agrees]
        click.echo(
            f"It is NOT what its lines add up to: {', '.join(wrong)} differ."
            if wrong
            else "It is what its lines add up to."
        )


def _shown(value: str | None) -> str:
    return "–" if value is None else value


def _print_trades(told: Explanation) -> None:
    click.echo("")
    some = counted(len(told.trades), "trade")
    click.echo(some if told.trades else "no trade: the close before it stands")
    for trade in told.trades:
        click.echo(
            f"  {trade.id}  {_of_second(trade.time_us)}  taker {trade.taker:<5}  {trade.price} x {trade.size} "
            f"= {trade.quote}"
        )
        for number, line in enumerate(trade.lines):
            click.echo(f"      {_place(line)}{'' if number == 0 else '  (a copy, not counted)'}")


def _print_quotes(told: Explanation) -> None:
    click.echo("")
    some = counted(len(told.quotes), "quote")
    click.echo(some if told.quotes else "no quote: the one before it stands")
    for quote in told.quotes:
        skipped = "" if quote.counted else "  (a copy, or overtaken; not counted)"
        click.echo(
            f"  {quote.update_id}  {quote.bid} x {quote.bid_size} / {quote.ask} x {quote.ask_size}{skipped}"
        )
        click.echo(f"      {_place(quote.line)}")


def _place(line: LineTold) -> str:
    return f"{line.file}, frame {line.frame}, line {line.line} ({line.source}, {line.connection})"


def _of_second(time_us: int) -> str:
    return f".{time_us % 10**6:06d}"
