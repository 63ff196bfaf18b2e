"""What a file is: one streaming pass, a megabyte of memory whatever its size."""

from __future__ import annotations

from pathlib import Path

from crypto_lake.model.checksums import (
    BLOCK_BYTES,
    Readable,
    encode_crc32c,
    extend_crc32c,
)
from crypto_lake.model.checksums import measure_stream as sums_of
from crypto_lake.store.base import AlreadyThere, Conflict, Declared, Stored


def measure(path: Path) -> Declared:
    """Size and checksums of a local file as it reads now. OSError where it can't be read."""
    with path.open("rb", buffering=0) as file:
        return measure_stream(file)


def measure_stream(stream: Readable) -> Declared:
    """The same of what is left of a stream."""
    sums = sums_of(stream)
    return Declared(sums.bytes, sums.crc32c, sums.md5, sums.sha256)


def crc32c_of(path: Path) -> tuple[int, str]:
    """Size and CRC32C alone, which is bounded by the disk and not by SHA-256."""
    size, crc = 0, 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            size += len(block)
            crc = extend_crc32c(crc, block)
    return size, encode_crc32c(crc)


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
