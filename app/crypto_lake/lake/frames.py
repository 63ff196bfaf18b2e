"""Files of many zstd frames, and the one reader of them.

Each flush of the collector is one whole frame with its checksum, so a file that was cut anywhere is whole up
to its last frame. Some libraries stop after the first frame and some return the prefix of a cut file without
a word (measured: DuckDB, python-zstandard), so everything here goes through this reader.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FRAME_MAGIC = b"\x28\xb5\x2f\xfd"
CAPTURE_LEVEL = 1  # measured: ratio 8.9 at 293 ns a message; level 3 is slower and smaller by nothing
# A frame of the collector holds a flush (256 KiB); one that claims more than this is not ours.
MAX_FRAME_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a frame lies in its file, and its bytes unpacked."""

    offset: int
    size: int
    data: bytes


@dataclass(frozen=True, slots=True)
class BadBytes:
    """Bytes of a file, from `offset` on for `size`, that no frame decodes from."""

    offset: int
    size: int
    reason: str


class FrameCompressor:
    """Makes whole frames, one after the other, with one context: 13 streaming contexts cost 45 MB."""

    def __init__(self, level: int = CAPTURE_LEVEL) -> None:
        self._compressor = zstd.ZstdCompressor(
            options={
                zstd.CompressionParameter.compression_level: level,
                zstd.CompressionParameter.checksum_flag: 1,
            }
        )

    def frame(self, data: bytes | bytearray | memoryview) -> bytes:
        return self._compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


def decode_frame(data: memoryview | bytes) -> bytes:
    """One frame's content. Raises ValueError where the bytes or their checksum are wrong."""
    declared: int | None = zstd.get_frame_info(data).decompressed_size  # None: not said (the stubs say int)
    if declared and declared > MAX_FRAME_BYTES:
        raise ValueError(f"a frame claims {declared} bytes")
    try:
        return zstd.decompress(data)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from None


def scan(buffer: memoryview) -> Iterator[Frame | BadBytes]:
    """Every frame of a buffer in order, and every stretch that is none.

    After a frame that does not decode the search goes on at the next magic number, so that a flipped bit costs
    one frame and not the file.
    """
    at, end = 0, len(buffer)
    while at < end:
        problem: str
        try:
            size = zstd.get_frame_size(buffer[at:])
            yield Frame(at, size, decode_frame(buffer[at : at + size]))
            at += size
            continue
        except (ValueError, zstd.ZstdError) as error:
            problem = str(error)
        following = _next_good(buffer, at + 1)
        yield BadBytes(at, following - at, problem)
        at = following


def _next_good(buffer: memoryview, start: int) -> int:
    """Offset of the next frame that decodes, or the buffer's end."""
    raw = bytes(buffer[start:])
    found = raw.find(FRAME_MAGIC)
    while found >= 0:
        try:
            size = zstd.get_frame_size(raw[found:])
            decode_frame(raw[found : found + size])
            return start + found
        except (ValueError, zstd.ZstdError):
            found = raw.find(FRAME_MAGIC, found + 1)
    return len(buffer)


@contextmanager
def view(path: Path) -> Generator[memoryview]:
    """A file's bytes without reading them into memory. No slice of the view may outlive the block."""
    with path.open("rb") as file:
        file.seek(0, 2)
        if file.tell() == 0:
            yield memoryview(b"")
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as buffer:
            yield buffer


def read_frames(path: Path) -> Iterator[Frame | BadBytes]:
    """Every frame of a file, streaming: memory is that of one frame, however long the file."""
    with view(path) as buffer:
        yield from scan(buffer)


def end_of_last_frame(path: Path) -> int:
    """Where the last frame that decodes ends; what follows was cut or never was one. 0 where there is none.

    Damage in the middle does not move it: the frames behind it are as good as those before.
    """
    end = 0
    for item in read_frames(path):
        if isinstance(item, Frame):
            end = item.offset + item.size
    return end
