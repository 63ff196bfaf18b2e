"""Whether a ledger says what raw says: each of its lines against what is derived anew. Pure.

Lines are compared by what they claim. A crash may cut what is written at once into two lines, so `seen` lines are
compared as sets of ids of an hour; holes, and the times at the ends of what was seen, as they stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from crypto_lake.completeness.answers import refutes
from crypto_lake.completeness.entries import (
    Hole,
    Outcome,
    Quiet,
    ReadLine,
    Seen,
)
from crypto_lake.lake.control import RestAnswer
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet
from crypto_lake.model.market import NS_PER_SECOND

_SHOWN = 3  # intervals of a problem's text


class Told(NamedTuple):
    """A line of the ledger and its number, from 1."""

    number: int
    line: ReadLine


class Problem(NamedTuple):
    """What is wrong with a line, or missing before it."""

    number: int
    text: str


@dataclass(frozen=True)
class Derived:
    """What raw says.

    `lines`: in their order. `flushed`: those that follow where nothing more comes; with `finished` they must be there.
    Otherwise the collector may still have to write the last of all these. `set_back`: the clock went back meanwhile.
    `healed`: ids in healed files, by their path. `answers`: of the exchange, by when they were received. `unplaced`: ids
    of holes whose trade before is in no raw that was read, so that what happened since, their cause, is not known.
    """

    lines: Sequence[ReadLine]
    flushed: Sequence[ReadLine] = ()
    finished: bool = False
    set_back: bool = False
    healed: Mapping[str, IntervalSet] = field(default_factory=dict[str, IntervalSet])
    answers: Mapping[int, RestAnswer] = field(default_factory=dict[int, RestAnswer])
    unplaced: IntervalSet = field(default_factory=IntervalSet)

    def is_unplaced(self, hole: Hole) -> bool:
        return not self.unplaced.missing(Interval(hole.first_id, hole.last_id))


@dataclass(frozen=True)
class Comparison:
    """`to_come`: derived lines that the ledger does not have yet. `unplaced`: holes whose cause was not compared."""

    problems: list[Problem]
    to_come: int
    unplaced: int


def hour_of(line: ReadLine) -> str | None:
    """The hour of receipt that a line bears, None for one that bears none."""
    match line:
        case Seen():
            return line.hour
        case Hole():
            return str(Hour.of_ns(line.found_ns))
        case _:
            return None


def hours_of(lines: Sequence[ReadLine]) -> list[str]:
    """The hour that each line belongs to.

    What came late stands before what was seen of its hour, all else that bears no hour behind what it follows.
    """
    hours = [hour_of(line) for line in lines]
    running = ""
    for at, hour in enumerate(hours):
        if hour is None and not _is_late(lines[at]):
            hours[at] = running
        running = hour or running
    following = running
    for at in range(len(hours) - 1, -1, -1):
        hours[at] = following = hours[at] or following
    return [hour or "" for hour in hours]


def within(lines: Sequence[ReadLine], first_hour: str, last_hour: str) -> list[int]:
    """The places of the lines of these hours (ends included)."""
    return [at for at, hour in enumerate(hours_of(lines)) if first_hour <= hour <= last_hour]


def came_in(lines: Iterable[ReadLine]) -> dict[Hour, int]:
    """The hours in which trades came by these lines, and the greatest id of each."""
    found: dict[Hour, int] = {}
    for line in lines:
        if isinstance(line, Seen) and (hour := _parsed(line.hour)) is not None:
            found[hour] = max(line.last_id, found.get(hour, line.last_id))
    return found


def leading_to(lines: Iterable[ReadLine], first: Hour) -> set[Hour]:
    """Of the hours before this one in which trades came, that of the greatest id and those after it.

    They may lie far back. Who knows when their trades were received knows what happened between them and the next.
    """
    before = {hour: id_ for hour, id_ in came_in(lines).items() if hour < first}
    since = max(before, key=lambda hour: (before[hour], hour), default=first)
    return {hour for hour in before if hour >= since}


def _parsed(text: str) -> Hour | None:
    """An hour of a ledger's line; None where it is none: such a line is wrong, and told to be."""
    try:
        return Hour.of_ns(int(datetime.fromisoformat(f"{text}:00+00:00").timestamp()) * NS_PER_SECOND)
    except ValueError:
        return None


def _is_late(line: ReadLine) -> bool:
    return isinstance(line, Outcome) and line.outcome == "received_late"


