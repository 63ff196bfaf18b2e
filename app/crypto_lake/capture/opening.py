"""From a URL to an open transport, or to the reason why there is none."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.protocol import State
from websockets.uri import WebSocketURI, parse_uri

from crypto_lake.capture.framing import Framing
from crypto_lake.capture.outcome import Ending, Reason
from crypto_lake.capture.tls import Tls, text_of
from crypto_lake.capture.transport import CoalescingTransport, Receiver, Target, Transport, TransportError

# What getaddrinfo gives: family, kind, protocol, canonical name, address.
_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]

_READ_BYTES = 64 * 1024
_RESPONSE_HEAD_BYTES = 64 * 1024


async def open_transport(target: Target, receiver: Receiver) -> Transport:
    """Connect, do the handshakes of TLS and WebSocket, and begin to read once the caller has yielded to the loop.

    Raises TransportError. Cancelled, it leaves no socket behind.
    """
    try:
        uri = parse_uri(target.url)
    except InvalidURI as error:
        raise TransportError(Ending(Reason.PROTOCOL_ERROR, str(error))) from None
    loop = asyncio.get_running_loop()
    sock: socket.socket | None = None
    doing = "resolving the name"
    try:
        async with asyncio.timeout(target.open_timeout_seconds):
            addresses = await loop.getaddrinfo(uri.host, uri.port, type=socket.SOCK_STREAM)
            doing = "connecting"
            sock = await _connect(loop, addresses, target.open_timeout_seconds)
            tls = None
            if uri.secure:
                doing = "the TLS handshake"
                tls = Tls(target.tls or ssl.create_default_context(), uri.host)
                await _tls_handshake(loop, sock, tls)
            doing = "the WebSocket handshake"
            protocol, first = await _upgrade(loop, sock, tls, uri)
    except BaseException as error:
        if sock is not None:
            sock.close()
        ending = _ending_of(error, f"{doing} with {uri.host}:{uri.port}", target.open_timeout_seconds)
        if ending is None:
            raise
        raise TransportError(ending) from error
    framing = Framing(protocol, target.max_message_bytes)
    transport = CoalescingTransport(loop, sock, tls, framing, receiver, target.coalesce_ms / 1000)
    loop.call_soon(transport.start, first)
    return transport


async def _connect(
    loop: asyncio.AbstractEventLoop,
    addresses: Sequence[_Address],
    timeout_seconds: float,
) -> socket.socket:
    """The first address that answers. Each has its share of the time, so that a dead one (IPv6 without a route
    that says so) does not use it up."""
    share = timeout_seconds / len(addresses)
    failure: OSError = OSError("no address")
    for family, kind, proto, _, address in addresses:
        sock = socket.socket(family, kind, proto)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(share):
                await loop.sock_connect(sock, address)
        except OSError as error:  # TimeoutError is one
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def _tls_handshake(loop: asyncio.AbstractEventLoop, sock: socket.socket, tls: Tls) -> None:
    while True:
        try:
            tls.object.do_handshake()
            break
        except ssl.SSLWantReadError:
            if tls.outgoing.pending:
                await loop.sock_sendall(sock, tls.outgoing.read())
            data = await loop.sock_recv(sock, _READ_BYTES)
            if not data:
                raise ConnectionResetError("the server ended the connection") from None
            tls.incoming.write(data)
        except ssl.SSLError:
            if tls.outgoing.pending:  # the alert that tells the server why
                await loop.sock_sendall(sock, tls.outgoing.read())
            raise
    if tls.outgoing.pending:
        await loop.sock_sendall(sock, tls.outgoing.read())


async def _upgrade(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    tls: Tls | None,
    uri: WebSocketURI,
) -> tuple[ClientProtocol, bytes]:
    """Ask for a WebSocket. Returns the protocol, open, and the bytes that came behind the answer."""
    protocol = ClientProtocol(uri, max_size=None)  # Framing has the limit
    protocol.send_request(protocol.connect())
    request = b"".join(protocol.data_to_send())
    if tls is not None:
        tls.object.write(request)
        request = tls.outgoing.read()
    await loop.sock_sendall(sock, request)
    # Of a 101 the library is given the head alone: what follows it are frames, and those are Framing's matter.
    head, in_head = b"", True
    while True:
        data = await loop.sock_recv(sock, _READ_BYTES)
        ended = not data
        if tls is not None:
            tls.incoming.write(data)
            pieces: list[bytes] = []
            tls.decrypt(pieces)
            data, ended = b"".join(pieces), ended or tls.eof
        if in_head:
            head += data
            end = head.find(b"\r\n\r\n") + 4
            in_head = end < 4 and len(head) <= _RESPONSE_HEAD_BYTES and not ended
            if in_head:
                continue
            end = end if end >= 4 else len(head)
            protocol.receive_data(head[:end])
            if protocol.state is State.OPEN:
                return protocol, head[end:]
            data = head[end:]
        if data and protocol.handshake_exc is None:
            protocol.receive_data(data)
        if ended and protocol.handshake_exc is None:
            protocol.receive_eof()
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc
        if ended:
            raise ConnectionResetError("the server ended the connection")


def _ending_of(error: BaseException, doing: str, timeout_seconds: float) -> Ending | None:
    """What kept a connection from coming about; None: the error is not of the network's kind."""
    match error:
        case TimeoutError():
            return Ending(Reason.TIMEOUT, f"{doing} took more than {timeout_seconds:g} s")
        case socket.gaierror():
            return Ending(Reason.DNS, f"{doing}: {error.strerror}")
        case ssl.SSLError() | ssl.CertificateError():
            return Ending(Reason.TLS, f"{doing}: {text_of(error)}")
        case ConnectionRefusedError():
            return Ending(Reason.REFUSED, f"{doing}: {error.strerror}")
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return Ending(Reason.RESET, f"{doing}: {error}")
        case OSError():
            return Ending(Reason.UNREACHABLE, f"{doing}: {error}")
        case InvalidStatus():
            response = error.response
            return Ending(
                Reason.HANDSHAKE_REJECTED,
                f"{doing}: HTTP {response.status_code} {response.reason_phrase}",
                http_status=response.status_code,
                retry_after_seconds=retry_after_seconds(response.headers.get("Retry-After"), time.time()),
            )
        case Exception() if not isinstance(error, asyncio.CancelledError):
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            return Ending(Reason.PROTOCOL_ERROR, f"{doing}: {error}{cause}")
        case _:
            return None


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """A Retry-After header (seconds, or a date) as seconds from now, at least 0; None: absent or unreadable."""
    if header is None:
        return None
    try:
        if header.strip().isdecimal():
            return float(header)
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, OverflowError):
        return None
