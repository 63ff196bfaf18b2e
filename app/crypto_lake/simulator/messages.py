"""Messages of the streams, encoded once and shared by all who receive them.

A message is encoded only when a subscriber is there, and its frame is kept for the next one. A frame differs by
two properties of a connection (its `variant`): combined or raw, milliseconds or microseconds.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import NamedTuple

from crypto_lake.exchanges.binance import to_us
from crypto_lake.simulator.generator import SimulatedQuote, SimulatedTrade
from crypto_lake.simulator.klines import Kline

COMBINED = 1
MICROSECONDS = 2

_ONE_E8 = 100_000_000
_LENGTH_16_BITS = 126
_LENGTH_64_BITS = 127
_OPCODE_TEXT = 0x81
_OPCODE_BINARY = 0x82


class Aggregate(NamedTuple):
    """One taker order's fills at one price: consecutive trades of the same time, price and side."""

    id: int
    price_e8: int
    size_e8: int
    first_id: int
    last_id: int
    time_us: int
    event_us: int
    buyer_is_maker: bool


def frame(payload: bytes, *, binary: bool = False) -> bytes:
    """A whole WebSocket message in one unmasked frame, as a server sends it."""
    opcode = _OPCODE_BINARY if binary else _OPCODE_TEXT
    length = len(payload)
    if length < _LENGTH_16_BITS:
        return bytes((opcode, length)) + payload
    if length < 1 << 16:
        return bytes((opcode, _LENGTH_16_BITS)) + length.to_bytes(2, "big") + payload
    return bytes((opcode, _LENGTH_64_BITS)) + length.to_bytes(8, "big") + payload


def decimal(value_e8: int) -> bytes:
    """As the exchange writes it: eight decimals."""
    return b"%d.%08d" % divmod(value_e8, _ONE_E8)


class Message(ABC):
    """Something a stream says at `pace_us` of the exchange's clock. trade_id is -1 where it is no trade."""

    __slots__ = ("_frames", "pace_us", "stream", "symbol", "trade_id")

    def __init__(self, pace_us: int, symbol: str, stream: str, trade_id: int = -1) -> None:
        self.pace_us = pace_us
        self.symbol = symbol
        self.stream = stream
        self.trade_id = trade_id
        self._frames: dict[int, bytes] = {}

    @abstractmethod
    def data(self, *, microseconds: bool) -> bytes:
        """The raw payload."""

    def payload(self, variant: int) -> bytes:
        data = self.data(microseconds=bool(variant & MICROSECONDS))
        if variant & COMBINED:
            return b'{"stream":"%s","data":%s}' % (self.stream.encode(), data)
        return data

    def frame(self, variant: int) -> bytes:
        found = self._frames.get(variant)
        if found is None:
            found = self._frames[variant] = frame(self.payload(variant))
        return found

    def happened_us(self) -> int:
        """When what it tells of happened: of a trade its own time, which may be long before it is told."""
        return self.pace_us

    @abstractmethod
    def delayed(self, pace_us: int) -> Message:
        """The same, told at another time. What the exchange says of the trade itself does not change."""


class TradeMessage(Message):
    __slots__ = ("trade",)

    def __init__(self, symbol: str, stream: str, trade: SimulatedTrade) -> None:
        super().__init__(trade.event_us, symbol, stream, trade.id)
        self.trade = trade

    def data(self, *, microseconds: bool) -> bytes:
        trade = self.trade
        unit = 1 if microseconds else 1000
        return b'{"e":"trade","E":%d,"s":"%s","t":%d,"p":"%d.%08d","q":"%d.%08d","T":%d,"m":%s,"M":true}' % (
            trade.event_us // unit,
            self.symbol.encode(),
            trade.id,
            trade.price_e8 // _ONE_E8,
            trade.price_e8 % _ONE_E8,
            trade.size_e8 // _ONE_E8,
            trade.size_e8 % _ONE_E8,
            trade.time_us // unit,
            b"true" if trade.buyer_is_maker else b"false",
        )

    def happened_us(self) -> int:
        return self.trade.time_us

    def delayed(self, pace_us: int) -> Message:
        return TradeMessage(self.symbol, self.stream, self.trade._replace(event_us=pace_us))


