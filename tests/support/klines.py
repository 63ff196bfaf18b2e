"""Klines of a market whose trades are known, through the form in which the exchange writes them."""

from __future__ import annotations

import json

from crypto_lake.completeness.asking import AskError
from crypto_lake.exchanges import BINANCE
from crypto_lake.exchanges.base import KlineRow
from crypto_lake.simulator.history import Market
from crypto_lake.simulator.rest import kline_row

# What a kline tells, by the names of a bar, in the order of the simulator's Kline behind its time.
KLINE_COLUMNS: tuple[str, ...] = (
    "open",
    "high",
    "low",
    "close",
    "volume_base",
    "volume_quote",
    "trade_count",
    "taker_buy_base",
    "taker_buy_quote",
    "first_trade_id",
    "last_trade_id",
)


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
