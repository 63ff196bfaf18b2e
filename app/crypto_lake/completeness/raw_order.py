"""A symbol's raw in the order in which it was received, whichever files hold it.

Parts are numbered in that order within their day. A sealed hour holds its parts one after the other, and its manifest
names them; where the clock was set back, parts of two hours come in turns, and so do the pieces of their files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crypto_lake.lake.frames import BadBytes, Frame, read_frames
from crypto_lake.lake.layout import OPEN_SUFFIX, Layout, RawFile, parse_raw_name
from crypto_lake.lake.raw_manifests import raw_inputs, read_raw_manifest, sealed_into


@dataclass(frozen=True, slots=True)
class Piece:
    """A part, or where it lies in its sealed hour: its last byte is before `end`."""

    number: int
    end: float


@dataclass(frozen=True, slots=True)
class Source:
    """A raw file, and the pieces that it is made of, in its order."""

    file: RawFile
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A frame, or bytes that are none, and the file that they are in."""

    file: RawFile
    frame: Frame | BadBytes


def turns(sources: Sequence[Source]) -> list[tuple[int, Piece]]:
    """Which piece of which source (by its place) comes when. Pure.

    The pieces of a source stay in their order, even where their numbers say otherwise.
    """
    reached: list[tuple[int, int, int]] = []
    for place, source in enumerate(sources):
        greatest = -1
        for at, piece in enumerate(source.pieces):
            greatest = max(greatest, piece.number)
            reached.append((greatest, place, at))
    return [(place, sources[place].pieces[at]) for _, place, at in sorted(reached)]


def day_in_order(
    layout: Layout,
    exchange: str,
    symbol: str,
    day: str,
    wanted: Callable[[RawFile], bool] = lambda _: True,
    on_file: Callable[[RawFile], None] = lambda _: None,
) -> Iterator[Found]:
    """A day's frames, of what came over connections: healed files are none of it.

    Parts that are being written are read as far as they go. `on_file` is called before a file is opened.
    """
    files = [f for f in raw_inputs(layout, exchange, symbol, day) if f.kind != "healed" and wanted(f)]
    sources = [_source(layout, file) for file in files]
    reading: dict[int, Iterator[Found]] = {}
    ahead: dict[int, Found] = {}
    for place, piece in turns(sources):
        if place not in reading:
            on_file(files[place])
            reading[place] = _frames(layout, files[place])
        while True:
            found = ahead.pop(place, None) or next(reading[place], None)
            if found is None:
                break
            if found.frame.offset >= piece.end:
                ahead[place] = found
                break
            yield found


def _source(layout: Layout, file: RawFile) -> Source:
    if file.kind == "part":
        return Source(file, (Piece(file.number, math.inf),))
    manifest = read_raw_manifest(layout, file.path)
    inputs = manifest.inputs if manifest is not None else ()
    pieces: list[Piece] = []
    end = 0
    for named in inputs:
        part = parse_raw_name(file.hour.day, Path(named.path))
        end += named.bytes
        if part is not None:
            pieces.append(Piece(part.number, end))
    if manifest is None or not pieces:
        # Its parts are not known. Hours come one after the other, and what was not sealed comes last.
        return Source(file, (Piece(file.hour.hour, math.inf),))
    # Bytes that no frame decodes from were left out, so where a piece ends is known to them only.
    whole = manifest.damaged_bytes == 0
    last = replace(pieces[-1], end=math.inf)
    return Source(file, (*pieces[:-1], last) if whole else (last,))


def _frames(layout: Layout, file: RawFile) -> Iterator[Found]:
    """Raises FileNotFoundError where the file has gone since it was listed, and is in no other."""
    try:
        for frame in read_frames(file.path):
            yield Found(file, frame)
    except FileNotFoundError:
        # It was closed, or sealed, a moment ago. What of it is read twice says nothing new.
        closed = file.path.with_name(file.path.name.removesuffix(OPEN_SUFFIX))
        other = closed if closed != file.path and closed.exists() else sealed_into(layout, closed)
        if other is None:
            raise
        for frame in read_frames(other):
            yield Found(file, frame)
