"""The raw line: the exchange's bytes, verbatim, with when and over which connection they came.

    {"received_ns":1723161254123456789,"connection":"c-7f3a-12","message":<the exchange's bytes>}

A healed one has `"connection":"rest-…"` and `,"source":"historicalTrades|aggTrades|archive"` at its end. The
message is not parsed on its way in, nor written anew: what the exchange sent is what the file holds.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

SOURCES: Final = ("historicalTrades", "aggTrades", "archive")
# What the collector may use as a connection's name: it stands in the line unescaped.
CONNECTION_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
# As numbers: to look for one in bytes costs a tenth of looking for a text of one character.
_NEWLINE: Final = 10
_RETURN: Final = 13


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A raw line, read. `message` is the verbatim JSON."""

    received_ns: int
    connection: str
    message: msgspec.Raw
    source: str | None = None


_decoder = msgspec.json.Decoder(Envelope)


def line_prefix(received_ns: int, connection: str) -> bytes:
    """What precedes the message. Made once for all messages of one read from the socket."""
    return b'{"received_ns":%d,"connection":"%s","message":' % (received_ns, connection.encode())


def encode(received_ns: int, connection: str, message: bytes, source: str | None = None) -> bytes:
    """One line, newline included. The message must hold no newline (see `refusal`)."""
    tail = b"}\n" if source is None else b',"source":"%s"}\n' % source.encode()
    return line_prefix(received_ns, connection) + message + tail


def refusal(message: bytes) -> str | None:
    """Why these bytes may not become a line, or None where they may."""
    if _NEWLINE in message or _RETURN in message:
        return "newline in message"
    if not message.isascii():
        try:
            message.decode()
        except UnicodeDecodeError:
            return "broken UTF-8"
    return None


def decode(line: bytes | memoryview) -> Envelope:
    """Read one line. Raises msgspec.DecodeError (or its ValidationError) where it is none."""
    return _decoder.decode(line)
