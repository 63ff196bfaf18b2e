"""Runs of trades out of raw files, for whoever derives the ledger from bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from crypto_lake.completeness.fold_state import Run
from crypto_lake.exchanges import Exchange, UnassignableMessageError
from crypto_lake.lake import envelope
from crypto_lake.lake.envelope import Envelope
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.layout import symbol_of
from crypto_lake.model.market import Stream


class RunBuilder:
    """Puts trades of one symbol into runs: the same receive time, each id the one before + 1.

    Capture and the reading of raw both build runs here, so that both see the same ones.
    """

    __slots__ = ("_first_id", "_first_us", "_last_id", "_last_us", "_received_ns", "runs")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._first_id = self._first_us = self._last_us = self._received_ns = 0
        self._last_id = -1

    def add(self, id_: int, time_us: int, received_ns: int) -> None:
        if id_ == self._last_id + 1 and received_ns == self._received_ns and self._last_id >= 0:
            self._last_id, self._last_us = id_, time_us
            return
        self._close()
        self._first_id = self._last_id = id_
        self._first_us = self._last_us = time_us
        self._received_ns = received_ns

    def _close(self) -> None:
        if self._last_id >= 0:
            self.runs.append(
                Run(self._first_id, self._last_id, self._first_us, self._last_us, self._received_ns)
            )

    def take(self) -> list[Run]:
        """All runs so far. The next trade begins a new one."""
        self._close()
        runs, self.runs, self._last_id = self.runs, [], -1
        return runs


_decode_lines = msgspec.json.Decoder(Envelope).decode_lines


class FrameReader:
    """Reads runs out of unpacked frames of one symbol's raw.

    What can't be read is passed over: `verify` tells of it, and the transformer puts it aside.
    """

    def __init__(self, exchange: Exchange, symbol: str) -> None:
        self._head = exchange.head
        self._trade = exchange.stream_name(symbol, Stream.TRADE)
        # Most lines are quotes, and say nothing of trades: those that begin as the exchange writes them are passed over.
        self._passed = tuple(
            b'{"stream":"%s","data":{' % exchange.stream_name(symbol, kind).encode()
            for kind in (Stream.BOOK_TICKER, Stream.KLINE)
        )

    def runs(self, data: bytes) -> list[Run]:
        """In a frame's order. Runs end with their frame, as they do with the batch that it was written from."""
        found: list[Run] = []
        builder, process, connection = RunBuilder(), "", ""
        head, wanted, passed = self._head, self._trade, self._passed
        for line in _envelopes(data):
            message = bytes(line.message)
            if message.startswith(passed):
                continue
            try:
                read = head(message)
            except UnassignableMessageError:
                continue
            if read.trade_id < 0 or read.stream != wanted:
                continue
            if line.connection != connection:
                connection = line.connection
                before, process = process, connection.rpartition("-")[0]
                if process != before:
                    found += [run._replace(process=before) for run in builder.take()]
            builder.add(read.trade_id, read.trade_time_us, line.received_ns)
        found += [run._replace(process=process) for run in builder.take()]
        return found


def _envelopes(data: bytes) -> list[Envelope]:
    """All lines in one call; each by itself where one of them is none."""
    try:
        return _decode_lines(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    read: list[Envelope] = []
    for line in data.split(b"\n"):
        try:
            read.append(envelope.decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return read


def read_runs(
    paths: Iterable[Path], exchange: Exchange, instead: Callable[[Path], Path | None] = lambda _: None
) -> Iterator[Run]:
    """Runs of all trades in raw files of one symbol, in the files' order.

    `instead`: the file to read where one has gone since it was listed (a part that was sealed meanwhile); it is read
    once.
    """
    read_instead: set[Path] = set()
    for path in paths:
        try:
            yield from _runs_of(path, exchange)
        except FileNotFoundError:  # on opening it: nothing of it has been given yet
            other = instead(path)
            if other is None:
                raise
            if other not in read_instead:
                read_instead.add(other)
                yield from _runs_of(other, exchange)


def _runs_of(path: Path, exchange: Exchange) -> Iterator[Run]:
    reader = FrameReader(exchange, symbol_of(path))
    for frame in read_frames(path):
        if not isinstance(frame, BadBytes):
            yield from reader.runs(frame.data)
