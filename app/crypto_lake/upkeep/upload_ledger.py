"""Which pieces of a ledger go to the bucket. Pure.

A ledger is appended to for ever; an object is never changed. So each day closes a piece: whole lines from where the
piece before ended. The pieces of a collector, in their order, are byte for byte its ledger.

- Lines bear a day (`seen` its hour's, `hole` that of its finding), `outcome` lines none: they belong to the day that
  stands before them. A piece ends before the first line of a later day.
- The last piece has no such line after it. It ends with what is there an hour after its day's end.
- A line that comes later, about whatever day, is in a later piece: a day's piece holds what was *written down* from
  the day before's closing to its own. Days rise from piece to piece, so that a day is closed once.
- A ledger that has ended waits for no hour: what is there goes at once, as piece 1 of a day that is not closed. Where
  it goes on, the next piece says that, as soon as it can; and the day may be closed as any other. Where no line of it is
  left then, what there is of the next day goes as that day's piece 1: days rise, so the one before is closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from crypto_lake.completeness.entries import Ended, Hole, ReadLine, Resumed, Seen
from crypto_lake.completeness.ledger import ended_ns
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import IntervalSet

CLOSED_AFTER_NS: Final = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """A line with its place in the file. `day`: that it bears, None for one that bears none."""

    line: ReadLine
    end: int  # offset of the byte after its newline
    day: str | None


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes `offset` to `end` of a ledger. `number` 0: it closes `day`; else of the day's pieces that go before that."""

    day: str
    offset: int
    end: int
    number: int = 0


def day_of(line: ReadLine) -> str | None:
    match line:
        case Seen():
            return line.hour.partition("T")[0]
        case Hole():
            return Hour.of_ns(line.found_ns).day
        case Ended():
            return Hour.of_ns(line.ended_ns).day
        case Resumed():
            return Hour.of_ns(line.resumed_ns).day
        case _:
            return None


def last_closed_day(now_ns: int) -> str:
    """The latest day that is over for good. `now_ns`: the lake's clock."""
    return Hour.of_ns(Hour.of_ns(now_ns - CLOSED_AFTER_NS).start_ns - 24 * 3600 * 10**9).day


def pieces(
    lines: Sequence[LedgerLine], offset: int, last_day: str, now_ns: int, last_number: int = 0
) -> list[Piece]:
    """What is to be uploaded after the pieces that were.

    `offset`: where they end; `last_day`, `last_number`: of the last of them, "" and 0 where there is none.
    """
    closed_day = last_closed_day(now_ns)
    made: list[Piece] = []

    def is_open(day: str) -> bool:
        return day > last_day or (day == last_day and last_number > 0)

    start, end, running = offset, offset, ""
    for line in lines:
        if line.day is not None and line.day > running:
            # Before a later day's line; where the clock was ahead once, that day is not over, and closes nothing.
            closes = is_open(running) and start < end and running <= closed_day
            if closes:
                made.append(Piece(running, start, end))
                start, last_day, last_number = end, running, 0
            running = min(line.day, Hour.of_ns(max(now_ns, 0)).day)
        end = max(offset, line.end)
    if start < end and running and running <= closed_day:
        day = running if is_open(running) else closed_day
        if is_open(day):
            made.append(Piece(day, start, end))
    elif (
        start < end
        and is_open(running)
        and (_is_to_be_told(lines, start) or _is_left_open(last_day, last_number, running, closed_day))
    ):
        made.append(Piece(running, start, end, next_number(running, last_day, last_number)))
    return made


def next_number(day: str, last_day: str, last_number: int) -> int:
    """Of the next piece of a day that goes before its closing."""
    return last_number + 1 if day == last_day else 1


def _is_to_be_told(lines: Sequence[LedgerLine], offset: int) -> bool:
    """Whether the ledger has ended, or those that read it up to `offset` believe so."""
    if ended_ns(line.line for line in lines) is not None:
        return True
    return ended_ns(line.line for line in lines if line.end <= offset) is not None


def _is_left_open(last_day: str, last_number: int, running: str, closed_day: str) -> bool:
    """Whether a day is over of which all went in numbered pieces: nothing of it is left to close it with."""
    return last_number > 0 and last_day < running and last_day <= closed_day


def ids_in(lines: Iterable[LedgerLine]) -> IntervalSet:
    """Every trade id that these lines account for: seen, or missed."""
    found = IntervalSet()
    for item in lines:
        if isinstance(item.line, Seen | Hole):
            found.add_interval(item.line.first_id, item.line.last_id)
    return found