class QuoteMessage(Message):
    __slots__ = ("quote",)

    def __init__(self, symbol: str, stream: str, quote: SimulatedQuote) -> None:
        super().__init__(quote.event_us, symbol, stream)
        self.quote = quote

    def data(self, *, microseconds: bool) -> bytes:
        quote = self.quote  # it bears no time, in either unit
        return b'{"u":%d,"s":"%s","b":"%d.%08d","B":"%d.%08d","a":"%d.%08d","A":"%d.%08d"}' % (
            quote.update_id,
            self.symbol.encode(),
            quote.bid_e8 // _ONE_E8,
            quote.bid_e8 % _ONE_E8,
            quote.bid_size_e8 // _ONE_E8,
            quote.bid_size_e8 % _ONE_E8,
            quote.ask_e8 // _ONE_E8,
            quote.ask_e8 % _ONE_E8,
            quote.ask_size_e8 // _ONE_E8,
            quote.ask_size_e8 % _ONE_E8,
        )

    def delayed(self, pace_us: int) -> Message:
        return QuoteMessage(self.symbol, self.stream, self.quote._replace(event_us=pace_us))


class AggregateMessage(Message):
    __slots__ = ("aggregate",)

    def __init__(self, symbol: str, stream: str, aggregate: Aggregate) -> None:
        super().__init__(aggregate.event_us, symbol, stream)
        self.aggregate = aggregate

    def data(self, *, microseconds: bool) -> bytes:
        aggregate = self.aggregate
        unit = 1 if microseconds else 1000
        return (
            b'{"e":"aggTrade","E":%d,"s":"%s","a":%d,"p":"%s","q":"%s","f":%d,"l":%d,"T":%d,"m":%s,"M":true}'
            % (
                aggregate.event_us // unit,
                self.symbol.encode(),
                aggregate.id,
                decimal(aggregate.price_e8),
                decimal(aggregate.size_e8),
                aggregate.first_id,
                aggregate.last_id,
                aggregate.time_us // unit,
                b"true" if aggregate.buyer_is_maker else b"false",
            )
        )

    def delayed(self, pace_us: int) -> Message:
        return AggregateMessage(self.symbol, self.stream, self.aggregate._replace(event_us=pace_us))


class KlineMessage(Message):
    __slots__ = ("closed", "interval", "interval_us", "kline")

    def __init__(
        self,
        pace_us: int,
        symbol: str,
        stream: str,
        interval: str,
        interval_us: int,
        kline: Kline,
        *,
        closed: bool,
    ) -> None:
        super().__init__(pace_us, symbol, stream)
        self.interval = interval
        self.interval_us = interval_us
        self.kline = kline
        self.closed = closed

    def data(self, *, microseconds: bool) -> bytes:
        kline = self.kline
        unit = 1 if microseconds else 1000
        symbol = self.symbol.encode()
        return (
            b'{"e":"kline","E":%d,"s":"%s","k":{"t":%d,"T":%d,"s":"%s","i":"%s","f":%d,"L":%d,"o":"%s","c":"%s",'
            b'"h":"%s","l":"%s","v":"%s","n":%d,"x":%s,"q":"%s","V":"%s","Q":"%s","B":"0"}}'
            % (
                self.pace_us // unit,
                symbol,
                kline.open_us // unit,
                (kline.open_us + self.interval_us) // unit - 1,
                symbol,
                self.interval.encode(),
                kline.first_id,
                kline.last_id,
                decimal(kline.open_e8),
                decimal(kline.close_e8),
                decimal(kline.high_e8),
                decimal(kline.low_e8),
                decimal(kline.volume_e8),
                kline.trade_count,
                b"true" if self.closed else b"false",
                decimal(kline.quote_volume_e8),
                decimal(kline.taker_base_e8),
                decimal(kline.taker_quote_e8),
            )
        )

    def delayed(self, pace_us: int) -> Message:
        return KlineMessage(
            pace_us,
            self.symbol,
            self.stream,
            self.interval,
            self.interval_us,
            self.kline,
            closed=self.closed,
        )


class RecordedMessage(Message):
    """A message of a recording: its bytes are sent as they are, whatever the time unit asked for."""

    __slots__ = ("_combined", "_data")

    def __init__(
        self, pace_us: int, symbol: str, stream: str, trade_id: int, combined: bytes, data: bytes
    ) -> None:
        super().__init__(pace_us, symbol, stream, trade_id)
        self._combined = combined
        self._data = data

    def data(self, *, microseconds: bool) -> bytes:
        return self._data

    def payload(self, variant: int) -> bytes:
        return self._combined if variant & COMBINED else self._data

    def happened_us(self) -> int:
        return self.pace_us if self.trade_id < 0 else to_us(int(json.loads(self._data)["T"]))

    def delayed(self, pace_us: int) -> Message:
        return RecordedMessage(pace_us, self.symbol, self.stream, self.trade_id, self._combined, self._data)


def shutdown_payload(variant: int, now_us: int) -> bytes:
    """The notice that the server is about to end the connection."""
    event = b'{"e":"serverShutdown","E":%d}' % (now_us if variant & MICROSECONDS else now_us // 1000)
    return b'{"stream":"!serverShutdown","data":%s}' % event if variant & COMBINED else event
