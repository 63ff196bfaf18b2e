"""Which pieces of a ledger go to the bucket. Pure.

A ledger is appended to for ever; an object is never changed. So each day closes a piece: whole lines from where the
piece before ended. The pieces of a collector, in the order of their days, are byte for byte its ledger.

- Lines bear a day (`seen` its hour's, `hole` that of its finding), `outcome` lines none: they belong to the day that
  stands before them. A piece ends before the first line of a later day.
- The last piece has no such line after it. It ends with what is there an hour after its day's end.
- A line that comes later, about whatever day, is in a later piece: a day's piece holds what was *written down* from
  the day before's closing to its own. Days rise from piece to piece, so that a day never has two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from crypto_lake.completeness.entries import AnyLine, Hole, Seen
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import IntervalSet

CLOSED_AFTER_NS: Final = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """A line with its place in the file. `day`: that it bears, None for one that bears none."""

    line: AnyLine
    end: int  # offset of the byte after its newline
    day: str | None


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `offset` to `end` of a ledger, closed with `day`."""

    day: str
    offset: int
    end: int


def day_of(line: AnyLine) -> str | None:
    match line:
        case Seen():
            return line.hour.partition("T")[0]
        case Hole():
            return Hour.of_ns(line.found_ns).day
        case _:
            return None


def last_closed_day(now_ns: int) -> str:
    """The latest day that is over for good. `now_ns`: the lake's clock."""
    return Hour.of_ns(Hour.of_ns(now_ns - CLOSED_AFTER_NS).start_ns - 24 * 3600 * 10**9).day


def pieces(lines: Sequence[LedgerLine], offset: int, last_day: str, now_ns: int) -> list[Piece]:
    """What is to be uploaded after the pieces that were.

    `offset`: where they end; `last_day`: the day of the last of them, "" where there is none.
    """
    closed_day = last_closed_day(now_ns)
    made: list[Piece] = []
    start, end, running = offset, offset, ""
    for line in lines:
        if line.day is not None and line.day > running:
            # Before a later day's line; where the clock was ahead once, that day is not over, and closes nothing.
            closes = running > last_day and start < end and running <= closed_day
            if closes:
                made.append(Piece(running, start, end))
                start, last_day = end, running
            running = min(line.day, Hour.of_ns(max(now_ns, 0)).day)
        end = max(offset, line.end)
    if start < end and running and running <= closed_day:
        day = running if running > last_day else closed_day
        if day > last_day:
            made.append(Piece(day, start, end))
    return made


def ids_in(lines: Iterable[LedgerLine]) -> IntervalSet:
    """Every trade id that these lines account for: seen, or missed."""
    found = IntervalSet()
    for item in lines:
        if isinstance(item.line, Seen | Hole):
            found.add_interval(item.line.first_id, item.line.last_id)
    return found
