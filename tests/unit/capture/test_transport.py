"""The transport: framing by properties, the rest over real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri
from websockets.utils import accept_key

from crypto_lake.capture.framing import Framing
from crypto_lake.capture.opening import open_transport, retry_after_seconds
from crypto_lake.capture.outcome import Ending, Reason
from crypto_lake.capture.tls import tls_context
from crypto_lake.capture.transport import CoalescingTransport, Target, TransportError

LIMIT = 100_000


def framing(limit: int = LIMIT) -> Framing:
    return Framing(ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None), limit)


def wire(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


def answers(subject: Framing) -> list[Frame]:
    """What the client would send, read by a server."""
    server = ServerProtocol(state=State.OPEN)
    for data in subject.protocol.data_to_send():
        if data:
            server.receive_data(data)
    return [event for event in server.events_received() if isinstance(event, Frame)]


# Sizes on both sides of where a frame's header changes its form.
payloads = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([125, 126, 127, 65535, 65536, LIMIT]).map(lambda size: b"x" * size),
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[bytes], list[bytes]]:
    """Bytes of a server, the messages in them and the payloads of its pings."""
    stream, messages, pings = bytearray(), list[bytes](), list[bytes]()

    def maybe_ping() -> None:
        if draw(st.booleans()):
            pings.append(draw(st.binary(max_size=125)))
            stream.extend(wire(Opcode.PING, pings[-1]))

    for message in draw(st.lists(payloads, max_size=6)):
        maybe_ping()
        messages.append(message)
        cuts = sorted(draw(st.lists(st.integers(0, len(message)), max_size=3)))
        pieces = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
        for index, piece in enumerate(pieces):
            opcode = Opcode.CONT if index else draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY]))
            stream.extend(wire(opcode, piece, index == len(pieces) - 1))
            maybe_ping()
    return bytes(stream), messages, pings


@given(conversations(), st.data())
def test_messages_come_out_whole_however_the_bytes_are_cut(
    conversation: tuple[bytes, list[bytes], list[bytes]], data: st.DataObject
) -> None:
    stream, messages, pings = conversation
    subject = framing()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    got: list[bytes] = []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += subject.feed(stream[a:b])
    assert got == messages
    assert subject.ending is None
    pongs = answers(subject)
    assert [bytes(frame.data) for frame in pongs] == pings
    assert all(frame.opcode is Opcode.PONG for frame in pongs)


def test_a_ping_between_the_fragments_of_the_largest_message_does_no_harm() -> None:
    subject = framing()
    first, last = wire(Opcode.TEXT, b"x" * LIMIT, False), wire(Opcode.CONT, b"")
    assert subject.feed(first + wire(Opcode.PING, b"p" * 125) + last) == [b"x" * LIMIT]
    assert subject.ending is None


@given(conversations())
def test_byte_by_byte(conversation: tuple[bytes, list[bytes], list[bytes]]) -> None:
    stream, messages, _ = conversation
    if len(stream) > 2000:
        stream, messages = wire(Opcode.TEXT, b"y" * 200), [b"y" * 200]
    subject = framing()
    got = [message for at in range(len(stream)) for message in subject.feed(stream[at : at + 1])]
    assert got == messages


@given(st.lists(st.binary(max_size=300), max_size=5), st.binary(min_size=1, max_size=300))
def test_nothing_that_comes_raises_and_good_messages_before_it_are_kept(
    good: list[bytes], bad: bytes
) -> None:
    subject = framing()
    messages = subject.feed(b"".join(wire(Opcode.TEXT, message) for message in good) + bad)
    assert messages[: len(good)] == good


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (wire(Opcode.TEXT, b"x" * (LIMIT + 1)), "exceeds"),
        (struct.pack("!BBQ", 0x81, 127, 2**63 - 1), "exceeds"),
        (wire(Opcode.TEXT, b"x" * (LIMIT - 5), False) + wire(Opcode.CONT, b"x" * 6), "exceeds"),
        # Its mask is random: the test's name is not.
        pytest.param(Frame(Opcode.TEXT, b"masked").serialize(mask=True), "mask", id="masked"),
        (b"\x83\x00", "opcode"),
        (b"\xc1\x01x", "reserved"),
        (wire(Opcode.CONT, b"x"), "continuation"),
        (wire(Opcode.TEXT, b"x", False) + wire(Opcode.TEXT, b"y"), "continuation"),
    ],
)
def test_what_is_no_frame_ends_the_connection_with_a_reason(bad: bytes, says: str) -> None:
    subject = framing()
    assert subject.feed(wire(Opcode.TEXT, b"good") + bad) == [b"good"]
    assert subject.ending is not None
    assert subject.ending.reason is Reason.PROTOCOL_ERROR
    assert says in subject.ending.detail
    assert [frame.opcode for frame in answers(subject)] == [Opcode.CLOSE]  # the server is told why


def test_a_close_frame_is_echoed_and_named() -> None:
    subject = framing()
    close = wire(Opcode.CLOSE, struct.pack("!H", 1012) + b"maintenance")
    assert subject.feed(wire(Opcode.TEXT, b"last") + close + wire(Opcode.TEXT, b"never")) == [b"last"]
    assert subject.ending == Ending(Reason.SERVER_CLOSED, "maintenance", close_code=1012)
    assert [bytes(frame.data) for frame in answers(subject)] == [struct.pack("!H", 1012) + b"maintenance"]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:10:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:20:00 GMT", 200.0),
        ("²", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, 1000.0) == seconds


# Over sockets


class Collected:
    """A receiver that keeps everything."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.reading = True
        self._came = asyncio.Event()

    def received(self, messages: list[bytes]) -> None:
        assert messages
        self.batches.append(messages)
        self._came.set()

    def ended(self, ending: Ending) -> None:
        self.ending.set_result(ending)  # raises where it is called twice

    def may_read(self) -> bool:
        return self.reading

    @property
    def messages(self) -> list[bytes]:
        return [message for batch in self.batches for message in batch]

    async def until(self, count: int) -> None:
        while len(self.messages) < count:
            self._came.clear()
            await self._came.wait()


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await test

    asyncio.run(bounded())


