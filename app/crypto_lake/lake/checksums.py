"""Checksums of a file, all in one pass, in the forms in which they are compared."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from google_crc32c import extend as _untyped_extend  # pyright: ignore[reportUnknownVariableType]

_CHUNK_BYTES = 1024 * 1024
_extend = cast("Callable[[int, bytes], int]", _untyped_extend)


@dataclass(frozen=True, slots=True)
class Checksums:
    """`sha256` in hex; `crc32c` (big-endian) and `md5` in base64, as Google Cloud Storage gives them."""

    bytes: int
    sha256: str
    crc32c: str
    md5: str


class Checksummer:
    """Takes a file's bytes piece by piece. `md5` False: it is left out ("", for it costs more than the others)."""

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
        # The extension takes `bytes` alone.
        self._crc32c = _extend(self._crc32c, data if isinstance(data, bytes) else bytes(data))

    def result(self) -> Checksums:
        return Checksums(
            self._bytes,
            self._sha256.hexdigest(),
            base64.b64encode(self._crc32c.to_bytes(4, "big")).decode(),
            base64.b64encode(self._md5.digest()).decode() if self._md5 is not None else "",
        )


def measure(path: Path) -> Checksums:
    """Read a file whole. Memory is that of a chunk."""
    sums = Checksummer()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            sums.update(chunk)
    return sums.result()


def measure_bytes(data: bytes) -> Checksums:
    sums = Checksummer()
    sums.update(data)
    return sums.result()
