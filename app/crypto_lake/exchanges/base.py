"""What the collector needs to know of an exchange, and nothing it does with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from crypto_lake.model.market import Stream


class UnassignableMessageError(ValueError):
    """A message whose stream, or whose place in it, can't be told. The text is the reason for quarantine."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """What is read of a message on its way to the disk.

    stream: its name as subscribed (`btcusdt@trade`), or None for a control message.
    trade_id: of a trade, else -1.
    trade_time_us: of a trade, else 0.
    event_time_us: when the exchange sent it, 0 where it does not say (bookTicker).
    control: of a control message: "reply" (to a request of ours), "error" (the same, refused), "shutdown" (the
        server will end the connection), else "".
    request_id: of a reply, else None.
    """

    stream: str | None
    trade_id: int = -1
    trade_time_us: int = 0
    event_time_us: int = 0
    control: str = ""
    request_id: int | str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the exchange allows, with its own figures."""

    streams_per_connection: int
    messages_per_second: int  # client to server, on one connection
    connection_attempts: int  # per address, in `connection_window_seconds`
    connection_window_seconds: float
    lifetime_seconds: float  # a connection is cut then, whatever happens
    weight_per_minute: int  # REST, per address


@dataclass(frozen=True, slots=True)
class Exchange:
    """A spot exchange as the collector sees it."""

    name: str
    websocket: str  # default base URL
    rest: str
    limits: Limits
    connect_path: str  # appended to the base URL; streams are then subscribed by message
    contiguous_trade_ids: bool  # per symbol, each id is the one before + 1
    stream_name: Callable[[str, Stream], str]
    parse_stream_name: Callable[[str], tuple[str, Stream]]  # raises UnassignableMessageError
    subscribe: Callable[[Sequence[str], int], bytes]
    unsubscribe: Callable[[Sequence[str], int], bytes]
    head: Callable[[bytes], Head]  # raises UnassignableMessageError