def compare(told: Sequence[Told], derived: Derived, others: Iterable[ReadLine] = ()) -> Comparison:
    """`others`: the ledger's lines that are not compared. Problems stand in the order of the lines."""
    problems = [
        *_seen(told, derived),
        *_holes(told, derived),
        *_late(told, derived),
        *_outcomes(told, derived, others),
    ]
    missing, to_come = _missing(told, derived)
    unplaced = sum(isinstance(line, Hole) and derived.is_unplaced(line) for _, line in told)
    return Comparison(sorted([*problems, *missing]), to_come, unplaced)


def _seen(told: Sequence[Told], derived: Derived) -> Iterable[Problem]:
    ids: dict[str, IntervalSet] = {}
    firsts: dict[int, int] = {}
    lasts: dict[int, int] = {}
    for line in (*derived.lines, *derived.flushed):
        if isinstance(line, Seen):
            ids.setdefault(line.hour, IntervalSet()).add_interval(line.first_id, line.last_id)
            firsts[line.first_id], lasts[line.last_id] = line.first_time_us, line.last_time_us
    said = IntervalSet()
    for number, line in told:
        if not isinstance(line, Seen):
            continue
        here = Interval(line.first_id, line.last_id)
        wrong = ids.get(line.hour, IntervalSet()).missing(here)
        if wrong:
            yield Problem(
                number, f"says that {_ids(wrong)} came in {line.hour}; raw of that hour does not have them"
            )
        elif again := said.shared_with(here):
            yield Problem(number, f"says that {_ids(again)} came, which a line before it says too")
        elif firsts.get(line.first_id, line.first_time_us) != line.first_time_us:
            yield _field(number, line.first_id, "first_time_us", line.first_time_us, firsts[line.first_id])
        elif lasts.get(line.last_id, line.last_time_us) != line.last_time_us:
            yield _field(number, line.last_id, "last_time_us", line.last_time_us, lasts[line.last_id])
        said.add_interval(here.first, here.last)


def _field(number: int, id_: int, name: str, told: object, raw: object) -> Problem:
    return Problem(number, f"says {name} {told} of trade {id_}; raw says {raw}")


def _holes(told: Sequence[Told], derived: Derived) -> Iterable[Problem]:
    known = {
        (line.first_id, line.last_id): line
        for line in (*derived.lines, *derived.flushed)
        if isinstance(line, Hole)
    }
    came = _all_seen(derived)
    for number, line in told:
        if not isinstance(line, Hole):
            continue
        hole = known.get((line.first_id, line.last_id))
        if hole is None:
            ids = Interval(line.first_id, line.last_id)
            # Where the clock was set back, it may have said that the grace was over before it was over by raw.
            if not (derived.set_back and not came.missing(ids)):
                yield Problem(number, f"names a hole, {_ids([ids])}, that raw does not have")
            continue
        for name in ("after_time_us", "before_time_us", "found_ns", "cause"):
            if derived.set_back and name in ("cause", "found_ns"):
                continue
            if name == "cause" and derived.is_unplaced(hole):
                continue
            if getattr(line, name) != getattr(hole, name):
                what = f"says {name} {getattr(line, name)} of the hole {line.first_id} to {line.last_id}"
                yield Problem(number, f"{what}; raw says {getattr(hole, name)}")
                break


def _late(told: Sequence[Told], derived: Derived) -> Iterable[Problem]:
    late = _late_ids((*derived.lines, *derived.flushed))
    if derived.set_back:
        for interval in _all_seen(derived):
            late.add_interval(interval.first, interval.last)
    for number, line in told:
        if isinstance(line, Outcome) and _is_late(line):
            wrong = late.missing(Interval(line.first_id, line.last_id))
            if wrong:
                yield Problem(number, f"says that {_ids(wrong)} came late; raw does not")


def _outcomes(told: Sequence[Told], derived: Derived, others: Iterable[ReadLine]) -> Iterable[Problem]:
    named = IntervalSet()
    for line in others:
        if isinstance(line, Hole):
            named.add_interval(line.first_id, line.last_id)
    for number, line in told:
        match line:
            case Hole():
                named.add_interval(line.first_id, line.last_id)
            case Outcome() if not _is_late(line):
                if wrong := named.missing(Interval(line.first_id, line.last_id)):
                    yield Problem(
                        number, f"gives an outcome of {_ids(wrong)}, which no line before it names as missing"
                    )
                elif problem := _unfounded(line, derived):
                    yield Problem(number, problem)
            case Quiet() if line.answer_ns and line.answer_ns not in derived.answers:
                yield Problem(number, f"rests on an answer received at {line.answer_ns}, which is not kept")
            case _:
                pass


