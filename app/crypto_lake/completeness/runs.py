"""Runs of trades out of raw files, for whoever derives the ledger from bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from crypto_lake.completeness.fold import Run
from crypto_lake.exchanges import Exchange, UnassignableMessageError
from crypto_lake.lake import envelope
from crypto_lake.lake.frames import BadBytes, read_frames


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


def read_runs(
    paths: Iterable[Path], exchange: Exchange, instead: Callable[[Path], Path | None] = lambda _: None
) -> Iterator[Run]:
    """Runs of all trades in raw files of one symbol, in the files' order.

    What can't be read is passed over: it is the transformer that puts it aside and counts it. `instead`: the file to
    read where one has gone since it was listed (a part that was sealed meanwhile); it is read once.
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
    for frame in read_frames(path):
        if isinstance(frame, BadBytes):
            continue
        builder = RunBuilder()
        for line in frame.data.split(b"\n"):
            try:
                read = envelope.decode(line)
                head = exchange.head(bytes(read.message))
            except (msgspec.MsgspecError, UnassignableMessageError):
                continue
            if head.trade_id >= 0:
                builder.add(head.trade_id, head.trade_time_us, read.received_ns)
        yield from builder.take()
