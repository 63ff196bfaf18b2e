"""Binance spot market data.

Facts of the protocol are from Binance's own documents (github.com/binance/binance-spot-api-docs,
web-socket-streams.md and rest-api.md as of 2026-07-21).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from crypto_lake.exchanges.base import Exchange, Head, Limits, UnassignableMessageError
from crypto_lake.exchanges.binance_past import PAST
from crypto_lake.exchanges.binance_present import PRESENT
from crypto_lake.exchanges.binance_time import MICROSECONDS_FROM, to_us
from crypto_lake.model.market import Stream
from crypto_lake.model.symbols import InvalidSymbolError, validate_symbol


class _Data(msgspec.Struct, gc=False):
    e: str = ""
    E: int = 0
    t: int = -1
    T: int = 0


class _Message(msgspec.Struct, gc=False):
    """The wrapper of combined streams, and the shapes that come without it (replies, errors)."""

    stream: str | None = None
    data: _Data | None = None
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    code: int | None = None
    error: msgspec.Raw | None = None
    e: str = ""


_decode = msgspec.json.Decoder(_Message).decode


def head(message: bytes) -> Head:
    """Read stream, id and times of a message of a combined connection (`/stream`).

    Raises UnassignableMessageError where it is not JSON, or of no shape the documents know.
    """
    try:
        read = _decode(message)
    except msgspec.MsgspecError as error:
        raise UnassignableMessageError(f"not a message of the exchange: {error}") from None
    except UnicodeDecodeError:
        raise UnassignableMessageError("broken UTF-8") from None
    stream, data = read.stream, read.data
    if stream is not None and data is not None:
        if data.e == "serverShutdown":
            return Head(None, event_time_us=to_us(data.E), control="shutdown")
        if data.e == "trade":
            if data.t < 0 or data.T <= 0:
                raise UnassignableMessageError("a trade without its id or time")
            traded, sent = data.T, data.E  # to_us, without two calls a message
            if traded < MICROSECONDS_FROM:
                traded *= 1000
            if sent < MICROSECONDS_FROM:
                sent *= 1000
            return Head(stream, data.t, traded, sent)
        return Head(stream, -1, 0, to_us(data.E)) if data.E else Head(stream)
    if read.e == "serverShutdown":
        return Head(None, control="shutdown")
    if read.code is not None or read.error is not None:
        return Head(None, control="error", request_id=None if read.id is msgspec.UNSET else read.id)
    if read.id is not msgspec.UNSET:
        return Head(None, control="reply", request_id=read.id)
    raise UnassignableMessageError("neither a stream's message nor a reply")


def stream_name(symbol: str, stream: Stream) -> str:
    """BTCUSDT, trade -> btcusdt@trade."""
    return f"{symbol.lower()}@{stream.value}"


def parse_stream_name(name: str) -> tuple[str, Stream]:
    """btcusdt@trade -> BTCUSDT, trade."""
    symbol, _, kind = name.partition("@")
    try:
        return validate_symbol(symbol.upper()), Stream(kind)
    except (ValueError, InvalidSymbolError):
        raise UnassignableMessageError(f"unknown stream {name!r}") from None


def subscribe(streams: Sequence[str], request_id: int) -> bytes:
    return msgspec.json.encode({"method": "SUBSCRIBE", "params": list(streams), "id": request_id})


def unsubscribe(streams: Sequence[str], request_id: int) -> bytes:
    return msgspec.json.encode({"method": "UNSUBSCRIBE", "params": list(streams), "id": request_id})


__all__ = ["BINANCE", "head", "parse_stream_name", "stream_name", "subscribe", "to_us", "unsubscribe"]

BINANCE = Exchange(
    name="binance",
    websocket="wss://data-stream.binance.vision",
    rest="https://data-api.binance.vision",
    limits=Limits(
        streams_per_connection=1024,
        messages_per_second=5,
        connection_attempts=300,
        connection_window_seconds=300.0,
        lifetime_seconds=24 * 3600.0,
        weight_per_minute=6000,
    ),
    connect_path="/stream",
    contiguous_trade_ids=True,
    stream_name=stream_name,
    parse_stream_name=parse_stream_name,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    head=head,
    past=PAST,
    present=PRESENT,
)
