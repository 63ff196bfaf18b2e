"""A WebSocket client that reads seldom and much.

At thousands of small messages a second the cost of a socket is not in parsing but in waking up: under TLS each
message is a record, and a usual client wakes for each. Here a readable socket is drained wholly, decrypted and
cut into messages, which are handed over in one call; then nothing looks at it for `coalesce_ms`. Receive times
are that much less precise. A socket that was found empty costs nothing until the loop calls it readable.

TLS goes through an `ssl.SSLObject`: asyncio's own TLS layer goes on reading while its user is paused, so it
can't be slowed down from outside. The WebSocket protocol is that of the `websockets` package, by its Sans-I/O
side; only whole, unmasked, unfragmented text frames, which is what an exchange sends, are cut out by `Framing`
itself. All else, and every judgement about it, is the library's.

`Transport` and `Receiver` are the seam: another library fits behind them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from websockets.frames import CloseCode
from websockets.protocol import State

from crypto_lake.capture.framing import Framing
from crypto_lake.capture.outcome import Ending, Reason
from crypto_lake.capture.tls import Tls, text_of

_log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024
_DRAIN_BYTES = 1024 * 1024  # of one drain; then other connections have their turn
_UNSENT_LIMIT_BYTES = 1024 * 1024
_PAUSE_SECONDS = 0.02  # between two looks whether reading may go on


class TransportError(Exception):
    """No connection came about; `ending` says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"{ending.reason}: {ending.detail}")
        self.ending = ending


class Receiver(Protocol):
    """What a transport tells to whom it works for. Called from the event loop."""

    def received(self, messages: list[bytes]) -> None:
        """All messages of one read, in order; never an empty list."""
        ...

    def ended(self, ending: Ending) -> None:
        """The last call, once, for an end that was not asked for by `close` or `abort`."""
        ...

    def may_read(self) -> bool:
        """False: leave the socket alone for now. What the peer sends then waits in the kernel and at its side."""
        ...


class Transport(Protocol):
    @property
    def bytes_received(self) -> int:
        """Since it was opened, as they came over the wire, TLS included."""
        ...

    @property
    def last_received_at(self) -> float:
        """The loop's time of the last byte, or of the last moment at which reading was paused."""
        ...

    def send(self, message: bytes) -> None:
        """Send a text message; what the socket does not take at once is kept. Without effect after the end."""
        ...

    def close(self) -> None:
        """Take what has already come, send a close frame if the socket takes it, and be gone. Never waits."""
        ...

    def abort(self) -> None:
        """Be gone at once."""
        ...


