"""The ledger's lines are a function of the raw, however it was cut, and say exactly what is missing."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.completeness.entries import AnyLine, Hole, Outcome, Seen
from crypto_lake.completeness.fold import SymbolFold
from crypto_lake.completeness.fold_state import FoldState, Run
from crypto_lake.completeness.ledger import account, ended_ns
from crypto_lake.completeness.runs import RunBuilder
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import Interval, IntervalSet

GRACE_NS = 5 * 10**9
START_NS = Hour("2024-08-08", 13).end_ns - 20 * 10**9  # so that a sequence crosses the hour

Arrival = tuple[int, int]  # id, received_ns


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    """Trades as they may come: lost, repeated, out of order, late by more than the grace, at any pace."""
    ids = [i for i in range(100, 100 + draw(st.integers(1, 40))) if draw(st.integers(0, 5))] or [100]
    extra = draw(st.lists(st.integers(95, 145), max_size=6))
    order = draw(st.lists(st.integers(0, 3), min_size=len(ids), max_size=len(ids)))
    shuffled = [i for _, i in sorted(zip([n + o for n, o in enumerate(order)], ids, strict=True))]
    for id_ in extra:
        shuffled.insert(draw(st.integers(0, len(shuffled))), id_)
    now, out = START_NS, list[Arrival]()
    for id_ in shuffled:
        now += draw(st.sampled_from([0, 0, 10**6, 10**9, 4 * 10**9, 6 * 10**9]))
        out.append((id_, now))
    return out


def runs_of(trades: list[Arrival]) -> list[Run]:
    builder = RunBuilder()
    for id_, received_ns in trades:
        builder.add(id_, id_ * 1000, received_ns)
    return builder.take()


def fold_whole(trades: list[Arrival]) -> tuple[SymbolFold, list[AnyLine]]:
    fold = SymbolFold(GRACE_NS)
    lines = [line for run in runs_of(trades) for line in fold.trades(run)]
    return fold, lines + fold.flush()


@given(arrivals())
def test_it_says_exactly_what_came_and_what_did_not(trades: list[Arrival]) -> None:
    fold, lines = fold_whole(trades)
    told = account(lines)
    truth = IntervalSet(Interval(i, i) for i, _ in trades)
    # Ids below the first that was seen are no hole when they come: the ledger begins there.
    assert told.seen == truth == fold.seen
    first = trades[0][0]
    later = IntervalSet(i for i in truth if i.last >= first)
    assert told.open_holes == IntervalSet(h for h in later.holes() if h.last > first)
    assert fold.missing() == list(told.open_holes)
    assert fold.duplicates == len(trades) - truth.count()
    seen = [i for line in lines if isinstance(line, Seen) for i in range(line.first_id, line.last_id + 1)]
    assert len(seen) == len(set(seen)), "no id is written down twice"


@given(arrivals(), st.data())
def test_any_cut_into_batches_gives_the_same_lines(trades: list[Arrival], data: st.DataObject) -> None:
    _, whole = fold_whole(trades)
    fold, lines = SymbolFold(GRACE_NS), list[AnyLine]()
    drains = [list(group) for _, group in itertools.groupby(trades, key=lambda trade: trade[1])]
    for drain, following in itertools.zip_longest(drains, drains[1:]):
        for run in runs_of(drain):
            lines += fold.trades(run)
        if following is None:
            break
        if data.draw(st.booleans()):
            lines += fold.passed(data.draw(st.integers(drain[0][1], following[0][1])))
        if data.draw(st.booleans()):
            fold = SymbolFold(GRACE_NS, fold.state())
    lines += fold.flush()
    assert sort_within_flush(lines) == sort_within_flush(whole)


def sort_within_flush(lines: list[AnyLine]) -> list[AnyLine]:
    return sorted(lines, key=lambda line: (type(line).__name__, str(line)))


@given(arrivals(), st.data())
def test_it_is_taken_up_from_an_older_state_and_the_lines_since(
    trades: list[Arrival], data: st.DataObject
) -> None:
    """A crash: the state's copy is old, the ledger has some of the lines that followed, raw has all."""
    _, whole = fold_whole(trades)
    runs = runs_of(trades)
    stored_at = data.draw(st.integers(0, len(runs)))
    fold = SymbolFold(GRACE_NS)
    before = [line for run in runs[:stored_at] for line in fold.trades(run)]
    state = fold.state() if stored_at else FoldState()
    crashed_at = data.draw(st.integers(stored_at, len(runs)))
    after = [line for run in runs[stored_at:crashed_at] for line in fold.trades(run)]
    if data.draw(st.booleans()):
        after += fold.flush()
    on_disk = after[: data.draw(st.integers(0, len(after)))]

    again = SymbolFold(GRACE_NS, state)
    again.take_up(on_disk)
    lines = before + on_disk
    for run in runs[stored_at:]:
        lines += again.trades(run)
    lines += again.flush()

    told, truth = account(lines), account(whole)
    assert told.seen == truth.seen
    assert told.open_holes == truth.open_holes
    seen = [i for line in lines if isinstance(line, Seen) for i in range(line.first_id, line.last_id + 1)]
    assert len(seen) == len(set(seen)), "no id is written down twice"


