"""The market that a recording holds: its messages as they were, at the pace they came.

A recording is one file or several, read in the order given, plain or compressed with gzip or zstd. A line is
`<receive time ns> <message>`, the message one of a combined stream (`{"stream":…,"data":…}`). Anything else
(a REST answer among the messages, a torn line) is not sent; how much of it there was is counted.
"""

from __future__ import annotations

import gzip
import io
import statistics
import sys
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from crypto_lake.exchanges.binance import to_us
from crypto_lake.model.decimals import InexactDecimalError, parse_e8
from crypto_lake.simulator.generator import SimulatedTrade
from crypto_lake.simulator.history import ChunkStart, Market, aggregate
from crypto_lake.simulator.messages import Message, RecordedMessage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK_TRADES = 4096
_BATCH_MESSAGES = 512
_OFFSET_SAMPLES = 20_000
_time_of = attrgetter("time_us")


class RecordingError(ValueError):
    """A recording that can't be played. The text says which and why."""


class _Data(msgspec.Struct, gc=False):
    e: str = ""
    E: int = 0
    s: str = ""
    t: int | None = None
    T: int = 0
    p: str = ""
    q: str = ""
    m: bool = False


class _Parts(msgspec.Struct, gc=False):
    stream: str
    data: msgspec.Raw


_parts = msgspec.json.Decoder(_Parts).decode
_data = msgspec.json.Decoder(_Data).decode


class _Line(msgspec.Struct, gc=False):
    """A line that is a message of a stream. event_us is 0 where the message bears no time."""

    received_us: int
    message: bytes
    stream: str
    data: bytes
    read: _Data
    event_us: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Lines that were not sent, by reason; each is counted once for the whole recording."""

    not_of_a_stream: int
    unreadable: int


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if magic == b"\x28\xb5\x2f\xfd":
        return cast(BinaryIO, zstd.open(path, "rb"))
    return path.open("rb")


def _read_lines(paths: Sequence[Path], skipped: Counter[str]) -> Iterator[_Line]:
    for path in paths:
        with _open(path) as raw, io.BufferedReader(cast(io.RawIOBase, raw), 1 << 20) as file:
            try:
                for text in file:
                    line = _parse(text.rstrip(b"\r\n"), skipped)
                    if line is not None:
                        yield line
            except (OSError, EOFError, zlib.error, zstd.ZstdError) as error:
                raise RecordingError(
                    f"recording {path} can't be read to its end: {error}; cut it or leave it out"
                ) from error


def _parse(text: bytes, skipped: Counter[str]) -> _Line | None:
    received, _, message = text.partition(b" ")
    try:
        received_us = int(received) // 1000
        parts = _parts(message)
    except msgspec.ValidationError:
        skipped["not_of_a_stream"] += 1
        return None
    except (ValueError, msgspec.DecodeError):
        skipped["unreadable"] += 1
        return None
    data = bytes(parts.data)
    try:
        read = _data(data)
    except msgspec.ValidationError:
        read = _Data()  # a stream of another shape (partial depth): sent by its receive time
    time = read.E or read.T
    return _Line(received_us, message, parts.stream, data, read, to_us(time) if time else 0)


def _trade(line: _Line) -> SimulatedTrade | None:
    """The trade of a trade stream's message. Raises InexactDecimalError where its numbers are none."""
    read = line.read
    if read.e != "trade" or read.t is None:
        return None
    return SimulatedTrade(
        read.t,
        to_us(read.T),
        line.event_us,
        parse_e8(read.p),
        parse_e8(read.q),
        read.m,
    )


class _Symbol:
    def __init__(self) -> None:
        self.chunks: list[list[SimulatedTrade]] = []
        self.starts: list[ChunkStart] = []

    def load(self, trades: list[SimulatedTrade]) -> None:
        """Once, all trades in order. A chunk ends only where an aggregate does."""
        aggregate_id = trades[0].id // 2
        at = 0
        while at < len(trades):
            end = min(at + _CHUNK_TRADES, len(trades))
            while end < len(trades) and trades[end].time_us == trades[end - 1].time_us:
                end += 1
            chunk = trades[at:end]
            self.chunks.append(chunk)
            self.starts.append(ChunkStart(chunk[0].id, aggregate_id))
            aggregate_id += sum(1 for _ in aggregate(chunk, 0))
            at = end


