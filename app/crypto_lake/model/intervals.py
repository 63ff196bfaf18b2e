"""Sets of trade ids, kept as intervals: what was seen, and the holes between."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """Ids from `first` to `last`, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError(f"interval {self.first}..{self.last} ends before it starts")

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, id_: int) -> bool:
        return self.first <= id_ <= self.last


class IntervalSet:
    """A set of ids as sorted, disjoint, non-adjacent intervals.

    `add` of the next id in order is O(1); an id out of order is O(log n + n) in the number of intervals.
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for interval in intervals:
            self.add_interval(interval.first, interval.last)

    def add(self, id_: int) -> bool:
        """Add one id; False where it was there already."""
        if self._lasts:
            last = self._lasts[-1]
            if id_ == last + 1:
                self._lasts[-1] = id_
                return True
            if id_ <= last and id_ in self:
                return False
        self.add_interval(id_, id_)
        return True

    def add_interval(self, first: int, last: int) -> None:
        """Add all ids of first..last; what is there already stays once."""
        if first > last:
            raise ValueError(f"interval {first}..{last} ends before it starts")
        left = bisect_left(self._lasts, first - 1)  # first interval that touches or follows
        right = bisect_right(self._firsts, last + 1)  # one past the last that touches
        if left < right:
            first = min(first, self._firsts[left])
            last = max(last, self._lasts[right - 1])
        self._firsts[left:right] = [first]
        self._lasts[left:right] = [last]

    def holes(self) -> list[Interval]:
        """What is missing between the smallest and the greatest id."""
        return [
            Interval(last + 1, first - 1)
            for last, first in zip(self._lasts[:-1], self._firsts[1:], strict=True)
        ]

    def missing(self, within: Interval) -> list[Interval]:
        """The parts of `within` that are not in the set."""
        found: list[Interval] = []
        at = within.first
        for interval in self:
            if interval.last < at:
                continue
            if interval.first > within.last:
                break
            if interval.first > at:
                found.append(Interval(at, interval.first - 1))
            at = interval.last + 1
        if at <= within.last:
            found.append(Interval(at, within.last))
        return found

    def shared_with(self, within: Interval) -> list[Interval]:
        """The parts of `within` that are in the set."""
        return [
            Interval(max(i.first, within.first), min(i.last, within.last))
            for i in self
            if i.last >= within.first and i.first <= within.last
        ]

    def remove(self, within: Interval) -> None:
        """Take out every id of `within`."""
        left = bisect_left(self._lasts, within.first)
        right = bisect_right(self._firsts, within.last)
        if left >= right:
            return
        before, after = self._firsts[left], self._lasts[right - 1]
        firsts: list[int] = []
        lasts: list[int] = []
        if before < within.first:
            firsts.append(before)
            lasts.append(within.first - 1)
        if after > within.last:
            firsts.append(within.last + 1)
            lasts.append(after)
        self._firsts[left:right] = firsts
        self._lasts[left:right] = lasts

    def count(self) -> int:
        return sum(last - first + 1 for first, last in zip(self._firsts, self._lasts, strict=True))

    @property
    def first(self) -> int | None:
        return self._firsts[0] if self._firsts else None

    @property
    def last(self) -> int | None:
        return self._lasts[-1] if self._lasts else None

    def __contains__(self, id_: int) -> bool:
        at = bisect_right(self._firsts, id_) - 1
        return at >= 0 and id_ <= self._lasts[at]

    def __iter__(self) -> Iterator[Interval]:
        return (Interval(f, last) for f, last in zip(self._firsts, self._lasts, strict=True))

    def __len__(self) -> int:
        """How many intervals there are (not ids: see `count`)."""
        return len(self._firsts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalSet):
            return NotImplemented
        return self._firsts == other._firsts and self._lasts == other._lasts

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # it changes

    def __repr__(self) -> str:
        return f"IntervalSet({', '.join(f'{i.first}..{i.last}' for i in self)})"
