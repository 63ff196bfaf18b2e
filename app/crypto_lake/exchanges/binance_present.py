"""What Binance spot says over REST of its market as it is: the newest trade and quote, whether a symbol trades, klines.

Weights and forms are from rest-api.md of its documents (as of 2026-07-21). `ticker/24hr` is the cheapest call that tells
the newest trade id and the best quote together, of up to 20 symbols at once; aggTrades would cost 4 for one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from crypto_lake.exchanges.base import BestQuote, Newest, Present, PresentCall
from crypto_lake.exchanges.binance_kline import INTERVAL, read_kline, read_klines
from crypto_lake.model.decimals import parse_e8

_TRADING = "TRADING"
_INVALID_SYMBOL = -1121  # of its error codes (errors.md)


class _Ticker(msgspec.Struct, gc=False, rename="camel"):
    symbol: str
    last_id: int
    bid_price: str
    bid_qty: str
    ask_price: str
    ask_qty: str


class _Quote(msgspec.Struct, gc=False):
    """A bookTicker of a combined stream: what of it is used here."""

    b: str
    B: str
    a: str
    A: str


class _QuoteMessage(msgspec.Struct, gc=False):
    data: _Quote


class _Symbol(msgspec.Struct, gc=False):
    symbol: str
    status: str


class _Information(msgspec.Struct, gc=False):
    symbols: list[_Symbol]


class _Refusal(msgspec.Struct, gc=False):
    code: int


_decode_refusal = msgspec.json.Decoder(_Refusal).decode
_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_quote = msgspec.json.Decoder(_QuoteMessage).decode
_decode_information = msgspec.json.Decoder(_Information).decode


def symbols_query(symbols: Sequence[str]) -> dict[str, str]:
    return {"symbols": msgspec.json.encode(list(symbols)).decode()}


def klines_query(symbol: str, start_us: int, end_us: int, limit: int) -> dict[str, str]:
    """Of one-second klines that open from start_us on and before end_us."""
    start_ms, end_ms = -(-start_us // 1000), -(-end_us // 1000) - 1
    return {
        "symbol": symbol,
        "interval": INTERVAL,
        "startTime": str(start_ms),
        "endTime": str(end_ms),
        "limit": str(limit),
    }


def read_newest(answer: bytes) -> dict[str, Newest]:
    """By symbol. An id of -1: no trade in the last 24 hours. Raises ValueError where the answer is of another form."""
    found: dict[str, Newest] = {}
    for message in _decode_rows(answer):
        row = _decode_ticker(message)
        quote = _quote(row.bid_price, row.bid_qty, row.ask_price, row.ask_qty)
        found[row.symbol] = Newest(row.last_id, quote, bytes(message))
    return found


def read_trading(answer: bytes) -> dict[str, bool]:
    """By symbol: whether it trades. Raises ValueError where the answer is of another form."""
    return {row.symbol: row.status == _TRADING for row in _decode_information(answer).symbols}


def says_unknown_symbol(answer: bytes) -> bool:
    """Whether a refusal is that of a symbol which the exchange does not have, and no other."""
    try:
        return _decode_refusal(answer).code == _INVALID_SYMBOL
    except msgspec.MsgspecError:
        return False


def read_quote(message: bytes) -> BestQuote | None:
    """The best quote of a bookTicker message, None where it is none."""
    try:
        data = _decode_quote(message).data
        return _quote(data.b, data.B, data.a, data.A)
    except (msgspec.MsgspecError, ValueError):
        return None


def _quote(bid: str, bid_size: str, ask: str, ask_size: str) -> BestQuote:
    return BestQuote(parse_e8(bid), parse_e8(bid_size), parse_e8(ask), parse_e8(ask_size))


PRESENT = Present(
    newest=PresentCall("ticker/24hr", "/api/v3/ticker/24hr", 2, 20),
    trading=PresentCall("exchangeInfo", "/api/v3/exchangeInfo", 20, 100),
    klines=PresentCall("klines", "/api/v3/klines", 2, 1000),
    symbols_query=symbols_query,
    klines_query=klines_query,
    read_newest=read_newest,
    read_trading=read_trading,
    read_klines=read_klines,
    read_quote=read_quote,
    read_kline=read_kline,
    says_unknown_symbol=says_unknown_symbol,
)
