"""One WebSocket connection of a client: what it asked for, its limits, its pings, its end."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from crypto_lake.model.intervals import IntervalSet
from crypto_lake.simulator.limits import SlidingRate
from crypto_lake.simulator.messages import COMBINED, Message, frame, shutdown_payload
from crypto_lake.simulator.requests import answer

if TYPE_CHECKING:
    from crypto_lake.simulator.hub import Hub
    from crypto_lake.simulator.settings import Settings

_CLOSE_POLICY = 1008
_CLOSE_GOING_AWAY = 1001
_CLOSE_SECONDS = 2.0  # how long a client may take to answer a close frame


class Connection:
    """A client's connection. Frames are gathered in `out` and written by `flush`.

    delivered: ids of the trades handed to the transport, by stream. That is not yet that the client has them:
    what is on the way when a connection is cut is lost.
    """

    def __init__(self, name: str, hub: Hub, settings: Settings, variant: int) -> None:
        self.name = name
        self.variant = variant
        self.subscriptions: dict[str, None] = {}  # as the client sees them
        self.delivered: dict[str, IntervalSet] = defaultdict(IntervalSet)
        self.messages = 0
        self.out: list[bytes] = []
        self.frozen = False
        self._frozen_until = 0.0
        self.outcome = ""  # why it ended
        self.opened_monotonic = time.monotonic()
        self._hub, self._settings = hub, settings
        self._ws = web.WebSocketResponse(timeout=_CLOSE_SECONDS, autoping=False, compress=False)
        self._writer: AbstractStreamWriter | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._rate = SlidingRate(settings.messages_per_second, 1.0)
        self._pings: dict[bytes, float] = {}  # payload -> when it was sent
        self._keeper: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and not self.outcome

    @property
    def unread_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    # Sending.
    def put(self, message: Message) -> None:
        self.out.append(message.frame(self.variant))
        self.messages += 1
        if message.trade_id >= 0:
            self.delivered[message.stream].add(message.trade_id)

    def put_payload(self, payload: bytes, *, binary: bool = False) -> None:
        """Bytes that are no message of the market: replies, notices, garbage."""
        self.out.append(frame(payload, binary=binary))

    def flush(self) -> None:
        if not self.out or self.frozen:
            return
        out, self.out = self.out, []
        if not self.open or self._transport is None:
            return
        if self._settings.coalesce:
            self._transport.write(b"".join(out))
        else:
            for one in out:
                self._transport.write(one)

    async def drain(self) -> None:
        """Wait until the client has read enough that more may be written."""
        if self._writer is not None and self.open and not self.frozen:
            try:
                await self._writer.drain()
            except (ConnectionError, ssl.SSLError):
                self.end("client")

    def say_shutdown(self, now_us: int) -> None:
        self.put_payload(shutdown_payload(self.variant, now_us))
        self.flush()

    # Ending.
    def end(self, outcome: str) -> None:
        """Note why it ends; the first reason stays."""
        if not self.outcome:
            self.outcome = outcome
            self._hub.ended(self)

    def abort(self, outcome: str) -> None:
        """Cut it without a close frame, as a broken network does."""
        self.end(outcome)
        if self._transport is not None:
            self._transport.abort()

    def close(self, outcome: str, code: int = _CLOSE_GOING_AWAY, text: str = "") -> None:
        """End it with a close frame."""
        if self.outcome:
            return
        self.flush()
        self.end(outcome)
        self._closer = asyncio.ensure_future(self._close(code, text))

    async def _close(self, code: int, text: str) -> None:
        await self._ws.close(code=code, message=text.encode())
        if self._transport is not None:
            self._transport.abort()

    def freeze(self, seconds: float) -> None:
        """Open and silent for so long: neither messages nor pings, pongs, replies."""
        self.frozen = True
        until = self._frozen_until = max(self._frozen_until, time.monotonic() + seconds)
        asyncio.get_running_loop().call_later(seconds, self._thaw, until)

    def _thaw(self, until: float) -> None:
        if until >= self._frozen_until:  # a later order may have made it longer
            self.frozen = False

    # Serving.
    async def serve(self, request: web.Request, streams: tuple[str, ...]) -> web.WebSocketResponse:
        """Run the connection to its end."""
        self._writer = await self._ws.prepare(request)
        transport = request.transport
        if transport is None:  # gone already
            return self._ws
        self._transport = transport
        self._hub.opened(self)
        self._subscribe(streams)
        self._keeper = asyncio.create_task(self._keep())
        try:
            await self._read()
            if self._closer is not None:
                await self._closer
        finally:
            self.end("client")
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        return self._ws

    async def _read(self) -> None:
        while not self.outcome:
            received = await self._ws.receive()
            if received.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return
            if not self._rate.allow(time.monotonic()):
                self.end("too_many_messages")
                await self._close(_CLOSE_POLICY, "Too many requests")
                return
            if received.type is WSMsgType.PONG:
                self._answered(bytes(received.data))
            elif received.type is WSMsgType.PING:
                if not self.frozen:
                    await self._ws.pong(received.data)
            elif received.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._request(received.data)

    def _answered(self, payload: bytes) -> None:
        """A client that is behind may answer the latest ping only (RFC 6455, 5.5.3): it stands for those before."""
        if payload in self._pings:
            sent = self._pings[payload]
            self._pings = {other: at for other, at in self._pings.items() if at > sent}

    def _request(self, text: str | bytes) -> None:
        if self.frozen:
            return
        found = answer(text, self.subscriptions, combined=bool(self.variant & COMBINED))
        self.put_payload(found.payload)
        if found.combined is not None:
            self.variant = self.variant | COMBINED if found.combined else self.variant & ~COMBINED
        self.flush()
        self._subscribe(found.subscribe)
        for stream in found.unsubscribe:
            self.subscriptions.pop(stream, None)
            self._hub.unsubscribe(self, stream)

    def _subscribe(self, streams: tuple[str, ...]) -> None:
        """Note the streams, and have them sent unless the fault says: acknowledge only."""
        if not streams:
            return
        self.subscriptions.update(dict.fromkeys(streams))
        self._hub.subscribe(self, streams)

    async def _keep(self) -> None:
        """Pings, the time-out of their pongs, and the end of the connection's lifetime."""
        settings = self._settings
        now = time.monotonic()
        next_ping = now + settings.ping_seconds
        ends = self.opened_monotonic + settings.lifetime_seconds
        lead = settings.shutdown_lead_seconds
        notice = ends - lead if lead is not None else None
        while not self.outcome:
            due = [next_ping, ends, *(sent + settings.pong_timeout_seconds for sent in self._pings.values())]
            if notice is not None:
                due.append(notice)
            await asyncio.sleep(max(min(due) - time.monotonic(), 0.001))
            now = time.monotonic()
            if notice is not None and now >= notice:
                notice = None
                self.say_shutdown(self._hub.now_us())
            if now >= ends:
                self.close("lifetime", text="lifetime")
                return
            if any(now >= sent + settings.pong_timeout_seconds for sent in self._pings.values()):
                self.abort("no_pong")
                return
            if now >= next_ping:
                next_ping = now + settings.ping_seconds
                if not self.frozen:
                    payload = b"%d" % (self._hub.now_us() // 1000)
                    while payload in self._pings:
                        payload += b"0"
                    self._pings[payload] = now
                    try:
                        await self._ws.ping(payload)
                    except ConnectionError:
                        self.end("client")
