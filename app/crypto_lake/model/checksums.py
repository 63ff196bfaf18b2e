"""What bytes are: all checksums in one pass, in the forms in which they are compared. Memory is that of a block."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from google_crc32c import extend as _untyped_extend  # pyright: ignore[reportUnknownVariableType]

BLOCK_BYTES: Final = 2**20
_extend = cast("Callable[[int, bytes], int]", _untyped_extend)


class Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Checksums:
    """`sha256` in hex; `crc32c` (big-endian) and `md5` in base64, as Google Cloud Storage gives them."""

    bytes: int
    sha256: str
    crc32c: str
    md5: str


class Checksummer:
    """Takes bytes piece by piece. `md5` False: it is left out ("", for it costs more than the others)."""

    def __init__(self, *, md5: bool = True) -> None:
        self._bytes = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._crc32c = 0

    def update(self, data: bytes | memoryview) -> None:
        self._bytes += len(data)
        self._sha256.update(data)
        if self._md5 is not None:
            self._md5.update(data)
        self._crc32c = extend_crc32c(self._crc32c, data)

    def result(self) -> Checksums:
        return Checksums(
            self._bytes,
            self._sha256.hexdigest(),
            encode_crc32c(self._crc32c),
            base64.b64encode(self._md5.digest()).decode() if self._md5 is not None else "",
        )


def measure_stream(stream: Readable) -> Checksums:
    """Of what is left of a stream."""
    sums = Checksummer()
    while block := stream.read(BLOCK_BYTES):
        sums.update(block)
    return sums.result()


def measure_bytes(data: bytes) -> Checksums:
    sums = Checksummer()
    sums.update(data)
    return sums.result()


def extend_crc32c(crc: int, data: bytes | memoryview) -> int:
    """The CRC32C of what came before and these bytes."""
    # The extension takes `bytes` alone.
    return _extend(crc, data if isinstance(data, bytes) else bytes(data))


def encode_crc32c(value: int) -> str:
    """As Cloud Storage writes it: base64 of four bytes, big-endian."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()
