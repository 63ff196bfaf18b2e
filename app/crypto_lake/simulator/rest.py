"""The exchange's REST answers, as far as a lake asks for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from crypto_lake.exchanges.binance import to_us
from crypto_lake.model.decimals import format_e8
from crypto_lake.simulator.clock import SimulatorClock
from crypto_lake.simulator.history import Market
from crypto_lake.simulator.hub import Hub
from crypto_lake.simulator.klines import INTERVALS_US
from crypto_lake.simulator.limits import WeightWindow
from crypto_lake.simulator.rest_rows import aggregate_row, kline_row, symbol_row, trade_row
from crypto_lake.simulator.settings import Settings

_DEFAULT_ROWS = 500
_MOST_ROWS = 1000


class ApiError(Exception):
    """An answer of the exchange that refuses."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status, self.code = status, code


class Query:
    """The parameters of one request, read as the exchange reads them."""

    def __init__(self, values: Mapping[str, str], market: Market, time_unit: str | None) -> None:
        self._values, self._market = values, market
        match (time_unit or "").upper():
            case "" | "MILLISECOND":
                self.unit_us = 1000
            case "MICROSECOND":
                self.unit_us = 1
            case _:
                raise ApiError(
                    400, -1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND."
                )

    def symbol(self) -> str:
        symbol = self.text("symbol")
        if symbol not in self._market.symbols:
            raise ApiError(400, -1121, "Invalid symbol.")
        return symbol

    def text(self, name: str) -> str:
        found = self._values.get(name, "")
        if not found:
            raise ApiError(
                400,
                -1102,
                f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.",
            )
        return found

    def number(self, name: str) -> int | None:
        found = self._values.get(name)
        if found is None:
            return None
        if not (found.isascii() and found.isdigit() and len(found) < 20):  # 64 bits
            raise ApiError(
                400,
                -1100,
                f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
            )
        return int(found)

    def time_us(self, name: str) -> int | None:
        found = self.number(name)
        return None if found is None else to_us(found)

    def limit(self) -> int:
        found = self.number("limit")
        if found is None:
            return _DEFAULT_ROWS
        if found < 1:
            raise ApiError(400, -1130, "Data sent for parameter 'limit' is not valid.")
        return min(found, _MOST_ROWS)

    def interval(self) -> str:
        found = self.text("interval")
        if found not in INTERVALS_US:
            raise ApiError(400, -1120, "Invalid interval.")
        return found

    def optional(self, name: str) -> str | None:
        return self._values.get(name)


