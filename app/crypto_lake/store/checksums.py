"""What a file is: one streaming pass, a megabyte of memory whatever its size."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import IO, Any, cast

import google_crc32c

from crypto_lake.store.base import AlreadyThere, Conflict, Declared, Stored

_BLOCK_BYTES = 2**20


def measure(path: Path) -> Declared:
    """Size and checksums of a local file as it reads now. OSError where it can't be read."""
    with path.open("rb") as file:
        return measure_stream(file)


def measure_stream(stream: IO[bytes]) -> Declared:
    """The same of what is left of a stream."""
    size, crc = 0, 0
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    while block := stream.read(_BLOCK_BYTES):
        size += len(block)
        crc = extend_crc32c(crc, block)
        md5.update(block)
        sha256.update(block)
    return Declared(size, encode_crc32c(crc), base64.b64encode(md5.digest()).decode(), sha256.hexdigest())


def crc32c_of(path: Path) -> tuple[int, str]:
    """Size and CRC32C alone, which is bounded by the disk and not by SHA-256."""
    size, crc = 0, 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            size += len(block)
            crc = extend_crc32c(crc, block)
    return size, encode_crc32c(crc)


def extend_crc32c(crc: int, block: bytes) -> int:
    """The CRC32C of what came before and this block."""
    return int(cast("Any", google_crc32c).extend(crc, block))


def encode_crc32c(value: int) -> str:
    """As Cloud Storage writes it: base64 of four bytes, big-endian."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def differences(declared: Declared, stored: Stored) -> tuple[str, ...]:
    """In what an object is not what was declared; empty where all that can be compared agrees."""
    pairs = [
        ("bytes", declared.bytes, stored.bytes),
        ("crc32c", declared.crc32c, stored.crc32c),
        ("md5", declared.md5, stored.md5),
        ("sha256", declared.sha256, stored.sha256),
    ]
    return tuple(
        f"{what}: {here} here, {there} stored" for what, here, there in pairs if there not in (None, here)
    )


def is_proven(stored: Stored) -> bool:
    """Whether equality is more than 32 bits of CRC: the object has an MD5 or a SHA-256 to compare."""
    return stored.md5 is not None or stored.sha256 is not None


def compared(stored: Stored | None, told: tuple[str, ...], replaces: int) -> AlreadyThere | Conflict:
    """What a precondition that did not hold means: `told` are the differences to what was to be put."""
    if stored is None:
        wanted = f"generation {replaces} was to be replaced" if replaces else "the precondition failed"
        return Conflict(None, (f"{wanted}, and there is no object",))
    if not told:
        return AlreadyThere(stored)
    if replaces:
        told = (f"generation: {replaces} was to be replaced, {stored.generation} is there", *told)
    return Conflict(stored, told)
