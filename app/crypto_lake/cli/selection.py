"""What commands on a data directory share: which lake, which symbols and days of it, and its clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crypto_lake.cli.common import CommandError, ExitCode

if TYPE_CHECKING:
    from crypto_lake.config.schema import Config
    from crypto_lake.lake.layout import Layout
    from crypto_lake.model.clock import Clock

CLOCK_KEPT_SECONDS = 30.0  # a collector writes it every second

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
        read_day("--day", day)
    for symbol in symbols:
        try:
            if symbol != CONTROL:
                validate_symbol(symbol)
        except InvalidSymbolError as error:
            raise CommandError(f"--symbol {symbol}: {error}", ExitCode.USAGE) from None


def read_day(flag: str, text: str) -> date:
    """Raises CommandError where it is no day."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise CommandError(f"{flag} {text}: expected a day such as 2024-08-08", ExitCode.USAGE)
    return day


def lake_clock(layout: Layout) -> Clock:
    """A simulator's where the collector follows one, else the system's."""
    import msgspec

    from crypto_lake.model.clock import ClockSetting, ExchangeClock, SystemClock

    try:
        return ExchangeClock(msgspec.json.decode(layout.clock.read_bytes(), type=ClockSetting))
    except (FileNotFoundError, msgspec.MsgspecError):
        return SystemClock()


def clock_of(config: Config, layout: Layout | None) -> Clock:
    """The lake's: where it follows a simulator and no collector keeps `state/clock.json` here, that is asked itself.

    Where it does not answer, what a collector left goes on as it went. Raises CommandError where there is neither: by
    the system's clock, days of a past market would all be over.
    """
    import asyncio

    from crypto_lake.capture.probe import ProbeError, read_clock_setting
    from crypto_lake.capture.tls import tls_context
    from crypto_lake.exchanges import EXCHANGES
    from crypto_lake.model.clock import ExchangeClock, SystemClock

    age_seconds = _age_seconds(layout.clock) if layout is not None else None
    kept = age_seconds is not None and age_seconds < CLOCK_KEPT_SECONDS
    if layout is not None and (config.collector.clock != "exchange" or kept):
        return lake_clock(layout)
    if config.collector.clock != "exchange":
        return SystemClock()
    endpoint = config.collector.endpoint
    rest = (endpoint.rest or EXCHANGES[config.collector.exchange].rest).rstrip("/")
    try:
        return ExchangeClock(asyncio.run(read_clock_setting(rest, tls_context(endpoint.ca_file))))
    except (ProbeError, OSError) as error:
        if layout is not None and age_seconds is not None:
            return lake_clock(layout)
        raise CommandError(
            f"the exchange's clock can't be read: {error}. 'clock: exchange' is for a simulator that answers there; "
            "is it running?",
            ExitCode.UNAVAILABLE,
        ) from None


def _age_seconds(path: Path) -> float | None:
    """None where it is not there."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None
