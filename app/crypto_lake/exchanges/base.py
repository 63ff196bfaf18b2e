"""What the collector needs to know of an exchange, and nothing it does with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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


class PastRow(msgspec.Struct, frozen=True, gc=False):
    """What is read of a row of past trades: one trade's (first_id = last_id), or an aggregate's.

    key: by which the next page is asked for, the trade's or the aggregate's own id. `message`: the row's bytes, verbatim.
    """

    first_id: int
    last_id: int
    time_us: int
    key: int
    message: bytes


@dataclass(frozen=True, slots=True)
class PastCall:
    """A REST request for past trades. `source`: what raw lines call it. An answer has at most `rows`, oldest first.

    read: the answer's rows in its order; raises ValueError where it is none.
    """

    source: str
    path: str
    weight: int
    rows: int
    read: Callable[[bytes], list[PastRow]]


@dataclass(frozen=True, slots=True)
class PastHost:
    """A base URL, and which calls it serves, by their source."""

    url: str
    serves: frozenset[str]


@dataclass(frozen=True, slots=True)
class Past:
    """How trades of the past are had: by id, as aggregates by time, and as daily archives.

    hosts: in the order in which they are asked. trades_query: from this trade id on. aggregates_query: of a time span
    in microseconds, or (`aggregates_next`) from an aggregate's id on. archive_path: of a symbol's day; behind it
    `checksum_suffix` names the file with its SHA-256. archive_message: a row of the archive, split at its commas, in
    the form of a row of `trades`; raises ValueError where it is none.
    """

    hosts: tuple[PastHost, ...]
    trades: PastCall
    aggregates: PastCall
    trades_query: Callable[[str, int, int], dict[str, str]]
    aggregates_query: Callable[[str, int, int, int], dict[str, str]]
    aggregates_next: Callable[[str, int, int], dict[str, str]]
    used_weight_header: str
    archive: str
    archive_path: Callable[[str, str], str]
    checksum_suffix: str
    archive_message: Callable[[Sequence[bytes]], PastRow]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class BestQuote(msgspec.Struct, frozen=True, gc=False):
    """The best bid and ask, in hundred-millionths."""

    bid_e8: int
    bid_size_e8: int
    ask_e8: int
    ask_size_e8: int


class Newest(msgspec.Struct, frozen=True):
    """The newest trade id of a symbol (-1: it has had none for a day) and its best quote. `row`: the answer, verbatim."""

    last_id: int
    quote: BestQuote
    row: bytes = b""


class KlineRow(msgspec.Struct, frozen=True, gc=False):
    """The exchange's own bar of one second. Prices and volumes in hundred-millionths."""

    open_us: int
    open_e8: int
    high_e8: int
    low_e8: int
    close_e8: int
    volume_base_e8: int
    volume_quote_e8: int
    trade_count: int
    taker_base_e8: int
    taker_quote_e8: int


class StreamedKline(msgspec.Struct, frozen=True, gc=False):
    """A one-second kline as its stream told it. last_id: of its last trade, -1 where it has none. closed: its second is
    over; one that is not closed is in the making.
    """

    symbol: str
    row: KlineRow
    last_id: int
    closed: bool


@dataclass(frozen=True, slots=True)
class PresentCall:
    """A REST request. `source`: what a kept answer calls it. `most`: symbols that may be asked for at once, or rows of an
    answer.
    """

    source: str
    path: str
    weight: int
    most: int


@dataclass(frozen=True, slots=True)
class Present:
    """What the exchange says of its market as it is, and of one-second klines.

    newest: the newest trade id and quote of several symbols. trading: whether they trade at all. klines_query: of a
    symbol's seconds from one time in microseconds on, before another. What reads an answer raises ValueError where it
    is of another form; `read_quote` and `read_kline` (of a message of the stream) give None. says_unknown_symbol: of the
    answer to a request that was refused, whether it says that there is no such symbol.
    """

    newest: PresentCall
    trading: PresentCall
    klines: PresentCall
    symbols_query: Callable[[Sequence[str]], dict[str, str]]
    klines_query: Callable[[str, int, int, int], dict[str, str]]
    read_newest: Callable[[bytes], dict[str, Newest]]
    read_trading: Callable[[bytes], dict[str, bool]]
    read_klines: Callable[[bytes], list[KlineRow]]
    read_quote: Callable[[bytes], BestQuote | None]
    read_kline: Callable[[bytes], StreamedKline | None]
    says_unknown_symbol: Callable[[bytes], bool]


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
    past: Past
    present: Present
