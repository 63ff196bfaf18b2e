"""Several collectors' files of one hour as one, frame by frame in the order of receipt.

Who reads quotes holds the last seconds of them only; one collector's hour after the other's would have it hold them
all, twice. A frame is what a collector gathered within a fraction of a second, so whole frames in the order of their
first lines are near enough, and their bytes stay what they are.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from crypto_lake.lake import envelope
from crypto_lake.lake.frames import Frame, read_frames


def merge_frames(sources: Sequence[Path], target: Path) -> None:
    """Write every byte of the sources into one file. Memory is that of a frame each.

    What no frame decodes from, or does not begin with a line, follows what was before it in its file.
    """
    with target.open("wb") as out:
        stretches = [_stretches(number, path) for number, path in enumerate(sources)]
        for _, _, _, packed in heapq.merge(*stretches):
            out.write(packed)


def _stretches(number: int, path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """(received_ns of the first line, number, offset, bytes) of each stretch of a file; the times never fall."""
    at_ns = 0
    for found in read_frames(path):
        if isinstance(found, Frame):
            at_ns = max(at_ns, _first_received_ns(found.data))
        yield at_ns, number, found.offset, found.packed


def _first_received_ns(lines: bytes) -> int:
    """0 where the first line can't be read."""
    end = lines.find(b"\n")
    try:
        return envelope.decode(lines[: end if end >= 0 else None]).received_ns
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return 0
