"""The exchange's closed one-second klines out of raw, as they came by the stream beside the trades.

They lie in raw by the hour of receipt, which need not be that of their second: the last second of an hour is told in the
next one, and a clock may be off. So the hour before and the hour after are read, too; three hours are held at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from crypto_lake.completeness.klines import Source, table
from crypto_lake.exchanges import EXCHANGES
from crypto_lake.exchanges.base import KlineRow
from crypto_lake.lake import envelope
from crypto_lake.lake.frames import BadBytes, read_frames
from crypto_lake.lake.layout import Layout, RawFile
from crypto_lake.lake.manifests import RawIndexEntry, read_raw_index
from crypto_lake.lake.raw_manifests import raw_inputs, read_raw_manifest, sealed_into
from crypto_lake.model.clock import Hour
from crypto_lake.model.market import NS_PER_SECOND, US_PER_SECOND, Stream

_log = logging.getLogger(__name__)

_HOUR_SECONDS: Final = 3600
_CLOSED: Final = b'"x":true'

# By second; None: the exchange told two that differ, so that neither can be taken for its word.
Told = dict[int, KlineRow | None]


def tell(told: Told, second: int, row: KlineRow | None) -> None:
    """Add a kline of a second. The order in which they come makes no difference."""
    told[second] = row if told.setdefault(second, row) == row else None


class RawKlines:
    """Of one symbol. Ask for hours in their order: those before the one asked for are let go.

    unreadable: lines of closed klines that could not be read; their seconds have none.
    """

    def __init__(self, layout: Layout, exchange: str, symbol: str) -> None:
        self._layout, self._exchange, self._symbol = layout, exchange, symbol
        self._read_kline = EXCHANGES[exchange].present.read_kline
        self._stream = EXCHANGES[exchange].stream_name(symbol, Stream.KLINE).encode() + b'"'
        self._hours: dict[int, Told] = {}
        self.unreadable = 0

    def of(self, since: int, until: int) -> pl.DataFrame:
        """KLINE_SCHEMA: of Unix seconds of one hour, end excluded. Raises OSError where raw that is here can't be read."""
        hour = since // _HOUR_SECONDS
        around = (hour - 1, hour, hour + 1)
        self._hours = {at: self._hours[at] if at in self._hours else self._received_in(at) for at in around}
        told: Told = {}
        for at in around:
            for second, row in self._hours[at].items():
                if since <= second < until:
                    tell(told, second, row)
        return table((row for row in told.values() if row is not None), Source.STREAM)

    def _received_in(self, unix_hour: int) -> Told:
        told: Told = {}
        for line in self._lines(Hour.of_ns(unix_hour * _HOUR_SECONDS * NS_PER_SECOND)):
            try:
                read = envelope.decode(line)
                kline = self._read_kline(bytes(read.message)) if read.source is None else None
            except (msgspec.MsgspecError, UnicodeDecodeError):
                kline = None
            if kline is None or kline.symbol != self._symbol or kline.row.open_us % US_PER_SECOND:
                self.unreadable += 1
            elif kline.closed:
                tell(told, kline.row.open_us // US_PER_SECOND, kline.row)
        return told

    def _lines(self, hour: Hour) -> Iterator[bytes]:
        """Lines of closed klines in closed raw files of this hour of receipt. What is not yet closed is left alone."""
        index = read_raw_index(self._layout, self._exchange, self._symbol, hour.day)
        read: set[Path] = set()
        for file in raw_inputs(self._layout, self._exchange, self._symbol, hour.day):
            if file.hour != hour or file.is_open or file.kind == "healed":
                continue
            try:
                if not self._has_none(file, index.get(file.path.name)):
                    yield from _closed(file.path, self._stream)
            except (
                FileNotFoundError
            ):  # sealed or deleted since it was listed; nothing of it has been given yet
                sealed = sealed_into(self._layout, file.path)
                if sealed is not None and sealed not in read:
                    read.add(sealed)
                    yield from _closed(sealed, self._stream)

    def _has_none(self, file: RawFile, known: RawIndexEntry | None) -> bool:
        """Whether it is known already that the file holds no kline: by whoever made bars of it, or sealed it."""
        size = file.path.stat().st_size
        if known is not None and known.bytes == size:
            return not known.klines
        manifest = read_raw_manifest(self._layout, file.path) if file.kind == "hour" else None
        return manifest is not None and manifest.bytes == size and not manifest.klines


def _closed(path: Path, stream: bytes) -> Iterator[bytes]:
    """Lines in which the stream is named and the kline is closed: found as bytes, so that nothing else is parsed."""
    for frame in read_frames(path):
        if not isinstance(frame, BadBytes):
            yield from (line for line in _lines_with(frame.data, stream) if _CLOSED in line)


def _lines_with(data: bytes, text: bytes) -> Iterable[bytes]:
    at = data.find(text)
    while at >= 0:
        end = data.find(b"\n", at)
        end = end if end >= 0 else len(data)
        yield data[data.rfind(b"\n", 0, at) + 1 : end]
        at = data.find(text, end)
