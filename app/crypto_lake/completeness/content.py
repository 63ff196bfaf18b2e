"""What raw lines hold, gathered frame by frame: counts, ids, times, and a digest of the lines themselves.

Sealing gathers it twice, from the parts and from the file made of them, and `verify` once more; the three agree or
something is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from crypto_lake.completeness.answers import decode_row
from crypto_lake.exchanges import EXCHANGES, UnassignableMessageError
from crypto_lake.lake import envelope
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.envelope import Envelope
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import IntervalSet
from crypto_lake.model.market import Stream


@dataclass(frozen=True, slots=True)
class Summary:
    """See lake.raw_manifests.RawManifest, which has the same fields. Times and ids are None where there are none."""

    lines: int
    trades: int
    quotes: int
    others: int
    klines: int
    unreadable: int
    first_received_ns: int | None
    last_received_ns: int | None
    first_id: int | None
    last_id: int | None
    id_runs: tuple[tuple[int, int], ...]
    holes: tuple[tuple[int, int], ...]
    content_sha256: str

    @property
    def usable(self) -> int:
        """Lines that are of this symbol and hour."""
        return self.lines - self.unreadable


_decode_lines = msgspec.json.Decoder(Envelope).decode_lines


def knows(exchange: str) -> bool:
    """Whether raw of an exchange of this name can be read here."""
    return exchange in EXCHANGES


class Content:
    """Takes the unpacked frames of one symbol's raw, in their order. Raises KeyError for an unknown exchange (`knows`).

    `hour`: lines received outside of it do not count as readable; None (a healed file, whose hour is that of its
    trades): any time will do.
    """

    def __init__(self, exchange: str, symbol: str, hour: Hour | None) -> None:
        self._exchange, self._symbol = EXCHANGES[exchange], symbol
        self._span = (hour.start_ns, hour.end_ns) if hour else (0, 2**63)
        self._streams: dict[str, Stream | None] = {}
        # Most lines are quotes, and of a quote nothing is counted but that it is one: those that begin as the exchange
        # writes them are not read further (a third of the time).
        self._quote, self._kline = (
            b'{"stream":"%s","data":{' % self._exchange.stream_name(symbol, kind).encode()
            for kind in (Stream.BOOK_TICKER, Stream.KLINE)
        )
        self._lines = self._trades = self._quotes = self._klines = self._others = self._unreadable = 0
        self._received: tuple[int, int] | None = None
        self._ids = IntervalSet()
        self._digest = hashlib.sha256()

    def copy(self) -> Content:
        """One that goes on by itself from here."""
        other = Content.__new__(Content)
        other.__dict__.update(self.__dict__)
        other._ids = IntervalSet(self._ids)
        other._digest = self._digest.copy()
        return other

    def add(self, data: bytes) -> None:
        """One frame's lines."""
        self._digest.update(data)
        count = data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
        self._lines += count
        read = _read_together(data, count)
        if read is None:
            read = self._read_each(data)
        if not read:
            return
        received = [line.received_ns for line in read]
        low, high = min(received), max(received)
        start, end = self._span
        if low < start or high >= end:
            inside = [line for line in read if start <= line.received_ns < end]
            self._unreadable += len(read) - len(inside)
            if not inside:
                return
            read, received = inside, [line.received_ns for line in inside]
            low, high = min(received), max(received)
        self._received = (
            (min(low, self._received[0]), max(high, self._received[1])) if self._received else (low, high)
        )
        if self._symbol == CONTROL:
            self._others += len(read)
        else:
            self._take(read)

    def _read_each(self, data: bytes) -> list[Envelope]:
        read: list[Envelope] = []
        for line in data.removesuffix(b"\n").split(b"\n"):
            try:
                read.append(envelope.decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self._unreadable += 1
        return read

    def _take(self, read: list[Envelope]) -> None:
        head, quote, kline = self._exchange.head, self._quote, self._kline
        ids: list[tuple[int, int]] = []
        for line in read:
            if line.source is not None:
                self._take_row(line, ids)
                continue
            message = bytes(line.message)
            if message.startswith(quote):
                self._quotes += 1
                continue
            if message.startswith(kline):
                self._klines += 1
                continue
            try:
                seen = head(message)
            except UnassignableMessageError:
                self._unreadable += 1
                continue
            if seen.stream is None:
                self._others += 1
                continue
            try:
                kind = self._streams[seen.stream]
            except KeyError:
                kind = self._streams[seen.stream] = self._kind(seen.stream)
            if kind is None or (kind is Stream.TRADE and seen.trade_id < 0):
                self._unreadable += 1
            elif kind is Stream.TRADE:
                self._trades += 1
                ids.append((seen.trade_id, seen.trade_id))
            elif kind is Stream.KLINE:
                self._klines += 1
            else:
                self._quotes += 1
        for first, last in _joined(ids):
            self._ids.add_interval(first, last)

    def _kind(self, stream: str) -> Stream | None:
        """None: a stream of another symbol, or of no kind that is known."""
        try:
            symbol, kind = self._exchange.parse_stream_name(stream)
        except UnassignableMessageError:
            return None
        return kind if symbol == self._symbol else None

    def _take_row(self, line: Envelope, ids: list[tuple[int, int]]) -> None:
        try:
            interval = decode_row(line.message).interval()
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._unreadable += 1
            return
        self._trades += 1
        if interval is not None:
            ids.append((interval.first, interval.last))

    def summary(self) -> Summary:
        first, last = self._received or (None, None)
        return Summary(
            lines=self._lines,
            trades=self._trades,
            quotes=self._quotes,
            others=self._others + self._klines,
            klines=self._klines,
            unreadable=self._unreadable,
            first_received_ns=first,
            last_received_ns=last,
            first_id=self._ids.first,
            last_id=self._ids.last,
            id_runs=tuple((i.first, i.last) for i in self._ids),
            holes=tuple((i.first, i.last) for i in self._ids.holes()),
            content_sha256=self._digest.hexdigest(),
        )


def _read_together(data: bytes, count: int) -> list[Envelope] | None:
    """All lines in one call; None where one of them is none, or a blank one hides."""
    try:
        read = _decode_lines(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return read if len(read) == count else None


def _joined(ids: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbours that follow each other as one interval: nearly always all of them."""
    joined: list[tuple[int, int]] = []
    for first, last in ids:
        if joined and first == joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined
