"""Trades and control records, put together: what happened stands where it belongs, in whichever files it lay."""

from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.completeness.entries import AnyLine, Hole, Outcome, Seen
from crypto_lake.completeness.fold import SymbolFold
from crypto_lake.completeness.fold_state import FoldState, Run
from crypto_lake.completeness.happened import Happened, processes, sparse
from crypto_lake.completeness.raw_order import Piece, Source, turns
from crypto_lake.completeness.replay import Replay
from crypto_lake.completeness.watched import watched
from crypto_lake.lake import control
from crypto_lake.lake.layout import RawFile
from crypto_lake.model.clock import Hour

HOUR = Hour("2024-08-08", 13)
START_NS = HOUR.start_ns
STREAM, QUOTES = "btcusdt@trade", "btcusdt@bookTicker"
GRACE_NS = 5 * 10**9
STARTED = control.CollectorStarted("c", "0")
SUBSCRIBED = control.Subscribed((STREAM, QUOTES))
RESET = control.Disconnected("reset", "", 0, 1.0, 1)


def at(seconds: float, event: control.AnyEvent, connection: str = "collector") -> Happened:
    return Happened(START_NS + int(seconds * 10**9), connection, event)


def run(id_: int, seconds: float, process: str = "c-1-1") -> Run:
    ns = START_NS + int(seconds * 10**9)
    return Run(id_, id_, id_ * 1000, id_ * 1000, ns, process)


def holes(
    records: list[Happened], runs: list[Run], fold: SymbolFold | None = None
) -> list[tuple[int, int, str]]:
    fold = fold or SymbolFold(GRACE_NS)
    replay = Replay(fold, "BTCUSDT", STREAM, processes(records))
    lines: list[AnyLine] = [*replay.trades(runs), *replay.end(), *fold.flush()]
    return [(line.first_id, line.last_id, line.cause) for line in lines if isinstance(line, Hole)]


def test_each_cause_is_told_by_the_records() -> None:
    def cause(*between: Happened) -> str:
        records = [at(0, STARTED), at(0, SUBSCRIBED, "c-1-1-1"), *between]
        [(_, _, cause)] = holes(records, [run(1, 1), run(3, 9)])
        return cause

    lost = control.MessagesLost("BTCUSDT", STREAM, 1, "disk_full")
    assert cause() == "message_lost"
    assert cause(at(2, RESET, "c-1-1-1")) == "disconnect"
    assert cause(at(2, RESET, "c-1-1-2")) == "message_lost", "it carried nothing of the symbol"
    assert cause(at(2, control.Unsubscribed((STREAM,)), "c-1-1-1")) == "unsubscribed"
    assert cause(at(2, control.Unsubscribed((QUOTES,)), "c-1-1-1")) == "message_lost"
    assert cause(at(2, RESET, "c-1-1-1"), at(3, lost)) == "disk_full"
    assert cause(at(10, RESET, "c-1-1-1")) == "message_lost", "it came after the hole was over"
    assert cause(at(2, control.MessagesLost("ETHUSDT", "ethusdt@trade", 1, "disk_full"))) == "message_lost"


def test_a_process_is_told_by_the_names_of_its_connections() -> None:
    """The clock was set back while the collector was off: by the times alone, 3 would come before the start."""
    records = [
        at(0, STARTED),
        at(0, SUBSCRIBED, "c-1-1-1"),
        at(50, STARTED),
        at(50, SUBSCRIBED, "c-1-2-1"),
    ]
    assert holes(records, [run(1, 100), run(3, 60, "c-1-2")]) == [(2, 2, "restart")]


def test_a_process_without_a_record_of_its_start_is_one_all_the_same() -> None:
    records = [at(0, STARTED), at(0, SUBSCRIBED, "c-1-1-1")]
    assert holes(records, [run(1, 1), run(3, 2, "c-1-2")]) == [(2, 2, "restart")]
    assert holes([], [run(1, 1), run(3, 2)]) == [(2, 2, "message_lost")]


def test_its_own_grace_is_each_processes() -> None:
    short = control.CollectorStarted("c", "0", hole_grace_seconds=0.5)
    runs = [run(1, 1), run(3, 2), run(4, 3), run(2, 3.1)]
    assert holes([at(0, STARTED), at(0, SUBSCRIBED, "c-1-1-1")], runs) == []
    assert holes([at(0, short), at(0, SUBSCRIBED, "c-1-1-1")], runs) == [(2, 2, "message_lost")]


