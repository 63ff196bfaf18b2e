"""The exchange's daily archives of trades: a zip of a CSV for each day that is over, and its checksum."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from datetime import UTC, datetime, timedelta

from aiohttp import web

from crypto_lake.model.decimals import format_e8, quote_volume_e8
from crypto_lake.simulator.clock import SimulatorClock
from crypto_lake.simulator.generator import SimulatedTrade
from crypto_lake.simulator.history import Market

_NAME = re.compile(r"(?P<symbol>\w+)-trades-(?P<day>\d{4}-\d\d-\d\d)\.zip(?P<checksum>\.CHECKSUM)?")
_DAY_US = 86_400 * 10**6
_MICROSECONDS_FROM = datetime(2025, 1, 1, tzinfo=UTC)


class Archive:
    """Without a header, times in microseconds from 2025 on and in milliseconds before, as the exchange does it."""

    def __init__(self, market: Market, clock: SimulatorClock) -> None:
        self._market, self._clock = market, clock
        self._made: dict[tuple[str, str], bytes] = {}

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/data/spot/daily/trades/{symbol}/{name}", self._handle)]

    async def _handle(self, request: web.Request) -> web.Response:
        match = _NAME.fullmatch(request.match_info["name"])
        if match is None or match["symbol"] != request.match_info["symbol"]:
            return web.Response(status=404)
        data = self._zip(match["symbol"], match["day"])
        if data is None:
            return web.Response(status=404)
        if match["checksum"]:
            name = request.match_info["name"].removesuffix(".CHECKSUM")
            return web.Response(text=f"{hashlib.sha256(data).hexdigest()}  {name}\n")
        return web.Response(body=data, content_type="application/zip")

    def _zip(self, symbol: str, day: str) -> bytes | None:
        """None where the market has nothing of that day, or the day is not over."""
        try:
            start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        except ValueError:
            return None
        start_us = int(start.timestamp()) * 10**6
        known = symbol in self._market.symbols and start_us + _DAY_US > self._market.start_us
        if not known or self._clock.now_us() < start_us + _DAY_US:
            return None
        if (symbol, day) not in self._made:
            unit_us = 1 if start >= _MICROSECONDS_FROM else 1000
            self._made = {(symbol, day): self._make(symbol, day, start_us, unit_us)}  # one at a time is kept
        return self._made[symbol, day]

    def _make(self, symbol: str, day: str, start_us: int, unit_us: int) -> bytes:
        rows = (row(t, unit_us) for t in self._market.trades_between(symbol, start_us, start_us + _DAY_US))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
            # The time of making is not in it: it is the same file whenever it is asked for.
            info = zipfile.ZipInfo(f"{symbol}-trades-{day}.csv", _next_day(day).timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, "".join(rows))
        return packed.getvalue()


def row(trade: SimulatedTrade, unit_us: int) -> str:
    return (
        f"{trade.id},{format_e8(trade.price_e8)},{format_e8(trade.size_e8)},"
        f"{format_e8(quote_volume_e8(trade.price_e8, trade.size_e8))},{trade.time_us // unit_us},"
        f"{trade.buyer_is_maker},True\n"
    )


def _next_day(day: str) -> datetime:
    return datetime.fromisoformat(day) + timedelta(days=1)
