"""Bytes to messages: the WebSocket's frames, without a socket."""

from __future__ import annotations

from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State

from crypto_lake.capture.outcome import Ending, Reason

_TEXT_FRAME = 0x81  # FIN, opcode text
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class Framing:
    """Cuts bytes into messages, starting at a frame's beginning. No socket.

    After `feed`, `ending` is set where the connection can't go on; the messages before that are good.
    Replies (pongs, the echo of a close) are in `protocol.data_to_send()`.

    `protocol` must be open and without a limit of its own: the library counts a ping between two fragments against
    the size of their message.
    """

    def __init__(self, protocol: ClientProtocol, max_message_bytes: int) -> None:
        self.protocol = protocol
        self.ending: Ending | None = None
        self._max_bytes = max_message_bytes
        self._rest = b""
        self._fragments: list[bytes] = []
        self._fragments_bytes = 0

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
                else:  # masked, which a server's frame must not be: two bytes are enough for the library to say so
                    self._by_library(data[at : at + 2], messages)
                    break
            if length > limit:
                self._too_large(length)
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
        """Let the library judge one frame (or the beginning of one that it will refuse); False: it is the end."""
        protocol = self.protocol
        protocol.receive_data(frame)
        for event in protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in _DATA:
                continue
            self._fragments.append(bytes(event.data))
            self._fragments_bytes += len(event.data)
            if self._fragments_bytes > self._max_bytes:
                self._too_large(self._fragments_bytes)
                return False
            if event.fin:
                messages.append(b"".join(self._fragments))
                self._fragments.clear()
                self._fragments_bytes = 0
        if protocol.state is State.OPEN:
            return True
        if protocol.parser_exc is not None:
            self.ending = Ending(Reason.PROTOCOL_ERROR, str(protocol.parser_exc))
        elif (close := protocol.close_rcvd) is not None:
            self.ending = Ending(Reason.SERVER_CLOSED, close.reason or str(close), close_code=int(close.code))
        else:
            self.ending = Ending(Reason.PROTOCOL_ERROR, "the connection is closing")
        return False

    def _too_large(self, size: int) -> None:
        says = f"a message of {size} bytes or more exceeds the limit of {self._max_bytes}"
        self.protocol.fail(CloseCode.MESSAGE_TOO_BIG, says)
        self.ending = Ending(Reason.PROTOCOL_ERROR, says)
