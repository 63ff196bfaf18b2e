"""Klines of Binance spot: of its stream `<symbol>@kline_1s`, and of GET /api/v3/klines.

By web-socket-streams.md of its documents (as of 2026-07-21) a kline is told every 1000 ms, in the making or closed (`x`).
Messages that others recorded were sent 1 to 6 ms after their second's end, and all were closed; of a second without a
trade `f` and `L` are -1. Rows of REST tell the same numbers by their place (rest-api.md).
"""

from __future__ import annotations

import msgspec

from crypto_lake.exchanges.base import KlineRow, StreamedKline
from crypto_lake.exchanges.binance_time import to_us
from crypto_lake.model.decimals import parse_e8

INTERVAL = "1s"


class _Kline(msgspec.Struct, gc=False):
    """A kline of the stream: what of it is used here."""

    t: int
    s: str
    i: str
    L: int
    o: str
    c: str
    h: str
    l: str  # noqa: E741  the exchange's name
    v: str
    n: int
    x: bool
    q: str
    V: str
    Q: str


class _Row(msgspec.Struct, array_like=True, gc=False):
    """A kline of REST, by the stream's names; what comes after these is not used here."""

    t: int
    o: str
    h: str
    l: str  # noqa: E741  the exchange's name
    c: str
    v: str
    T: int
    q: str
    n: int
    V: str
    Q: str


class _Data(msgspec.Struct, gc=False):
    k: _Kline


class _Message(msgspec.Struct, gc=False):
    data: _Data


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_rows = msgspec.json.Decoder(list[_Row]).decode


def read_kline(message: bytes) -> StreamedKline | None:
    """The kline of a message of a combined stream, None where it is none of one second."""
    try:
        kline = _decode_message(message).data.k
        if kline.i != INTERVAL:
            return None
        return StreamedKline(kline.s, _numbers(kline), kline.L, kline.x)
    except (msgspec.MsgspecError, ValueError):
        return None


def read_klines(answer: bytes) -> list[KlineRow]:
    """Raises ValueError (msgspec's errors are such) where the answer is no list of klines."""
    return [_numbers(row) for row in _decode_rows(answer)]


def _numbers(kline: _Kline | _Row) -> KlineRow:
    return KlineRow(
        to_us(kline.t),
        parse_e8(kline.o),
        parse_e8(kline.h),
        parse_e8(kline.l),
        parse_e8(kline.c),
        parse_e8(kline.v),
        parse_e8(kline.q),
        kline.n,
        parse_e8(kline.V),
        parse_e8(kline.Q),
    )
