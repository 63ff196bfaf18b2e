"""`crypto-lake report`: how a day of a symbol was."""

from __future__ import annotations

from pathlib import Path

import click

from crypto_lake.cli.common import CommandError, ExitCode, data_option, output_option
from crypto_lake.cli.selection import check_selection, existing_lake


@click.command()
@click.argument("symbol")
@click.argument("day", metavar="YYYY-MM-DD")
@data_option
@click.option("--exchange", default="binance", show_default=True, help="The exchange.")
@click.option("--write", is_flag=True, help="Keep it as reports/EXCHANGE/SYMBOL/DAY.json and .md.")
@output_option
def command(symbol: str, day: str, data: Path | None, exchange: str, write: bool, output: str) -> int:
    """Tell how a day of a symbol was: coverage, gaps and what became of them, verdicts, latency, clock offset.

    It reads what is on the disk and asks nobody; `crypto-lake check` makes the verdicts. Text is Markdown. Exit code 3
    where trades are missing, or a bar differs from the exchange's and the ledger does not explain it.
    """
    import msgspec

    from crypto_lake.completeness.day_report import markdown
    from crypto_lake.completeness.ledger import BrokenLedgerError
    from crypto_lake.exchanges import EXCHANGES
    from crypto_lake.upkeep.day_report import gather, write_report

    check_selection((symbol,), (day,))
    if exchange not in EXCHANGES:
        raise CommandError(
            f"--exchange {exchange}: unknown; known: {', '.join(sorted(EXCHANGES))}", ExitCode.USAGE
        )
    layout = existing_lake(data)
    if not layout.bars(exchange, symbol, day).exists() and not layout.ledger(exchange, symbol).exists():
        raise CommandError(
            f"{layout.root} has neither bars of {symbol} of {day} nor a ledger of it; `crypto-lake transform` makes bars"
        )
    try:
        report = gather(layout, exchange, symbol, day)
        written = write_report(layout, exchange, symbol, day) if write else []
    except BrokenLedgerError as error:
        raise CommandError(f"{error}. `crypto-lake prove {symbol}` tells more.", ExitCode.GAPS) from None
    if output == "json":
        click.echo(msgspec.json.encode(report).decode())
    else:
        click.echo(markdown(report), nl=False)
    for path in written:
        click.echo(f"wrote {path}", err=True)
    return ExitCode.GAPS if report.ids_missing or report.verdicts.unexplained else ExitCode.OK