class Tls:
    """A certificate for 127.0.0.1, made on the spot."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
            )
            .sign(key, hashes.SHA256())
        )
        self.ca_file = folder / "certificate.pem"
        self.ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file = folder / "key.pem"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(self.ca_file, key_file)
        self.client = tls_context(str(self.ca_file))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return Tls(tmp_path_factory.mktemp("tls"))


@contextlib.asynccontextmanager
async def websocket_server(handler: Callable[[ServerConnection], Awaitable[None]], context: Any = None):
    async with serve(handler, "127.0.0.1", 0, ssl=context, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"{'wss' if context else 'ws'}://127.0.0.1:{port}/stream"


@contextlib.asynccontextmanager
async def raw_server(handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]):
    failures: list[BaseException] = []

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        except Exception as error:
            failures.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream"
    finally:
        server.close()
        await server.wait_closed()
    assert failures == []


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, behind: bytes = b"") -> None:
    request = await reader.readuntil(b"\r\n\r\n")
    key = next(
        line.split(b": ")[1] for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key")
    )
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key.decode()).encode() + b"\r\n\r\n" + behind
    )
    await writer.drain()


@pytest.mark.parametrize("secure", [False, True])
def test_all_messages_in_order_few_calls_pings_answered_and_our_text_arrives(tls: Tls, secure: bool) -> None:
    async def test() -> None:
        heard: list[Any] = []

        async def handler(server: ServerConnection) -> None:
            heard.append(await server.recv())
            for number in range(3000):
                await server.send(f"{number} {'x' * (number % 400)}")
            await (await server.ping(b"are you there"))  # waits for the pong with the same payload
            heard.append("pong")
            await server.send(["in ", "three ", "pieces"])
            await server.wait_closed()

        async with websocket_server(handler, tls.server if secure else None) as url:
            receiver = Collected()
            transport = await open_transport(Target(url, tls.client, coalesce_ms=5), receiver)
            transport.send(b'{"method":"SUBSCRIBE"}')
            await receiver.until(3001)
            expected = [f"{n} {'x' * (n % 400)}".encode() for n in range(3000)]
            assert receiver.messages == [*expected, b"in three pieces"]
            assert heard == ['{"method":"SUBSCRIBE"}', "pong"]
            assert len(receiver.batches) < 1500
            assert transport.bytes_received > sum(map(len, expected))
            transport.close()
            transport.close()
            transport.send(b"into the void")
            await asyncio.sleep(0)
            assert not receiver.ending.done()

    run(test())


def test_frames_right_behind_the_handshake_are_not_lost() -> None:
    async def test() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            frames = wire(Opcode.TEXT, b"first") + wire(Opcode.TEXT, b"second")
            await upgrade(reader, writer, frames[:-2])
            writer.write(frames[-2:])
            await reader.read()

        async with raw_server(handler) as url:
            receiver = Collected()
            transport = await open_transport(Target(url), receiver)
            await receiver.until(2)
            assert receiver.messages == [b"first", b"second"]
            transport.abort()

    run(test())


@pytest.mark.parametrize("secure", [False, True])
def test_while_paused_nothing_is_read_and_nothing_is_lost(tls: Tls, secure: bool) -> None:
    async def test() -> None:
        sent = 0

        async def handler(server: ServerConnection) -> None:
            nonlocal sent
            for _ in range(3000):
                await server.send("y" * 10_000)
                sent += 1
            await server.wait_closed()

        async with websocket_server(handler, tls.server if secure else None) as url:
            receiver = Collected()
            receiver.reading = False
            transport = await open_transport(Target(url, tls.client), receiver)
            last = -1
            while sent != last or sent == 0:  # until the server is stuck
                last = sent
                await asyncio.sleep(0.2)
            assert sent < 3000  # it waits for us: memory is bounded at both sides
            assert len(receiver.messages) <= 20  # what came with the handshake, at most
            receiver.reading = True
            await receiver.until(3000)
            transport.abort()

    run(test())


def test_close_takes_what_has_come() -> None:
    async def test() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await upgrade(reader, writer, wire(Opcode.TEXT, b"one"))
            await reader.readexactly(1)
            writer.write(wire(Opcode.TEXT, b"two"))
            await writer.drain()
            told.set()
            rest = await reader.read()
            ends.append(rest)

        told, ends = asyncio.Event(), list[bytes]()
        async with raw_server(handler) as url:
            receiver = Collected()
            # So long a wait that only close() can have read the second message.
            transport = await open_transport(Target(url, coalesce_ms=60_000), receiver)
            await receiver.until(1)
            transport.send(b"go")
            await told.wait()
            transport.close()
            assert receiver.messages == [b"one", b"two"]
            assert not receiver.ending.done()
            while not ends:
                await asyncio.sleep(0.01)
        server = ServerProtocol(state=State.OPEN)
        server.receive_data(Frame(Opcode.TEXT, b"go").serialize(mask=True)[:1] + ends[0])
        assert [e.opcode for e in server.events_received() if isinstance(e, Frame)] == [
            Opcode.TEXT,
            Opcode.CLOSE,
        ]

    run(test())


async def _eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgrade(reader, writer, wire(Opcode.TEXT, b"one"))


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgrade(reader, writer, wire(Opcode.TEXT, b"one"))
    await reader.readexactly(1)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgrade(reader, writer, wire(Opcode.TEXT, b"one") + b"\xff" * 50)
    await reader.read()


async def _closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgrade(reader, writer, wire(Opcode.TEXT, b"one") + wire(Opcode.CLOSE, struct.pack("!H", 1001)))
    await reader.read()


async def _ping_flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await upgrade(reader, writer, wire(Opcode.TEXT, b"one"))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    while True:
        writer.write(wire(Opcode.PING, b"z" * 125) * 1000)
        await writer.drain()


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (_eof, Reason.RESET),
        (_reset, Reason.RESET),
        (_garbage, Reason.PROTOCOL_ERROR),
        (_closed, Reason.SERVER_CLOSED),
        (_ping_flood, Reason.PROTOCOL_ERROR),
    ],
)
def test_ends_that_the_server_makes(handler: Any, reason: Reason) -> None:
    async def test() -> None:
        async with raw_server(handler) as url:
            receiver = Collected()
            transport = await open_transport(Target(url, coalesce_ms=1), receiver)
            transport.send(b"x")
            ending = await receiver.ending
            assert ending.reason is reason
            assert ending.detail
            assert receiver.messages == [b"one"]
            assert isinstance(transport, CoalescingTransport)
            transport.abort()

    run(test())


def test_a_receiver_that_fails_ends_the_connection_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        class Failing(Collected):
            def received(self, messages: list[bytes]) -> None:
                raise RuntimeError("no room")

        async with raw_server(_closed) as url:
            receiver = Failing()
            await open_transport(Target(url), receiver)
            ending = await receiver.ending
            assert ending.reason is Reason.INTERNAL_ERROR
            assert "no room" in ending.detail
        assert "no room" in caplog.text

    run(test())


def _answer(text: bytes):
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        await writer.drain()

    return handler


async def _mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (_mute, Ending(Reason.TIMEOUT)),
        (_answer(b""), Ending(Reason.PROTOCOL_ERROR)),
        (_answer(b"SSH-2.0-OpenSSH\r\n\r\n"), Ending(Reason.PROTOCOL_ERROR)),
        (
            _answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
            Ending(Reason.HANDSHAKE_REJECTED, "", 200),
        ),
        (
            _answer(b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"),
            Ending(Reason.HANDSHAKE_REJECTED, "", 429, 7.0),
        ),
        (_answer(b"HTTP/1.1 503 Busy\r\n\r\nno length"), Ending(Reason.HANDSHAKE_REJECTED, "", 503)),
        (_answer(b"x" * 200_000), Ending(Reason.PROTOCOL_ERROR)),
    ],
)
def test_handshakes_that_fail(handler: Any, expected: Ending) -> None:
    async def test() -> None:
        async with raw_server(handler) as url:
            with pytest.raises(TransportError) as failure:
                await open_transport(Target(url, open_timeout_seconds=0.5), Collected())
            got = failure.value.ending
            assert got.detail
            assert (got.reason, got.http_status, got.retry_after_seconds) == (
                expected.reason,
                expected.http_status,
                expected.retry_after_seconds,
            )

    run(test())


def test_nobody_listens_unknown_name_and_a_url_that_is_none() -> None:
    async def test() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))  # bound and not listening
            url = f"ws://127.0.0.1:{bound.getsockname()[1]}/"
            for target, reason in [
                (Target(url), Reason.REFUSED),
                (Target("ws://no-such-host.invalid/"), Reason.DNS),
                (Target("http://127.0.0.1/"), Reason.PROTOCOL_ERROR),
            ]:
                with pytest.raises(TransportError) as failure:
                    await open_transport(target, Collected())
                assert failure.value.ending.reason is reason

    run(test())


def test_of_several_addresses_the_one_that_answers_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with raw_server(_closed) as url:
            port = int(url.rpartition(":")[2].partition("/")[0])
            with socket.socket() as bound:
                bound.bind(("127.0.0.1", 0))  # bound and not listening

                async def addresses(*_: Any, **__: Any) -> Any:
                    dead = (socket.AF_INET, socket.SOCK_STREAM, 6, "", bound.getsockname())
                    return [dead, (*dead[:4], ("127.0.0.1", port))]

                monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
                receiver = Collected()
                await open_transport(Target("ws://two.invalid/"), receiver)
                assert (await receiver.ending).reason is Reason.SERVER_CLOSED

    run(test())


def test_a_certificate_nobody_vouches_for_is_refused(tls: Tls, tmp_path: Path) -> None:
    async def test() -> None:
        async def handler(server: ServerConnection) -> None:
            raise AssertionError("it must not come so far")

        async with websocket_server(handler, tls.server) as url:
            for context, where in [
                (None, url),
                (Tls(tmp_path).client, url),
                (tls.client, url.replace("127.0.0.1", "localhost")),  # not the name in it
            ]:
                with pytest.raises(TransportError) as failure:
                    await open_transport(Target(where, context), Collected())
                assert failure.value.ending.reason is Reason.TLS

    run(test())


def test_tls_towards_a_server_that_speaks_none() -> None:
    async def test() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        async with raw_server(handler) as url:
            with pytest.raises(TransportError) as failure:
                await open_transport(Target(url.replace("ws:", "wss:")), Collected())
            assert failure.value.ending.reason is Reason.TLS

    run(test())


def test_cancelled_while_opening_leaves_no_socket() -> None:
    async def test() -> None:
        gone = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()  # returns at the client's end
            gone.set()

        async with raw_server(handler) as url:
            opening = asyncio.ensure_future(open_transport(Target(url), Collected()))
            await asyncio.sleep(0.1)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            await gone.wait()

    run(test())
