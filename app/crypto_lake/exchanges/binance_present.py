"""What Binance spot says over REST of its market as it is: the newest trade and quote, whether a symbol trades, klines.

Weights and forms are from rest-api.md of its documents (as of 2026-07-21). `ticker/24hr` is the cheapest call that tells
the newest trade id and the best quote together, of up to 20 symbols at once; aggTrades would cost 4 for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from crypto_lake.exchanges.base import BestQuote, KlineRow, Newest, Present, PresentCall
from crypto_lake.exchanges.binance_kline import read_kline
from crypto_lake.exchanges.binance_time import to_us
from crypto_lake.model.decimals import InexactDecimalError, parse_e8

_TRADING = "TRADING"
_KLINE_FIELDS = 11


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


_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_quote = msgspec.json.Decoder(_QuoteMessage).decode
_decode_information = msgspec.json.Decoder(_Information).decode
_decode_klines = msgspec.json.Decoder(list[list[int | str]]).decode


def symbols_query(symbols: Sequence[str]) -> dict[str, str]:
    return {"symbols": msgspec.json.encode(list(symbols)).decode()}


def klines_query(symbol: str, start_us: int, end_us: int, limit: int) -> dict[str, str]:
    """Of one-second klines that open from start_us on and before end_us."""
    start_ms, end_ms = -(-start_us // 1000), -(-end_us // 1000) - 1
    return {
        "symbol": symbol,
        "interval": "1s",
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


def read_quote(message: bytes) -> BestQuote | None:
    """The best quote of a bookTicker message, None where it is none."""
    try:
        data = _decode_quote(message).data
        return _quote(data.b, data.B, data.a, data.A)
    except (msgspec.MsgspecError, ValueError):
        return None


def read_klines(answer: bytes) -> list[KlineRow]:
    """Raises ValueError where the answer is no list of klines."""
    return list(_klines(_decode_klines(answer)))


def _klines(rows: Iterable[list[int | str]]) -> Iterable[KlineRow]:
    for row in rows:
        if len(row) < _KLINE_FIELDS or not isinstance(row[0], int) or not isinstance(row[8], int):
            raise ValueError(f"a kline of another form: {str(row)[:120]}")
        numbers = (row[1], row[2], row[3], row[4], row[5], row[7], row[9], row[10])
        open_, high, low, close, base, quote, taker_base, taker_quote = (_number(n) for n in numbers)
        yield KlineRow(to_us(row[0]), open_, high, low, close, base, quote, row[8], taker_base, taker_quote)


def _number(text: int | str) -> int:
    if not isinstance(text, str):
        raise InexactDecimalError(f"{text!r} is no decimal number as text")
    return parse_e8(text)


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
)
