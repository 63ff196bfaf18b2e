"""What commands on a data directory share: which lake, which symbols and days of it, and its clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crypto_lake.cli.common import CommandError, ExitCode

if TYPE_CHECKING:
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.clock import Clock

symbol_option = click.option("--symbol", "symbols", multiple=True, help="Only this symbol. May be repeated.")
day_option = click.option(
    "--day", "days", multiple=True, metavar="YYYY-MM-DD", help="Only this day. May be repeated."
)


def existing_lake(data: Path | None) -> Layout:
    """Raises CommandError where the directory is not there."""
    from crypto_lake.lake.layout import Layout

    root = data or Path("data")
    if not root.is_dir():
        raise CommandError(f"{root} does not exist; --data names the lake's directory", ExitCode.USAGE)
    return Layout(root)


def check_selection(symbols: Sequence[str], days: Sequence[str]) -> None:
    """Raises CommandError for what can't be a symbol (`_control` may be named) or a day."""
    from crypto_lake.lake.control import CONTROL
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
            if symbol != CONTROL:
                validate_symbol(symbol)
        except InvalidSymbolError as error:
            raise CommandError(f"--symbol {symbol}: {error}", ExitCode.USAGE) from None


def lake_clock(layout: Layout) -> Clock:
    """A simulator's where the collector follows one, else the system's."""
    import msgspec

    from crypto_lake.model.clock import ClockSetting, ExchangeClock, SystemClock

    try:
        return ExchangeClock(msgspec.json.decode(layout.clock.read_bytes(), type=ClockSetting))
    except (FileNotFoundError, msgspec.MsgspecError):
        return SystemClock()