def test_a_start_that_is_known_is_not_one_again() -> None:
    fold = SymbolFold(GRACE_NS)
    fold.restarted(START_NS)
    fold.subscribed("c-1-1-1")
    fold.trades(run(1, 1))
    fold = SymbolFold(GRACE_NS, fold.state())
    records = [at(0, STARTED), at(0, SUBSCRIBED, "c-1-1-1"), at(2, RESET, "c-1-1-1")]
    assert holes(records, [run(3, 9)], fold) == [(2, 2, "disconnect")]


def test_a_hole_that_was_settled_is_not_found_anew() -> None:
    """A crash: the state is older than the ledger, and the raw is read once more."""
    fold = SymbolFold(GRACE_NS)
    for received in (run(1, 1), run(4, 2)):
        fold.trades(received)
    [hole] = fold.passed(START_NS + 20 * 10**9)
    healed = Outcome(first_id=2, last_id=3, action="archive", outcome="healed", file="x")
    assert fold.settle(healed) == [healed]
    assert fold.missing() == []
    again = SymbolFold(GRACE_NS, FoldState())
    again.take_up([hole, healed])
    assert holes([], [run(1, 1), run(4, 2)], again) == []


def test_many_events_of_one_cause_do_not_drive_out_another() -> None:
    fold = SymbolFold(GRACE_NS)
    fold.trades(run(1, 1))
    fold.messages_lost(START_NS + 2 * 10**9, "disk_full")
    for n in range(500):
        fold.subscribed("c-1")
        fold.disconnected("c-1", START_NS + 3 * 10**9 + n)
    fold.trades(run(3, 9))
    [hole, *_] = fold.flush()
    assert isinstance(hole, Hole)
    assert hole.cause == "disk_full"
    assert len(fold.state().events) < 100


def test_signs_of_life_in_a_row_are_one_and_the_last() -> None:
    alive = control.Alive(1, 1)
    records = [at(n, alive, "c-1") for n in range(5)] + [at(5, RESET, "c-1")]
    assert [happened.received_ns for happened in sparse(records)] == [START_NS + n * 10**9 for n in (0, 4, 5)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_pieces_come_in_the_order_of_their_numbers(hours: list[int]) -> None:
    """Parts of several hours, as the clock went back and forth between them: each hour's file holds its own."""
    by_hour: dict[int, list[int]] = {}
    for number, hour in enumerate(hours):
        by_hour.setdefault(hour, []).append(number)
    sources = [
        Source(
            RawFile(Hour("2024-08-08", hour), "hour", 1, Path(str(hour))),
            tuple(Piece(number, math.inf) for number in numbers),
        )
        for hour, numbers in sorted(by_hour.items())
    ]
    assert [piece.number for _, piece in turns(sources)] == list(range(len(hours)))


def test_quotes_are_watched_while_a_connection_carries_them() -> None:
    records = [
        at(0, STARTED),
        at(10, SUBSCRIBED, "c-1-1-1"),
        at(50, SUBSCRIBED, "c-1-1-2"),  # takes over
        at(60, RESET, "c-1-1-1"),
        at(80, control.Unsubscribed((QUOTES,)), "c-1-1-2"),
        at(90, SUBSCRIBED, "c-1-1-3"),
        at(95, control.Alive(1, 1), "c-1-1-3"),  # then it is killed
        at(200, STARTED),
    ]
    span = START_NS, START_NS + 100 * 10**9
    told = watched(QUOTES, processes(records), *span)
    assert (told.watched_seconds, told.of_seconds, told.breaks) == (75.0, 100.0, 1)


def test_what_is_seen_names_the_hour_of_receipt() -> None:
    fold = SymbolFold(GRACE_NS)
    replay = Replay(fold, "BTCUSDT", STREAM, [])
    lines = [*replay.trades([run(1, 1), run(2, 3601)]), *replay.end(), *fold.flush()]
    assert [line.hour for line in lines if isinstance(line, Seen)] == ["2024-08-08T13", "2024-08-08T14"]
