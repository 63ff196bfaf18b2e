"""Raw lines to columns, one line at a time as JSON: any order of fields, blanks, trades fetched over REST.

Numbers are exact: prices and sizes become integer hundred-millionths. A number with more than eight decimals, or so
great that a product could leave 128 bits, makes its line unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import polars as pl

from crypto_lake.bars.columns import (
    AGGREGATE,
    ARCHIVE,
    PART_OF_AGGREGATE,
    QUOTE_SCHEMA,
    REST,
    STREAMED,
    TRADE_SCHEMA,
    Parsed,
)
from crypto_lake.bars.template import Template
from crypto_lake.exchanges.binance import to_us
from crypto_lake.lake import envelope
from crypto_lake.model.decimals import InexactDecimalError, parse_e8

# The greatest price or size, and the greatest product of a price and a size, in hundred-millionths: far above any
# market, and so small that no sum over a day leaves 128 bits (1.7e38) or 38 digits.
MAX_E8: Final = 10**29
MAX_PRODUCT: Final = 10**37
_MAX_ID: Final = 10**18
_MAX_TIME_US: Final = 10**17
_MAX_TRADES: Final = 100_000  # in one aggregate; a line must not become more rows than memory holds


class _Data(msgspec.Struct, gc=False):
    e: str | None = None
    s: str | None = None
    t: int | None = None
    p: str | None = None
    q: str | None = None
    T: int | None = None
    m: bool | None = None
    u: int | None = None
    b: str | None = None
    B: str | None = None
    a: str | None = None
    A: str | None = None


class _Message(msgspec.Struct, gc=False):
    stream: str
    data: msgspec.Raw


class _RestTrade(msgspec.Struct, gc=False, rename="camel"):
    """A row of GET /api/v3/historicalTrades, or of the archive in the same form."""

    id: int
    price: str
    qty: str
    time: int
    is_buyer_maker: bool


class _RestAggregate(msgspec.Struct, gc=False):
    """A row of GET /api/v3/aggTrades."""

    p: str
    q: str
    f: int
    l: int  # noqa: E741  the exchange's name
    T: int
    m: bool


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_data = msgspec.json.Decoder(_Data).decode
_decode_rest = msgspec.json.Decoder(_RestTrade).decode
_decode_aggregate = msgspec.json.Decoder(_RestAggregate).decode
_REST_SOURCES: Final = {"historicalTrades": REST, "archive": ARCHIVE}
_KLINE: Final = "kline"
_Trade = tuple[int, int, int, int, bool, int, int, str]
_Quote = tuple[int, int, str, int, int, int, int]


class _UnreadableError(ValueError):
    """The text is the reason for quarantine."""


def parse_each(lines: Sequence[bytes], places: Sequence[int], files: int, template: Template) -> Parsed:
    trades: list[tuple[object, ...]] = []
    quotes: list[tuple[object, ...]] = []
    bad: list[tuple[int, bytes, str]] = []
    counts, skipped, klines = [0] * files, [0] * files, [0] * files
    for line, place in zip(lines, places, strict=True):
        if not line or line.isspace():
            continue
        counts[place] += 1
        try:
            read = _parse_line(line, template)
        except _UnreadableError as error:
            bad.append((place, line, str(error)))
            continue
        if read is None:
            skipped[place] += 1
        elif read == _KLINE:
            klines[place] += 1
        elif isinstance(read, list):
            trades += [(*trade, place) for trade in read]
        elif len(read) == 8:
            trades.append((*read, place))
        else:
            quotes.append((*read, place))
    return Parsed(
        pl.DataFrame(trades, schema=TRADE_SCHEMA, orient="row"),
        pl.DataFrame(quotes, schema=QUOTE_SCHEMA, orient="row"),
        counts,
        bad,
        skipped,
        klines,
    )


def _parse_line(line: bytes, template: Template) -> _Trade | list[_Trade] | _Quote | Literal["kline"] | None:
    try:
        read = envelope.decode(line)
        if not 0 < read.received_ns < 2**63:
            raise _UnreadableError("receive time out of range")
        if read.source in _REST_SOURCES:
            return _rest_trade(read, _REST_SOURCES[read.source])
        if read.source == "aggTrades":
            return _aggregate(read)
        if read.source is not None:
            return None  # of a later version of the program; its lines stay in raw
        message = _decode_message(read.message)
        if message.stream == template.trade_stream:
            return _trade(read, _decode_data(message.data), template)
        if message.stream == template.quote_stream:
            return _quote(read, _decode_data(message.data), template)
        if message.stream == template.kline_stream:
            return _KLINE
    except msgspec.MsgspecError:
        raise _UnreadableError("not a raw line") from None
    except UnicodeDecodeError:
        raise _UnreadableError("broken UTF-8") from None
    raise _UnreadableError("a message of another stream")


def _trade(read: envelope.Envelope, data: _Data, template: Template) -> _Trade:
    if data.e != "trade" or data.s != template.symbol:
        raise _UnreadableError("a message of another stream")
    if data.t is None or data.T is None or data.p is None or data.q is None or data.m is None:
        raise _UnreadableError("a trade without one of its fields")
    return _checked(read, data.t, data.T, data.p, data.q, data.m, STREAMED)


def _rest_trade(read: envelope.Envelope, source: int) -> _Trade:
    row = _decode_rest(read.message)
    return _checked(read, row.id, row.time, row.price, row.qty, row.is_buyer_maker, source)


def _aggregate(read: envelope.Envelope) -> list[_Trade]:
    """A row for each trade of the aggregate, the first with the size of all."""
    row = _decode_aggregate(read.message)
    if not 0 <= row.l - row.f < _MAX_TRADES or row.l >= _MAX_ID:
        raise _UnreadableError("trade ids of an aggregate out of range")
    first = _checked(read, row.f, row.T, row.p, row.q, row.m, AGGREGATE)
    _, time_us, price, _, maker, source, received_ns, connection = first
    return [first] + [
        (id_, time_us, price, PART_OF_AGGREGATE, maker, source, received_ns, connection)
        for id_ in range(row.f + 1, row.l + 1)
    ]


def _checked(
    read: envelope.Envelope, id_: int, time: int, price: str, size: str, maker: bool, source: int
) -> _Trade:
    time_us = to_us(time)
    if not 0 <= id_ < _MAX_ID or not 0 < time_us < _MAX_TIME_US:
        raise _UnreadableError("trade id or time out of range")
    price_e8, size_e8 = _number(price), _number(size)
    if price_e8 * size_e8 >= MAX_PRODUCT:
        raise _UnreadableError("a number out of range")
    return id_, time_us, price_e8, size_e8, maker, source, read.received_ns, read.connection


def _quote(read: envelope.Envelope, data: _Data, template: Template) -> _Quote:
    if data.s != template.symbol:
        raise _UnreadableError("a message of another stream")
    if data.u is None or data.b is None or data.B is None or data.a is None or data.A is None:
        raise _UnreadableError("a quote without one of its fields")
    if not 0 <= data.u < _MAX_ID:
        raise _UnreadableError("update id out of range")
    return (
        read.received_ns,
        data.u,
        read.connection,
        _number(data.b),
        _number(data.B),
        _number(data.a),
        _number(data.A),
    )


def _number(text: str) -> int:
    try:
        value = parse_e8(text)
    except InexactDecimalError:
        raise _UnreadableError("a number that eight decimals can't hold") from None
    if not 0 <= value < MAX_E8:
        raise _UnreadableError("a number out of range")
    return value
