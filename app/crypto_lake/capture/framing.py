"""Bytes to messages: the WebSocket's frames, without a socket."""

from __future__ import annotations

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from crypto_lake.capture.outcome import Ending, Reason

_TEXT_FRAME = 0x81  # FIN, opcode text
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class Framing:
    """Cuts bytes into messages, starting at a frame's beginning. No socket.

    After `feed`, `ending` is set where the connection can't go on; the messages before that are good.
    Replies (pongs, the echo of a close) are in `protocol.data_to_send()`.
    """

    def __init__(self, protocol: ClientProtocol, max_message_bytes: int) -> None:
        self.protocol = protocol
        self.ending: Ending | None = None
        self._max_bytes = max_message_bytes
        self._rest = b""
        self._fragments: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """All messages that are whole with this data."""
        if self._rest:
            data = self._rest + data
        messages: list[bytes] = []
        at, size, limit = 0, len(data), self._max_bytes
        while size - at >= 2:
            length = data[at + 1]
            start = at + 2
            if length >= 126:
                if length == 126:
                    start = at + 4
                    if size < start:
                        break
                    length = data[at + 2] << 8 | data[at + 3]
                elif length == 127:
                    start = at + 10
                    if size < start:
                        break
                    length = int.from_bytes(data[at + 2 : start], "big")
                else:  # masked: the library will refuse it
                    length = limit + 1
            if length > limit:
                self._by_library(data[at:], messages)
                break
            end = start + length
            if end > size:
                break
            if data[at] == _TEXT_FRAME and not self._fragments:
                messages.append(data[start:end])
            elif not self._by_library(data[at:end], messages):
                break
            at = end
        self._rest = data[at:] if self.ending is None else b""
        return messages

    def _by_library(self, frame: bytes, messages: list[bytes]) -> bool:
        """Let the library judge the bytes of one frame (or of one that it will refuse); False: it is the end."""
        protocol = self.protocol
        protocol.receive_data(frame)
        for event in protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in _DATA:
                continue
            self._fragments.append(bytes(event.data))
            if event.fin:
                messages.append(b"".join(self._fragments))
                self._fragments.clear()
        if protocol.state is State.OPEN:
            return True
        if protocol.parser_exc is not None:
            self.ending = Ending(Reason.PROTOCOL_ERROR, str(protocol.parser_exc))
        elif (close := protocol.close_rcvd) is not None:
            self.ending = Ending(Reason.SERVER_CLOSED, close.reason or str(close), close_code=int(close.code))
        else:
            self.ending = Ending(Reason.PROTOCOL_ERROR, "the connection is closing")
        return False
