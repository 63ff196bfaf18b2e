"""How a connection ended, as a value. What is done about it is the feed's matter (see backoff, plan)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a connection ended, or why none came about.

    Before it stood:
    dns: the host's name was not found.
    refused: nobody listens at the address.
    unreachable: another error of the network (no route, address not available).
    tls: the handshake of TLS failed, or a record of it could not be read later.
    handshake_rejected: the server answered, not with 101 (`http_status`).
    timeout: connecting, the handshake or a reply to a request took too long.

    While it stood:
    server_closed: a close frame came (`close_code`).
    reset: the TCP connection ended without one.
    silent: not one byte came for `silence_seconds`.
    no_data: streams were acknowledged and nothing came of any.
    stream_dead: the exchange had something of a stream that did not come over it, or what came was old.
    subscribe_refused: the exchange refused all streams of the connection.
    protocol_error: what came was no WebSocket frame, or too large.
    internal_error: our own code failed on what came; the log has the traceback.

    By our own will:
    lifetime: its replacement took over before the exchange's cut.
    server_shutdown: the exchange said that it will close, and the replacement took over.
    unsubscribed: none of its streams is wanted any more.
    stopped: the feed was stopped.
    """

    DNS = "dns"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    HANDSHAKE_REJECTED = "handshake_rejected"
    TIMEOUT = "timeout"
    SERVER_CLOSED = "server_closed"
    RESET = "reset"
    SILENT = "silent"
    NO_DATA = "no_data"
    STREAM_DEAD = "stream_dead"
    SUBSCRIBE_REFUSED = "subscribe_refused"
    PROTOCOL_ERROR = "protocol_error"
    INTERNAL_ERROR = "internal_error"
    LIFETIME = "lifetime"
    SERVER_SHUTDOWN = "server_shutdown"
    UNSUBSCRIBED = "unsubscribed"
    STOPPED = "stopped"

    @property
    def planned(self) -> bool:
        """Whether it ended by our own will, with nothing lost that was wanted."""
        return self in _PLANNED


_PLANNED = frozenset({Reason.LIFETIME, Reason.SERVER_SHUTDOWN, Reason.UNSUBSCRIBED, Reason.STOPPED})


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a transport ended, or could not be opened."""

    reason: Reason
    detail: str = ""
    http_status: int | None = None
    retry_after_seconds: float | None = None
    close_code: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One connection, from its first attempt to its end.

    connected_seconds: real time since the handshake was done, 0 where there was none.
    messages: of streams; replies don't count.
    """

    ending: Ending
    connected_seconds: float
    messages: int

    @property
    def reason(self) -> Reason:
        return self.ending.reason

    @property
    def detail(self) -> str:
        return self.ending.detail