def _unfounded(outcome: Outcome, derived: Derived) -> str:
    """Why what the outcome rests on does not bear it, or nothing."""
    ids = Interval(outcome.first_id, outcome.last_id)
    if outcome.outcome == "healed":
        held = derived.healed.get(outcome.file)
        if held is None:
            return f"says that {_ids([ids])} are in {outcome.file}, which is not there"
        wrong = held.missing(ids)
        return f"says that {_ids(wrong)} are in {outcome.file}, which does not have them" if wrong else ""
    if not outcome.answer_ns and outcome.outcome != "never_existed":
        return ""
    answer = derived.answers.get(outcome.answer_ns)
    if answer is None:
        return f"rests on an answer received at {outcome.answer_ns}, which is not kept"
    return refutes(answer, ids) if outcome.outcome == "never_existed" else ""


def _missing(told: Sequence[Told], derived: Derived) -> tuple[list[Problem], int]:
    """Derived lines that the ledger does not have, and how many of them it may still get."""
    seen: dict[str, IntervalSet] = {}
    holes: dict[tuple[int, int], int] = {}
    places: list[tuple[int, int, int]] = []  # of `seen` lines: first and last id, number
    for number, line in told:
        if isinstance(line, Seen):
            seen.setdefault(line.hour, IntervalSet()).add_interval(line.first_id, line.last_id)
            places.append((line.first_id, line.last_id, number))
        elif isinstance(line, Hole):
            holes[line.first_id, line.last_id] = number
    late = _late_ids(line for _, line in told)

    def lacks(line: ReadLine) -> str:
        match line:
            case Seen():
                ids = seen.get(line.hour, IntervalSet()).missing(Interval(line.first_id, line.last_id))
                return f"that {_ids(ids)} came in {line.hour}" if ids else ""
            case Hole():
                at = (line.first_id, line.last_id)
                return "" if at in holes else f"the hole {_ids([Interval(*at)])}"
            case Outcome():
                ids = late.missing(Interval(line.first_id, line.last_id))
                return f"that {_ids(ids)} came late" if ids else ""
            case _:
                return ""

    def number_of(line: ReadLine) -> int:
        if isinstance(line, Hole):
            return holes.get((line.first_id, line.last_id), 0)
        if isinstance(line, Seen):
            return next(
                (n for first, last, n in places if first <= line.last_id and last >= line.first_id), 0
            )
        return 0

    must = len(derived.lines) + (len(derived.flushed) if derived.finished else 0)
    wanted = [*derived.lines, *derived.flushed]
    lacked = [lacks(line) for line in wanted]
    # Only the last of them may be to come: what stands before a line that is there must be there too.
    present = max((at for at, what in enumerate(lacked) if not what), default=-1)
    problems: list[Problem] = []
    to_come = 0
    for at, (line, what) in enumerate(zip(wanted, lacked, strict=True)):
        if not what:
            continue
        if at >= must or (at > present and not derived.finished):
            to_come += 1
        elif not (derived.set_back and _is_passing(line, derived)):
            following = (number_of(wanted[n]) for n in range(at + 1, len(wanted)) if not lacked[n])
            number = next((n for n in following if n), (told[-1].number if told else 0) + 1)
            problems.append(Problem(number, f"does not say {what} (it belongs before this line); raw does"))
    return problems, to_come


def _is_passing(line: ReadLine, derived: Derived) -> bool:
    """A hole all of which came late, or that it did."""
    if isinstance(line, Outcome):
        return True
    return isinstance(line, Hole) and not _all_seen(derived).missing(Interval(line.first_id, line.last_id))


def _all_seen(derived: Derived) -> IntervalSet:
    found = IntervalSet()
    for line in (*derived.lines, *derived.flushed):
        if isinstance(line, Seen):
            found.add_interval(line.first_id, line.last_id)
    return found


def _late_ids(lines: Iterable[ReadLine]) -> IntervalSet:
    found = IntervalSet()
    for line in lines:
        if isinstance(line, Outcome) and _is_late(line):
            found.add_interval(line.first_id, line.last_id)
    return found


def _ids(intervals: Iterable[Interval]) -> str:
    texts = [str(i.first) if len(i) == 1 else f"{i.first} to {i.last}" for i in intervals]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"trade {', '.join(texts[:_SHOWN])}{more}"
