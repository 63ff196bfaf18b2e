"""An IntervalSet is a set of ids: everything is compared with Python's own set."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.model.intervals import Interval, IntervalSet

IDS = st.integers(0, 60)
PAIRS = st.tuples(IDS, IDS).map(lambda p: Interval(min(p), max(p)))
STEPS = st.lists(st.one_of(IDS, PAIRS, PAIRS.map(lambda p: ("remove", p))), max_size=40)


def build(steps: list) -> tuple[IntervalSet, set[int]]:
    ours, truth = IntervalSet(), set()
    for step in steps:
        if isinstance(step, int):
            assert ours.add(step) == (step not in truth)
            truth.add(step)
        elif isinstance(step, Interval):
            ours.add_interval(step.first, step.last)
            truth |= set(range(step.first, step.last + 1))
        else:
            ours.remove(step[1])
            truth -= set(range(step[1].first, step[1].last + 1))
    return ours, truth


@given(STEPS, PAIRS)
def test_it_is_the_set_of_its_ids(steps: list, within: Interval) -> None:
    ours, truth = build(steps)
    intervals = list(ours)
    assert {i for interval in intervals for i in range(interval.first, interval.last + 1)} == truth
    assert all(a.last + 1 < b.first for a, b in itertools.pairwise(intervals))
    assert ours.count() == len(truth)
    assert (ours.first, ours.last) == ((min(truth), max(truth)) if truth else (None, None))
    assert all((i in ours) == (i in truth) for i in range(-1, 62))
    window = set(range(within.first, within.last + 1))
    assert ids_of(ours.missing(within)) == window - truth
    assert ids_of(ours.shared_with(within)) == window & truth
    holes = set(range(min(truth), max(truth) + 1)) - truth if truth else set()
    assert ids_of(ours.holes()) == holes


def ids_of(intervals: list[Interval]) -> set[int]:
    ids = [i for interval in intervals for i in range(interval.first, interval.last + 1)]
    assert len(ids) == len(set(ids))
    return set(ids)


def test_an_interval_ends_after_it_starts() -> None:
    with pytest.raises(ValueError, match=r"5\.\.4 ends before it starts"):
        Interval(5, 4)
    with pytest.raises(ValueError, match="ends before"):
        IntervalSet().add_interval(5, 4)
