"""The transport's interface over picows, for the benchmark: is another library worth a dependency?

Reads are coalesced by pausing picows' underlying transport for the same time. It does what is measured, and no more
(no limits, no outcomes told apart).
"""

from __future__ import annotations

import asyncio

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from crypto_lake.capture.outcome import Ending, Reason
from crypto_lake.capture.transport import Receiver, Target


class _Listener(WSListener):
    def __init__(self, receiver: Receiver, wait_seconds: float) -> None:
        super().__init__()
        self.receiver = receiver
        self.wait_seconds = wait_seconds
        self.messages: list[bytes] = []
        self.bytes_received = 0
        self.loop = asyncio.get_running_loop()
        self.last_received_at = self.loop.time()
        self.transport: WSTransport | None = None
        self.closed = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            message = frame.get_payload_as_bytes()
            self.messages.append(message)
            self.bytes_received += len(message)
        elif frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        if frame.last_in_buffer:
            messages, self.messages = self.messages, []
            self.last_received_at = self.loop.time()
            if messages:
                self.receiver.received(messages)
            if not self.closed:
                transport.underlying_transport.pause_reading()
                self.loop.call_later(self.wait_seconds, self._resume)

    def _resume(self) -> None:
        if self.closed or self.transport is None:
            return
        if self.receiver.may_read():
            self.transport.underlying_transport.resume_reading()
        else:
            self.loop.call_later(0.02, self._resume)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self.closed:
            self.closed = True
            self.receiver.ended(Ending(Reason.RESET, "picows"))

    # Transport
    def send(self, message: bytes) -> None:
        if self.transport is not None and not self.closed:
            self.transport.send(WSMsgType.TEXT, message)

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.closed = True
        if self.transport is not None:
            self.transport.disconnect(False)


async def open_picows(target: Target, receiver: Receiver) -> _Listener:
    _, listener = await ws_connect(
        lambda: _Listener(receiver, target.coalesce_ms / 1000),
        target.url,
        ssl_context=target.tls,
        enable_auto_pong=False,
    )
    assert isinstance(listener, _Listener)
    return listener
