"""What happened to the collector itself, kept as envelopes under `raw/<exchange>/_control`.

With them the coverage of a stream in time, and the cause of a hole in its ids, follow from raw alone. The
`message` of such an envelope is one of these records, told apart by "event". New fields may be added, with a
default; none may change its meaning.
"""

from __future__ import annotations

import msgspec

CONTROL = "_control"  # stands where a symbol's name would


class Event(msgspec.Struct, frozen=True, tag_field="event", omit_defaults=True):
    """Base of all records."""


class CollectorStarted(Event, frozen=True, tag="collector_started"):
    """`hole_grace_seconds`: for how long an id that was jumped over may come before it counts as missed."""

    collector: str
    version: str
    hole_grace_seconds: float = 5.0


class CollectorStopped(Event, frozen=True, tag="collector_stopped"):
    """Written last, after every open connection has ended. Absent after kill -9."""

    collector: str
    reason: str


class Connected(Event, frozen=True, tag="connected"):
    url: str
    replaces: str | None = None  # the connection this one takes over from


class Subscribed(Event, frozen=True, tag="subscribed"):
    """The exchange acknowledged these streams on this connection (or they were in its URL)."""

    streams: tuple[str, ...]


class Unsubscribed(Event, frozen=True, tag="unsubscribed"):
    streams: tuple[str, ...]


class Alive(Event, frozen=True, tag="alive"):
    """Every few seconds per connection: the greatest exchange time seen on it so far.

    `exchange_time_us` 0: none seen yet.
    """

    exchange_time_us: int
    messages: int


class Disconnected(Event, frozen=True, tag="disconnected"):
    """A connection ended. `reason` is one of capture's outcomes."""

    reason: str
    detail: str
    exchange_time_us: int
    connected_seconds: float
    messages: int


class ClockOffset(Event, frozen=True, tag="clock_offset"):
    """The exchange's clock minus ours, by GET /time; off by at most half the round trip."""

    offset_us: int
    round_trip_us: int


class MessagesLost(Event, frozen=True, tag="messages_lost"):
    """Messages that came and could not be written. `reason`: `disk_full` or `write_error`.

    `first_id` and `last_id`: of the trades among them, 0 where there were none. Written when the next message of the
    stream is taken again.
    """

    symbol: str
    stream: str
    count: int
    reason: str
    bytes: int = 0
    first_id: int = 0
    last_id: int = 0


class RestAnswer(Event, frozen=True, tag="rest_answer"):
    """What the exchange answered when it was asked for ids first_id..last_id of a symbol, verbatim.

    Kept where an outcome in the ledger rests on it, and on no healed file. `source`: the call, as in a healed line.
    `status`: of HTTP, 0 where no answer came; then `body` says why.
    """

    symbol: str
    source: str
    first_id: int
    last_id: int
    status: int
    body: str


AnyEvent = (
    CollectorStarted
    | CollectorStopped
    | Connected
    | Subscribed
    | Unsubscribed
    | Alive
    | Disconnected
    | ClockOffset
    | MessagesLost
    | RestAnswer
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def encode_event(event: AnyEvent) -> bytes:
    return _encoder.encode(event)


def decode_event(message: bytes | msgspec.Raw) -> AnyEvent:
    """Raises msgspec.ValidationError for an event of a later version that this one does not know."""
    return _decoder.decode(message)