class RecordedMarket(Market):
    """The market of a recording. It is read through once here, for its trades; they stay in memory.

    Raises RecordingError where a file is not there, is cut, holds no message of a stream, or where the ids of
    a symbol's trades are not each the one before + 1 (the exchange's are; with a hole, REST and klines would
    lie).
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        for path in self.paths:
            if not path.is_file():
                raise RecordingError(f"recording {path} is not there; give a file")
        skipped: Counter[str] = Counter()
        trades: dict[str, list[SimulatedTrade]] = {}
        streams: dict[str, None] = {}
        offsets: list[int] = []
        first: _Line | None = None
        last_event_us = last_untimed_us = -(2**62)
        self.message_count = 0
        for line in _read_lines(self.paths, skipped):
            first = first or line
            self.message_count += 1
            streams[line.stream] = None
            if line.event_us:
                last_event_us = max(last_event_us, line.event_us)
                if len(offsets) < _OFFSET_SAMPLES:
                    offsets.append(line.event_us - line.received_us)
            else:
                last_untimed_us = max(last_untimed_us, line.received_us)
            try:
                trade = _trade(line)
            except InexactDecimalError as error:
                raise RecordingError(f"a trade of {line.stream} has no number: {error}") from None
            if trade is not None:
                trades.setdefault(line.read.s, []).append(trade)
        if first is None:
            raise RecordingError(
                f"no line of {', '.join(map(str, self.paths))} is a message of a stream; "
                'a line is «<receive time ns> {"stream":…,"data":…}»'
            )
        self.skipped = Skipped(skipped["not_of_a_stream"], skipped["unreadable"])
        # How far the exchange's clock was ahead of the recorder's; it places messages without a time.
        self.clock_offset_us = int(statistics.median(offsets)) if offsets else 0
        self._streams = frozenset(streams)
        self._of = {symbol: self._load(symbol, found) for symbol, found in trades.items()}
        self.symbols = tuple(dict.fromkeys(name.partition("@")[0].upper() for name in streams if "@" in name))
        self.start_us = self._pace(first, 0)
        self.end_us = max(last_event_us, last_untimed_us + self.clock_offset_us, self.start_us)

    @staticmethod
    def _load(symbol: str, trades: list[SimulatedTrade]) -> _Symbol:
        unique = list({trade.id: trade for trade in trades}.values())
        unique.sort()
        for before, after in pairwise(unique):
            if after.id != before.id + 1:
                raise RecordingError(
                    f"the recording misses trades {before.id + 1}..{after.id - 1} of {symbol}; "
                    "play the parts before and after it by themselves"
                )
        of = _Symbol()
        of.load(unique)
        return of

    def _pace(self, line: _Line, previous_us: int) -> int:
        return max(line.event_us or line.received_us + self.clock_offset_us, previous_us)

    def streams(self) -> frozenset[str]:
        return self._streams

    def messages(self) -> Iterator[Sequence[Message]]:
        batch: list[Message] = []
        pace_us = self.start_us
        for line in _read_lines(self.paths, Counter()):
            pace_us = self._pace(line, pace_us)
            read = line.read
            symbol = read.s or line.stream.partition("@")[0].upper()
            trade_id = read.t if read.e == "trade" and read.t is not None else -1
            batch.append(RecordedMessage(pace_us, symbol, line.stream, trade_id, line.message, line.data))
            if len(batch) >= _BATCH_MESSAGES:
                yield batch
                batch = []
        yield batch

    def _chunk(self, symbol: str, index: int) -> Sequence[SimulatedTrade]:
        of = self._of.get(symbol)
        return of.chunks[index] if of else ()

    def _chunk_start(self, symbol: str, index: int) -> ChunkStart:
        of = self._of.get(symbol)
        return of.starts[index] if of else ChunkStart(0, 0)

    def _chunk_at(self, symbol: str, time_us: int) -> int:
        of = self._of.get(symbol)
        if of is None:
            return 0
        return max(bisect_right(of.chunks, time_us, key=lambda chunk: chunk[0].time_us) - 1, 0)

    def _chunk_count(self, symbol: str) -> int:
        of = self._of.get(symbol)
        return len(of.chunks) if of else 1