Connector = Callable[["Target", Receiver], Awaitable[Transport]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect and how.

    url: ws:// or wss://, with path.
    tls: the context for wss; the default one verifies against the system's certificates.
    max_message_bytes: a larger message ends the connection.
    """

    url: str
    tls: ssl.SSLContext | None = None
    coalesce_ms: float = 5.0
    open_timeout_seconds: float = 10.0
    max_message_bytes: int = 1024 * 1024


class CoalescingTransport:
    """A Transport over a connected socket whose handshakes are done. `open_transport` makes it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        tls: Tls | None,
        framing: Framing,
        receiver: Receiver,
        coalesce_seconds: float,
    ) -> None:
        self.bytes_received = 0
        self.last_received_at = loop.time()
        self._loop = loop
        self._sock = sock
        self._tls = tls
        self._framing = framing
        self._receiver = receiver
        self._wait_seconds = coalesce_seconds
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._unsent = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._reading = False  # whether the loop watches the socket for us
        self._open = True

    def start(self, first: bytes) -> None:
        """Begin to read; `first` came behind the handshake. To be called soon, not in the opener's stack."""
        if self._open:
            self._hand_over([first] if first else [])
            self._look()

    def send(self, message: bytes) -> None:
        if self._open and self._framing.protocol.state is State.OPEN:
            self._framing.protocol.send_text(message)
            self._flush_protocol()

    def close(self) -> None:
        if not self._open:
            return
        if self._receiver.may_read():
            self._drain()
        # The drain may have found the end, or its receiver may have called us.
        if self._open and self._framing.protocol.state is State.OPEN:
            self._framing.protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush_protocol()
        self.abort()

    def abort(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()

    # Reading

    def _look(self) -> None:
        """Drain the socket if that is allowed, and settle when to look again."""
        self._timer = None
        if not self._open:
            return
        if not self._receiver.may_read():
            self._unwatch()
            self.last_received_at = self._loop.time()
            self._timer = self._loop.call_later(_PAUSE_SECONDS, self._look)
            return
        taken = self._drain()
        if not self._open:
            return
        if taken:
            self._unwatch()
            wait = 0.0 if taken >= _DRAIN_BYTES else self._wait_seconds
            self._timer = self._loop.call_later(wait, self._look)
        elif not self._reading:
            self._reading = True
            self._loop.add_reader(self._sock, self._look)

    def _unwatch(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock)

    def _drain(self) -> int:
        """Read what is there, up to a bound, and hand it over. Returns the number of bytes."""
        taken = 0
        pieces: list[bytes] = []
        ending: Ending | None = None
        tls, view = self._tls, self._view
        while taken < _DRAIN_BYTES:
            try:
                count = self._sock.recv_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                ending = Ending(Reason.RESET, str(error))
                break
            if count == 0:
                ending = Ending(Reason.RESET, "the stream ended without a close frame")
                break
            taken += count
            if tls is None:
                pieces.append(bytes(view[:count]))
                continue
            tls.incoming.write(view[:count])
            try:
                tls.decrypt(pieces)
            except ssl.SSLError as error:
                ending = Ending(Reason.TLS, text_of(error))
                break
            if tls.eof:
                ending = Ending(Reason.RESET, "TLS was closed without a close frame")
                break
        if taken:
            self.bytes_received += taken
            self.last_received_at = self._loop.time()
        self._hand_over(pieces)
        if ending is not None:
            self._end(ending)
        return taken

    def _hand_over(self, pieces: list[bytes]) -> None:
        if not pieces:
            if self._tls is not None and self._tls.outgoing.pending:
                self._flush()  # TLS has words of its own (a key update)
            return
        try:
            messages = self._framing.feed(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            if messages:
                self._receiver.received(messages)
        except Exception as error:
            _log.exception("what came over a connection could not be taken")
            self._end(Ending(Reason.INTERNAL_ERROR, repr(error)))
            return
        self._flush_protocol()
        if self._framing.ending is not None:
            self._end(self._framing.ending)

    # Writing

    def _flush_protocol(self) -> None:
        for data in self._framing.protocol.data_to_send():
            if not data:
                continue  # the library's wish to half-close; we close wholly
            if self._tls is None:
                self._unsent += data
            else:
                try:
                    self._tls.object.write(data)
                except ssl.SSLError as error:
                    self._end(Ending(Reason.TLS, text_of(error)))
                    return
        self._flush()

    def _flush(self) -> None:
        if not self._open:
            return
        if self._tls is not None and self._tls.outgoing.pending:
            self._unsent += self._tls.outgoing.read()
        if not self._unsent:
            return
        try:
            sent = self._sock.send(self._unsent)
            del self._unsent[:sent]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._end(Ending(Reason.RESET, str(error)))
            return
        if len(self._unsent) > _UNSENT_LIMIT_BYTES:
            self._end(Ending(Reason.PROTOCOL_ERROR, "the server asks for answers and reads none"))
        elif self._unsent:
            self._loop.add_writer(self._sock, self._flush)
        else:
            self._loop.remove_writer(self._sock)

    def _end(self, ending: Ending) -> None:
        if self._open:
            self.abort()
            self._receiver.ended(ending)
