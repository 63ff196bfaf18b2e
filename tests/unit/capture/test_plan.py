"""The plan of streams over connections, and the steps of a hand-over."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.capture.outcome import Reason
from crypto_lake.capture.plan import Standing, Step, next_step, plan

KINDS = ("trade", "bookTicker")


def symbol_of(stream: str) -> str:
    return stream.partition("@")[0]


def streams(symbols: set[int]) -> frozenset[str]:
    return frozenset(f"s{n}@{kind}" for n in symbols for kind in KINDS)


symbol_sets = st.sets(st.integers(0, 40), max_size=25)
any_streams = st.frozensets(
    st.tuples(st.integers(0, 12), st.sampled_from(["trade", "bookTicker", "aggTrade"])).map(
        lambda t: f"s{t[0]}@{t[1]}"
    )
)


@given(st.lists(any_streams, min_size=1, max_size=6), st.integers(1, 9))
def test_every_wanted_stream_has_one_place_and_keeps_it(history: list[frozenset[str]], most: int) -> None:
    slots: dict[int, frozenset[str]] = {}
    for wanted in history:
        before = slots
        slots = plan(before, wanted, most, symbol_of)
        placed = [stream for held in slots.values() for stream in held]
        assert sorted(placed) == sorted(wanted)
        assert all(0 < len(held) <= most for held in slots.values())
        for number, held in before.items():
            for stream in held & wanted:
                assert stream in slots[number]
        assert all(number in before or number > max(before, default=0) for number in slots)


@given(st.lists(symbol_sets, min_size=1, max_size=6), st.integers(2, 9))
def test_both_streams_of_a_symbol_share_a_connection(history: list[set[int]], most: int) -> None:
    slots: dict[int, frozenset[str]] = {}
    for symbols in history:
        slots = plan(slots, streams(symbols), most, symbol_of)
        for number, other in itertools.combinations(slots, 2):
            assert not {symbol_of(s) for s in slots[number]} & {symbol_of(s) for s in slots[other]}


@given(symbol_sets, st.integers(2, 9))
def test_from_nothing_it_needs_no_more_connections_than_it_must(symbols: set[int], most: int) -> None:
    per_slot = most // len(KINDS)
    assert len(plan({}, streams(symbols), most, symbol_of)) == -(-len(symbols) // per_slot)


@given(symbol_sets, symbol_sets, st.integers(2, 9))
def test_the_order_of_names_does_not_matter_and_nothing_new_changes_nothing(
    symbols: set[int], more: set[int], most: int
) -> None:
    first = plan({}, sorted(streams(symbols)), most, symbol_of)
    assert first == plan({}, sorted(streams(symbols), reverse=True), most, symbol_of)
    assert plan(first, streams(symbols), most, symbol_of) == first
    grown = plan(first, streams(symbols | more), most, symbol_of)
    assert all(grown[number] >= held for number, held in first.items())


def test_a_connection_that_may_carry_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="carry nothing"):
        plan({}, ["a@trade"], 0, symbol_of)


standings = st.one_of(
    st.none(),
    st.builds(Standing, st.booleans(), st.sampled_from([None, Reason.LIFETIME, Reason.SERVER_SHUTDOWN])),
)


@given(standings, standings, st.booleans())
def test_an_old_connection_ends_only_when_a_new_one_covers(
    current: Standing | None, successor: Standing | None, may_open: bool
) -> None:
    step = next_step(current, successor, may_open)
    if step is Step.SWAP:
        assert current is not None
        assert successor is not None
        assert successor.covering
    if step is Step.OPEN:
        assert may_open
        assert successor is None
        assert current is None or current.leave is not None
    if step is Step.PROMOTE:
        assert current is None
        assert successor is not None
    if current is None and successor is None and may_open:
        assert step is Step.OPEN


@given(
    st.lists(st.sampled_from(["time", "covers", "dies", "successor dies", "shutdown", "forbid"]), max_size=60)
)
def test_whatever_happens_a_slot_ends_up_covered_by_one_connection(happenings: list[str]) -> None:
    """A model of a slot: after any history, a quiet while brings it to one covering connection."""
    current: Standing | None = None
    successor: Standing | None = None
    may_open = True
    for happening in [*happenings, *["time", "covers"] * 4]:
        match happening:
            case "covers":
                current = current and Standing(True, current.leave)
                successor = successor and Standing(True, successor.leave)
            case "dies":
                current = None
            case "successor dies":
                successor = None
            case "shutdown":
                current = current and Standing(current.covering, Reason.SERVER_SHUTDOWN)
            case "forbid":
                may_open = False
            case _:
                may_open = True
        covered = any(s is not None and s.covering for s in (current, successor))
        while (step := next_step(current, successor, may_open)) is not Step.WAIT:
            match step:
                case Step.OPEN if current is None:
                    current = Standing(False)
                case Step.OPEN:
                    successor = Standing(False)
                case _:
                    current, successor = successor, None
        assert covered == any(s is not None and s.covering for s in (current, successor))  # no step breaks it
    assert current == Standing(True)
    assert successor is None