class Rest:
    """Serves what has happened up to the exchange's now. Weights are counted by address and real minute."""

    def __init__(self, market: Market, clock: SimulatorClock, settings: Settings, hub: Hub) -> None:
        self._market, self._clock, self._settings, self._hub = market, clock, settings, hub
        self._windows: dict[str, WeightWindow] = {}
        self.requests: dict[int, int] = {}  # by status
        self.fail_left = 0  # the fault `rest`: so many requests fail
        self.fail_status = 503
        self.fail_retry_after: int | None = None
        self.greatest_weight = 0  # that an address had used in a minute
        self.on_failed: Callable[[], None] = lambda: None

    def routes(self) -> list[web.RouteDef]:
        weighed = {
            "ping": (1, self._ping),
            "time": (1, self._time),
            "exchangeInfo": (20, self._exchange_info),
            "trades": (25, self._trades),
            "historicalTrades": (25, self._historical_trades),
            "aggTrades": (4, self._aggregate_trades),
            "klines": (2, self._klines),
            "ticker/24hr": (_ticker_weight, self._tickers),
        }
        return [
            web.get(f"/api/v3/{name}", self._handler(weight, answer))
            for name, (weight, answer) in weighed.items()
            if name not in self._settings.without
        ]

    def _handler(
        self, weight: int | Callable[[web.Request], int], answer: Callable[[Query], Any]
    ) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            charged = weight if isinstance(weight, int) else weight(request)
            response = self._answer(request, charged, answer)
            self.requests[response.status] = self.requests.get(response.status, 0) + 1
            return response

        return handle

    def _answer(self, request: web.Request, weight: int, answer: Callable[[Query], Any]) -> web.Response:
        if self.fail_left > 0:
            self.fail_left -= 1
            self.on_failed()
            after = {} if self.fail_retry_after is None else {"Retry-After": str(self.fail_retry_after)}
            return web.Response(status=self.fail_status, text="a fault was ordered", headers=after)
        settings = self._settings
        window = self._windows.setdefault(
            request.remote or "",
            WeightWindow(
                settings.weight_limit, ban_after=settings.ban_after, ban_seconds=settings.ban_seconds
            ),
        )
        verdict = window.charge(weight, time.time())
        self.greatest_weight = max(self.greatest_weight, verdict.used_weight)
        headers = {
            "X-MBX-USED-WEIGHT": str(verdict.used_weight),
            "X-MBX-USED-WEIGHT-1M": str(verdict.used_weight),
        }
        status = verdict.status
        if verdict.status == 200:
            try:
                found = answer(Query(request.query, self._market, request.headers.get("X-MBX-TIME-UNIT")))
                return _json(200, found, headers)
            except ApiError as error:
                return _json(error.status, {"code": error.code, "msg": str(error)}, headers)
        headers["Retry-After"] = str(verdict.retry_after_seconds)
        text = f"Too much request weight used; current limit is {window.limit} request weight per 1 MINUTE."
        if status == 418:
            until_ms = int((time.time() + verdict.retry_after_seconds) * 1000)
            text = f"Way too much request weight used; IP banned until {until_ms}."
        return _json(status, {"code": -1003, "msg": text}, headers)

    def _ping(self, query: Query) -> dict[str, Any]:
        return {}

    def _time(self, query: Query) -> dict[str, Any]:
        return {"serverTime": self._clock.now_us() // query.unit_us}

    def _exchange_info(self, query: Query) -> dict[str, Any]:
        wanted = self._wanted(query)
        return {
            "timezone": "UTC",
            "serverTime": self._clock.now_us() // query.unit_us,
            "rateLimits": [
                {
                    "rateLimitType": "REQUEST_WEIGHT",
                    "interval": "MINUTE",
                    "intervalNum": 1,
                    "limit": self._settings.weight_limit,
                }
            ],
            "exchangeFilters": [],
            "symbols": [symbol_row(symbol, halted=symbol in self._hub.halted) for symbol in wanted],
        }

    def _wanted(self, query: Query) -> tuple[str, ...]:
        """The symbols that `symbol` or `symbols` name; without either, all."""
        if query.optional("symbol") is not None:
            return (query.symbol(),)
        listed = query.optional("symbols")
        if listed is None:
            return self._market.symbols
        try:
            wanted = tuple(json.loads(listed))
        except ValueError:
            raise ApiError(400, -1100, "Illegal characters found in parameter 'symbols'.") from None
        if not set(wanted) <= set(self._market.symbols):
            raise ApiError(400, -1121, "Invalid symbol.")
        return wanted

    def _tickers(self, query: Query) -> list[dict[str, Any]] | dict[str, Any]:
        found = [self._ticker(symbol) for symbol in self._wanted(query)]
        return found if query.optional("symbol") is None else found[0]

    def _ticker(self, symbol: str) -> dict[str, Any]:
        """The fields that tell what is newest, and no statistics of the day."""
        newest = self._market.newest_id(symbol, self._until_us(symbol))
        quote = self._hub.quotes.get(symbol)
        read: dict[str, str] = json.loads(quote.data(microseconds=False)) if quote is not None else {}
        nothing = format_e8(0)
        return {
            "symbol": symbol,
            "bidPrice": read.get("b", nothing),
            "bidQty": read.get("B", nothing),
            "askPrice": read.get("a", nothing),
            "askQty": read.get("A", nothing),
            "lastId": -1 if newest is None else newest,
        }

    def _until_us(self, symbol: str) -> int:
        """What came before this is told; of a halted symbol nothing after its halt."""
        now_us = self._clock.now_us() + 1
        return min(now_us, self._hub.halted.get(symbol, now_us))

    def _trades(self, query: Query) -> list[dict[str, Any]]:
        symbol, limit = query.symbol(), query.limit()
        newest = self._market.newest_id(symbol, self._until_us(symbol))
        if newest is None:
            return []
        rows = self._market.trades(symbol, newest - limit + 1, newest, self._until_us(symbol))
        return [trade_row(trade, query.unit_us) for trade in rows]

    def _historical_trades(self, query: Query) -> list[dict[str, Any]]:
        first = query.number("fromId")
        if first is None:
            return self._trades(query)
        symbol, limit = query.symbol(), query.limit()
        first = max(first, self._market.first_id(symbol))
        rows = self._market.trades(symbol, first, first + limit - 1, self._until_us(symbol))
        return [trade_row(trade, query.unit_us) for trade in rows]

    def _aggregate_trades(self, query: Query) -> list[dict[str, Any]]:
        symbol, limit = query.symbol(), query.limit()
        until_us = self._until_us(symbol)
        first = query.number("fromId")
        start_us, end_us = query.time_us("startTime"), query.time_us("endTime")
        if first is not None and (start_us is not None or end_us is not None):
            raise ApiError(400, -1128, "Combination of optional parameters invalid.")
        if end_us is not None:
            # Up to the end of the unit it was given in: the times that are shown are truncated to it.
            until_us = min(until_us, end_us + query.unit_us)
        if start_us is not None:
            found = self._market.aggregates_between(symbol, start_us, until_us)
        else:
            if first is None:
                newest = self._market.newest_aggregate_id(symbol, until_us)
                first = newest - limit + 1 if newest is not None else 0
            found = self._market.aggregates(symbol, first, until_us)
        return [aggregate_row(each, query.unit_us) for each, _ in zip(found, range(limit), strict=False)]

    def _klines(self, query: Query) -> list[list[Any]]:
        symbol, interval, limit = query.symbol(), query.interval(), query.limit()
        interval_us, until_us = INTERVALS_US[interval], self._until_us(symbol)
        market = self._market
        oldest = market.trades(symbol, 0, market.first_id(symbol), until_us)
        if not oldest:
            return []
        first_us = oldest[0].time_us - oldest[0].time_us % interval_us
        start_us, end_us = query.time_us("startTime"), query.time_us("endTime")
        beyond_us = until_us if end_us is None else min(until_us, end_us + 1)
        if start_us is None:
            last_us = (beyond_us - 1) - (beyond_us - 1) % interval_us
            start_us = last_us - (limit - 1) * interval_us
        start_us = max(start_us, first_us)
        start_us = -(-start_us // interval_us) * interval_us
        beyond_us = min(beyond_us, start_us + limit * interval_us)
        rows = market.klines(symbol, interval, start_us, beyond_us, until_us)
        return [kline_row(kline, interval_us, query.unit_us) for kline in rows[:limit]]


def _ticker_weight(request: web.Request) -> int:
    """By how many symbols are asked for."""
    symbols = request.query.get("symbols")
    if symbols is None:
        return 2 if "symbol" in request.query else 80
    count = symbols.count(",") + 1
    return 2 if count <= 20 else 40 if count <= 100 else 80


def _json(status: int, body: Any, headers: Mapping[str, str]) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(),
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )
