"""Yahoo Finance on loopback: a proxy that answers for Yahoo's hosts itself, with a certificate of its own.

It has what yfinance asks for: a cookie, a crumb, and the chart API v8 in its form. Faults are put before its answers.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

from crypto_lake.simulator.tls import server_context

Row = tuple[float | None, float | None, float | None, float | None, int | None]


@dataclass
class Market:
    """A series: open, high, low, close, volume by day. `session_end`: of the day that is the latest, Unix seconds."""

    days: dict[date, Row]
    timezone: str = "America/New_York"
    currency: str = "USD"
    session_end: int | None = None


@dataclass
class Fault:
    """An answer in place of the right one, to questions about days alone (`range` is that about the time zone).

    `cut`: so many bytes of the right answer, though its length is told whole. `seconds`: nothing is sent for so long.
    """

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    seconds: float = 0.0
    also_timezone: bool = False


class FakeYahoo:
    """`proxy` and `ca_file` are what a client needs. `asked`: host and path of every request, in order."""

    def __init__(self, folder: Path) -> None:
        self.markets: dict[str, Market] = {}
        self.faults: deque[Fault] = deque()
        self.fired: list[Fault] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        finance, authority = server_context("*.finance.yahoo.com")
        other, other_authority = server_context("*.yahoo.com")
        self.contexts = {True: finance, False: other}
        self.ca_file = folder / "yahoo.pem"
        self.ca_file.write_bytes(authority + other_authority)
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self.proxy = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> FakeYahoo:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def questions(self, series: str) -> list[dict[str, str]]:
        """What was asked about the days of a series."""
        return [query for _, path, query in self.asked if path.endswith(f"/{series}") and "period1" in query]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    fake: FakeYahoo

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone, or does not trust us, is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    host = ""

    def log_message(self, *args: Any) -> None:
        """Nothing is printed."""

    def do_CONNECT(self) -> None:
        self.send_response(200, "Connection established")
        self.end_headers()
        self.host = self.path.rpartition(":")[0]
        context = self.server.fake.contexts[self.host.endswith(".finance.yahoo.com")]
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False
        try:
            while not self.close_connection:
                self.handle_one_request()
        finally:
            self.connection.close()
            self.close_connection = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(200, b"")

    def do_GET(self) -> None:
        fake = self.server.fake
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        fake.asked.append((self.host, path, query))
        if path == "/v1/test/getcrumb":
            has_cookie = "A3=" in (self.headers.get("Cookie") or "")
            self._answer(200, b"crumb.1" if has_cookie else b"")
        elif path.startswith("/v8/finance/chart/"):
            self._chart(path.rpartition("/")[2], query)
        elif self.host == "fc.yahoo.com":
            cookie = "A3=d=1; Domain=.yahoo.com; Path=/; Max-Age=31536000; Secure"
            self._answer(404, b"", {"Set-Cookie": cookie})
        else:
            self._answer(404, b"{}")

    def _chart(self, series: str, query: dict[str, str]) -> None:
        fake = self.server.fake
        market = fake.markets.get(series)
        if market is None:
            status, answer = 404, error("Not Found", "No data found, symbol may be delisted")
        else:
            status, answer = 200, chart(series, market, query)
        body = json.dumps(answer).encode()
        if fake.faults and ("period1" in query or fake.faults[0].also_timezone):
            fault = fake.faults.popleft()
            fake.fired.append(fault)
            if fault.seconds:
                fake.closing.wait(fault.seconds)
            if fault.cut is not None:
                self._answer(fault.status, body[: fault.cut], length=len(body))
                self.close_connection = True
                return
            self._answer(fault.status, body if fault.body is None else fault.body, fault.headers)
        else:
            self._answer(status, body)

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def error(code: str, text: str) -> dict[str, Any]:
    return {"chart": {"result": None, "error": {"code": code, "description": text}}}


def chart(series: str, market: Market, query: dict[str, str]) -> dict[str, Any]:
    """The chart API's answer. Stamps of days are the midnights of the exchange."""
    zone = ZoneInfo(market.timezone)
    stamps = {day: _midnight(day, zone) for day in sorted(market.days)}
    if "period1" in query:
        first, last = int(query["period1"]), int(query["period2"])
        stamps = {day: stamp for day, stamp in stamps.items() if first <= stamp < last}
    else:
        stamps = dict(list(stamps.items())[-1:])
    meta: dict[str, Any] = {
        "currency": market.currency,
        "symbol": series,
        "exchangeName": "SNP",
        "instrumentType": "INDEX",
        "exchangeTimezoneName": market.timezone,
        "timezone": "EST",
        "gmtoffset": -18000,
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "1y", "max"],
    }
    if market.session_end is not None:
        period = {"timezone": "EST", "gmtoffset": -18000}
        meta["currentTradingPeriod"] = {
            name: period | {"start": market.session_end - 23400, "end": market.session_end}
            for name in ("pre", "regular", "post")
        }
    result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [{}], "adjclose": [{}]}}
    if stamps:
        rows = [market.days[day] for day in stamps]
        columns = [list(column) for column in zip(*rows, strict=True)]
        names = ("open", "high", "low", "close", "volume")
        result["timestamp"] = list(stamps.values())
        result["indicators"] = {
            "quote": [dict(zip(names, columns, strict=True))],
            # As for a share with dividends: what is traded is another number.
            "adjclose": [{"adjclose": [None if price is None else price * 0.5 for price in columns[3]]}],
        }
    return {"chart": {"result": [result], "error": None}}


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time_of_day(), zone).timestamp())


def weekdays(first: date, last: date) -> list[date]:
    span = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [day for day in span if day.weekday() < 5]


def rows(days: list[date], base: float = 100.0) -> dict[date, Row]:
    """Prices as Yahoo has them: 32-bit floats, written out with their tail."""
    import numpy as np

    def price(number: float) -> float:
        return float(np.float32(number))

    return {
        day: (price(base + n + 0.1), price(base + n + 0.9), price(base + n - 0.7), price(base + n + 0.3), n)
        for n, day in enumerate(days)
    }