@settings(max_examples=60)
@given(arrivals(), st.data())
def test_what_ended_says_so_until_something_new_comes(trades: list[Arrival], data: st.DataObject) -> None:
    """However often it ended and was told to go on, and wherever a crash cut the ledger."""
    _, whole = fold_whole(trades)
    fold, lines, seen = SymbolFold(GRACE_NS), list[AnyLine](), IntervalSet()
    runs = runs_of(trades)
    for run in runs:
        new = bool(seen.missing(Interval(run.first_id, run.last_id)))
        was = ended_ns([*lines])
        lines += fold.trades(run)
        seen.add_interval(run.first_id, run.last_id)
        if new or was is None:
            assert ended_ns(lines) is None
        match data.draw(st.sampled_from(["", "", "ended", "resumed", "crash"])):
            case "ended":
                lines += fold.ended(run.received_ns)
                assert ended_ns(lines) is not None
                assert fold.ended(run.received_ns + 1) == [], "it is said once"
                assert account(lines).seen == seen, "all that came is above it"
            case "resumed":
                lines += fold.resumed(run.received_ns)
                assert ended_ns(lines) is None
            case "crash":
                ended = ended_ns(lines)
                again = SymbolFold(GRACE_NS)
                again.take_up(lines)
                for earlier in runs[: runs.index(run) + 1]:
                    lines += again.trades(earlier)
                fold = again
                assert ended is None or ended_ns(lines) == ended, "what is read again is nothing new"
            case _:
                pass
    lines += fold.flush()
    assert account(lines).seen == account(whole).seen
    assert account(lines).open_holes == account(whole).open_holes


def trade(id_: int, seconds: float) -> Run:
    ns = START_NS - 3000 * 10**9 + int(seconds * 10**9)
    return Run(id_, id_, id_ * 1000, id_ * 1000, ns)


def test_a_hole_has_times_and_the_cause_that_is_known() -> None:
    fold = SymbolFold(GRACE_NS)
    fold.subscribed("c-1")
    assert fold.trades(trade(1, 0)) == []
    fold.disconnected("c-1", trade(1, 1).received_ns)
    fold.disconnected("c-other", trade(1, 1).received_ns)
    assert fold.trades(trade(5, 2)) == []
    assert [len(h) for h in fold.missing()] == [3]
    assert fold.trades(trade(9, 3)) == []
    lines = fold.passed(trade(9, 7.5).received_ns)
    assert lines == [
        Hole(
            first_id=2,
            last_id=4,
            after_time_us=1000,
            before_time_us=5000,
            found_ns=trade(5, 2).received_ns,
            cause="disconnect",
        )
    ]
    [second] = fold.passed(trade(9, 8.5).received_ns)
    assert isinstance(second, Hole)
    assert (second.first_id, second.cause) == (6, "message_lost")


def test_what_the_collector_was_off_for_says_so() -> None:
    fold = SymbolFold(GRACE_NS)
    fold.trades(trade(1, 0))
    [seen] = fold.restarted(trade(1, 1).received_ns)
    assert isinstance(seen, Seen)
    fold.trades(trade(4, 2))
    hole, _ = fold.flush()
    assert isinstance(hole, Hole)
    assert hole.cause == "restart"


def test_what_comes_past_the_grace_is_an_outcome_of_the_hole() -> None:
    fold = SymbolFold(GRACE_NS)
    fold.trades(trade(1, 0))
    fold.trades(trade(4, 1))
    [hole] = fold.trades(trade(5, 7))
    assert isinstance(hole, Hole)
    fold.trades(trade(2, 8))
    outcome, *_ = fold.flush()
    assert outcome == Outcome(first_id=2, last_id=2, action="none", outcome="received_late")
    assert [(h.first, h.last) for h in fold.open_holes] == [(3, 3)]


@settings(max_examples=20)
@given(arrivals())
def test_the_state_survives_being_stored(trades: list[Arrival]) -> None:
    fold, _ = fold_whole(trades)
    assert SymbolFold(GRACE_NS, fold.state()).state() == fold.state()
