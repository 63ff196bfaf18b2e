"""Klines of a market whose trades are known, through the form in which the exchange writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from crypto_lake.completeness.asking import AskError
from crypto_lake.completeness.klines import FIELDS
from crypto_lake.exchanges import BINANCE
from crypto_lake.exchanges.base import KlineRow
from crypto_lake.simulator.history import Market
from crypto_lake.simulator.rest_rows import kline_row

# What a kline tells, by the names of a bar, in the order of the simulator's Kline behind its time.
KLINE_COLUMNS: tuple[str, ...] = (*FIELDS, "first_trade_id", "last_trade_id")


def told_of(row: list[Any]) -> dict[str, Any]:
    """A row of the exchange's REST by the names of a bar: the places are the exchange's, and written here alone."""
    return {
        "open": Decimal(row[1]),
        "high": Decimal(row[2]),
        "low": Decimal(row[3]),
        "close": Decimal(row[4]),
        "volume_base": Decimal(row[5]),
        "volume_quote": Decimal(row[7]),
        "trade_count": row[8],
        "taker_buy_base": Decimal(row[9]),
        "taker_buy_quote": Decimal(row[10]),
    }


def klines_over_rest(
    get: Callable[[str], Any], symbol: str, start_ms: int, end_ms: int
) -> dict[datetime, dict[str, Any]]:
    """One-second klines by second, from start on and before end. `get`: what the exchange answers to a path."""
    found: dict[datetime, dict[str, Any]] = {}
    at = start_ms
    while at < end_ms:
        rows = get(
            f"/api/v3/klines?symbol={symbol}&interval=1s&startTime={at}&endTime={end_ms - 1}&limit=1000"
        )
        if not rows:
            break
        found |= {datetime.fromtimestamp(row[0] / 1000, UTC): told_of(row) for row in rows}
        at = rows[-1][0] + 1000
    return found


class MarketKlines:
    """Answers as REST does, without a socket. `failing`: so many requests fail first."""

    def __init__(self, market: Market, *, failing: int = 0, wait_seconds: float = 0.0) -> None:
        self.market = market
        self.requests = self.weight = 0
        self.failing, self.wait_seconds = failing, wait_seconds

    async def klines(self, symbol: str, start_us: int, end_us: int) -> list[KlineRow]:
        self.requests += 1
        self.weight += BINANCE.present.klines.weight
        if self.failing > 0:
            self.failing -= 1
            raise AskError("klines: HTTP 503", self.wait_seconds)
        rows = self.market.klines(symbol, "1s", start_us, end_us)
        assert len(rows) <= BINANCE.present.klines.most
        return BINANCE.present.read_klines(json.dumps([kline_row(k, 1_000_000, 1000) for k in rows]).encode())

    async def trading(self, symbols: Sequence[str]) -> dict[str, bool]:
        return dict.fromkeys(symbols, True)
