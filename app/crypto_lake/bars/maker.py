"""One symbol after the other: all of its days that have something new."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from crypto_lake.bars.connections import Connections
from crypto_lake.bars.raw import SymbolRaw
from crypto_lake.bars.report import DayReport, Setup, SymbolResult
from crypto_lake.bars.symbol import SymbolBars
from crypto_lake.bars.template import Template
from crypto_lake.exchanges import EXCHANGES
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.quarantine import Quarantine
from crypto_lake.model.market import Stream

_log = logging.getLogger(__name__)
_MOST_PASSES = 50


class Maker:
    """Makes bars of symbols for one run, under the lock `transform` that another holds."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._layout = Layout(Path(setup.root))
        self._quarantine = Quarantine(self._layout.quarantine)
        self._connections = Connections(self._layout, setup.exchange)

    def make(self, symbol: str, on_file: Callable[[int], None]) -> SymbolResult:
        """`on_file` gets the bytes of each raw file that was read. What goes wrong stands in the result."""
        exchange = EXCHANGES[self._setup.exchange]
        trade_stream = exchange.stream_name(symbol, Stream.TRADE)
        quote_stream = exchange.stream_name(symbol, Stream.BOOK_TICKER)
        kline_stream = exchange.stream_name(symbol, Stream.KLINE)
        raw = SymbolRaw(
            self._layout,
            exchange.name,
            symbol,
            partial(self._connections.watches, trade_stream),
            self._quarantine,
            Template(symbol, trade_stream, quote_stream, kline_stream),
            on_file,
        )
        work = SymbolBars(raw, self._setup.rebuild)
        try:
            made = self._make(work)
            return SymbolResult(
                symbol, made, raw.unreadable, raw.files_read, raw.bytes_read, work.last_second()
            )
        except Exception as error:  # told, and the other symbols go on
            _log.exception("bars of %s could not be made", symbol)
            why = f"{type(error).__name__}: {error}"
            return SymbolResult(symbol, [], raw.unreadable, raw.files_read, raw.bytes_read, None, why)

    def _make(self, work: SymbolBars) -> list[DayReport]:
        work.look()
        made: dict[str, DayReport] = {}
        # Making a day may show that a day before or after it is to be made again: its next trade, a late trade.
        stale: list[str] = []
        for _ in range(_MOST_PASSES):
            stale = [day for day in work.stale_days() if self._setup.days is None or day in self._setup.days]
            if not stale:
                break
            for day in stale:
                now = work.make(day, self._setup.now_ns)
                if now is None:
                    continue
                before = made.get(day)
                if before is not None:
                    now = msgspec.structs.replace(now, hours_made=max(before.hours_made, now.hours_made))
                made[day] = now
        else:
            raise RuntimeError(f"{work.symbol}: days {stale} do not settle; a fault of the program")
        for day in work.days():
            if self._setup.days is None or day in self._setup.days:
                work.settle(day, self._setup.now_ns)
        if self._setup.days is None:
            work.keep_settled()
        return list(made.values())
