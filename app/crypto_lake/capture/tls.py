"""TLS without a socket."""

from __future__ import annotations

import ssl

_RECORD_BYTES = 16 * 1024  # the greatest record


def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """A context that verifies, by the system's certificates and those of `ca_file` (PEM) where one is given.

    Raises OSError or ssl.SSLError where the file can't be read.
    """
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


class Tls:
    """TLS between two memory buffers."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        self.eof = False

    def decrypt(self, pieces: list[bytes]) -> None:
        """Append what can be decrypted of what was written to `incoming`. Raises ssl.SSLError."""
        read = self.object.read
        try:
            while data := read(_RECORD_BYTES):
                pieces.append(data)
            self.eof = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.eof = True


def text_of(error: ssl.SSLError) -> str:
    """What an error of TLS says, in words where it has some."""
    return getattr(error, "verify_message", "") or error.reason or str(error)
