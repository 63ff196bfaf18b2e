"""The open parts, and the lines on their way into them. Only the writer's thread uses it.

Lines are held until they are fsynced. Where a write or an fsync fails, what is held and not proven to be on the disk
is written again, into another part; a trade that stands twice is one trade (see docs/bars.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from crypto_lake.capture.batch import Item
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import PartWriter, next_part_number
from crypto_lake.model.clock import Hour

# Of a symbol: a disk on which not even these can be closed gets no more parts, nor open files.
_MOST_UNCLOSED = 3

OnProblem = Callable[[OSError, str], None]


@dataclass
class OpenPart:
    writer: PartWriter
    symbol: str
    hour: Hour
    number: int
    opened_ns: int
    dirty: bool = False


@dataclass(slots=True)
class _Held:
    item: Item
    part: OpenPart | None = None  # where it is written; None: nowhere yet


@dataclass
class RawFigures:
    bytes_written: int = 0
    frames: int = 0
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Synced:
    """What an fsync made durable: the items, without their lines, and how many bytes these were, by symbol."""

    items: list[Item]
    sizes: dict[str, int]


class RawFiles:
    """`on_problem(error, what)` is called for every failure; nothing here raises OSError.

    A symbol that fails rests until `retry`; the others go on.
    """

    def __init__(self, layout: Layout, exchange: str, rotate_ns: int, on_problem: OnProblem) -> None:
        self._layout = layout
        self._exchange = exchange
        self._rotate_ns = rotate_ns
        self._on_problem = on_problem
        self._compressor = FrameCompressor()
        self._parts: dict[str, OpenPart] = {}
        self._resting: set[str] = set()
        self._unclosed: list[OpenPart] = []  # given up or to be closed, which has failed so far
        self._held: list[_Held] = []
        self._numbers: dict[tuple[str, str], int] = {}  # the last one used, by symbol and day
        self.held_bytes = 0
        self.figures = RawFigures()

    def take(self, items: Iterable[Item]) -> None:
        """Hold these; they are written by the next `write`."""
        for item in items:
            self._held.append(_Held(item))
            self.held_bytes += len(item.lines)

    def write(self) -> set[str]:
        """Write what is held and not written, each symbol in its order.

        Returns the symbols whose open part is of another hour than what comes next: it must be synced and closed, then
        this called again.
        """
        turning: set[str] = set()
        unclosed = Counter(part.symbol for part in self._unclosed)
        stuck = self._resting | {symbol for symbol, count in unclosed.items() if count >= _MOST_UNCLOSED}
        for held in self._held:
            symbol = held.item.symbol
            if held.part is not None or symbol in stuck:
                continue
            part = self._parts.get(symbol)
            if part is not None and part.hour != held.item.hour:
                turning.add(symbol)
                stuck.add(symbol)
            elif not self._append(held, part):
                stuck.add(symbol)
        return turning

    def _append(self, held: _Held, part: OpenPart | None) -> bool:
        item = held.item
        try:
            if part is None:
                part = self._open(item)
            self.figures.bytes_written += part.writer.append(item.lines, self._compressor)
        except OSError as error:
            self._resting.add(item.symbol)
            self._on_problem(error, f"writing raw of {item.symbol}")
            if part is not None and part.writer.broken:
                self._give_up(part)
            return False
        self.figures.frames += 1
        held.part, part.dirty = part, True
        return True

    def _open(self, item: Item) -> OpenPart:
        # One that was given up and has gone from the disk does not give its number to another.
        on_disk = next_part_number(self._layout, self._exchange, item.symbol, item.hour.day)
        number = max(on_disk, self._numbers.get((item.symbol, item.hour.day), 0) + 1)
        self._numbers[item.symbol, item.hour.day] = number
        writer = PartWriter(self._layout.part(self._exchange, item.symbol, item.hour, number))
        part = self._parts[item.symbol] = OpenPart(writer, item.symbol, item.hour, number, item.cut_ns)
        self.figures.parts += 1
        return part

    def _give_up(self, part: OpenPart) -> None:
        """What was written since its last fsync is where nobody knows: it is written again, elsewhere."""
        del self._parts[part.symbol]
        self._resting.add(part.symbol)
        self._unclosed.append(part)
        for held in self._held:
            if held.part is part:
                held.part = None

    def sync(self) -> Synced:
        """Make what is written durable."""
        for part in [part for part in self._parts.values() if part.dirty]:
            try:
                part.writer.sync()
                part.dirty = False
            except OSError as error:
                self._on_problem(error, f"fsync of {part.writer.open_path}")
                self._give_up(part)
        items: list[Item] = []
        sizes: dict[str, int] = {}
        waiting: list[_Held] = []
        for held in self._held:
            item = held.item
            if held.part is None or held.part.dirty:
                waiting.append(held)
                continue
            sizes[item.symbol] = sizes.get(item.symbol, 0) + len(item.lines)
            item.lines, item.durable = b"", True
            items.append(item)
        self._held = waiting
        self.held_bytes -= sum(sizes.values())
        return Synced(items, sizes)

    def due(self, now_ns: int) -> list[str]:
        """Symbols whose part is old enough to be closed, or its hour is over (or the clock was set back)."""
        return [
            symbol
            for symbol, part in self._parts.items()
            if not part.opened_ns <= now_ns < min(part.opened_ns + self._rotate_ns, part.hour.end_ns)
        ]

    def open_symbols(self) -> list[str]:
        return list(self._parts)

    def close(self, symbols: Iterable[str]) -> list[OpenPart]:
        """Close the parts of these, which are synced; returns those that took their final name."""
        parts = [self._parts.pop(symbol) for symbol in symbols if symbol in self._parts]
        return [part for part in parts if self._close(part)]

    def retry(self) -> None:
        """Let those that failed be tried again, beginning with what could not be closed."""
        self._resting.clear()
        unclosed, self._unclosed = self._unclosed, []
        for part in unclosed:
            self._close(part)

    def _close(self, part: OpenPart) -> bool:
        try:
            part.writer.close()
        except OSError as error:
            self._on_problem(error, f"closing {part.writer.open_path}")
            self._unclosed.append(part)
            return False
        return True

    def leave(self) -> dict[str, tuple[int, int]]:
        """Let go of everything that is held: lines and bytes that are lost, by symbol. What is open stays for salvage."""
        lost: dict[str, tuple[int, int]] = {}
        for held in self._held:
            lines, size = lost.get(held.item.symbol, (0, 0))
            lost[held.item.symbol] = (lines + held.item.lines.count(b"\n"), size + len(held.item.lines))
        for part in (*self._parts.values(), *self._unclosed):
            try:
                part.writer.abandon()
            except OSError as error:
                self._on_problem(error, f"leaving {part.writer.open_path}")
        self._held, self._unclosed, self.held_bytes = [], [], 0
        self._parts.clear()
        return lost
