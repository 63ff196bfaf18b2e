"""What raw of a day says of times: how late messages came, how far the clocks were apart, which connections ended."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from crypto_lake.exchanges import EXCHANGES, UnassignableMessageError
from crypto_lake.lake import control, envelope
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.raw_manifests import raw_inputs

# Of the frames of a day (a quarter of a second each) so many are looked into, evenly: of all of them it takes minutes.
_FRAMES_LOOKED_INTO: Final = 4000
_FRAME_BYTES: Final = 2000  # of a frame as it lies on the disk: to guess how many there are


def control_facts(layout: Layout, exchange: str, day: str) -> tuple[list[tuple[int, int, int]], Counter[str]]:
    """Clock offsets measured in the day (received_ns, offset, round trip in us), and connections that ended."""
    offsets: list[tuple[int, int, int]] = []
    ended: Counter[str] = Counter()
    for line in _lines(layout, exchange, CONTROL, day, most_frames=None):
        try:
            read = envelope.decode(line)
            event = control.decode_event(read.message)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue  # of a later version, or damaged: it tells nothing here
        if isinstance(event, control.ClockOffset):
            offsets.append((read.received_ns, event.offset_us, event.round_trip_us))
        elif isinstance(event, control.Disconnected):
            ended[event.reason] += 1
    return sorted(offsets), ended


def latencies_us(
    layout: Layout, exchange: str, symbol: str, day: str, offsets: list[tuple[int, int, int]]
) -> Iterator[int]:
    """Receipt minus event time in us of some of the day's trades."""
    head = EXCHANGES[exchange].head
    measured_at = [at for at, _, _ in offsets]
    for line in _lines(layout, exchange, symbol, day, most_frames=_FRAMES_LOOKED_INTO):
        try:
            read = envelope.decode(line)
            if read.source is not None:
                continue
            seen = head(bytes(read.message))
        except (msgspec.MsgspecError, UnicodeDecodeError, UnassignableMessageError):
            continue
        if (sent_us := seen.event_time_us) and seen.trade_id >= 0:
            place = bisect_right(measured_at, read.received_ns) - 1
            offset_us = offsets[max(place, 0)][1] if offsets else 0
            yield read.received_ns // 1000 + offset_us - sent_us


def _lines(
    layout: Layout, exchange: str, symbol: str, day: str, *, most_frames: int | None
) -> Iterator[bytes]:
    """Lines of closed raw files of a day of receipt; of all frames, or of so many at most, spread over the day."""
    files = [
        file
        for file in raw_inputs(layout, exchange, symbol, day)
        if not file.is_open and file.kind != "healed"
    ]
    step = 1
    if most_frames is not None:
        size = sum(file.path.stat().st_size for file in files)
        step = max(1, size // _FRAME_BYTES // most_frames)
    count = 0
    for file in files:
        for frame in read_frames(file.path):
            if isinstance(frame, BadBytes):
                continue
            count += 1
            if count % step == 0 or step == 1:
                yield from (line for line in frame.data.split(b"\n") if line)
