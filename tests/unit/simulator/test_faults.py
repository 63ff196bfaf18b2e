"""Faults between the market and its listeners: what they let through, and what they say they did."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.simulator.faults import Duplicate, Late, Mix, Reorder, StreamFaults, Swallow
from crypto_lake.simulator.generator import SimulatedTrade
from crypto_lake.simulator.messages import COMBINED, TradeMessage

STREAM = "btcusdt@trade"
OTHER = "ethusdt@trade"


def message(id_: int, stream: str = STREAM) -> TradeMessage:
    time_us = 1_700_000_000_000_000 + id_ * 1000
    symbol = stream.partition("@")[0].upper()
    return TradeMessage(symbol, stream, SimulatedTrade(id_, time_us, time_us, 10**8, 10**8, True))


def passed(faults: StreamFaults, count: int, stream: str = STREAM, first: int = 0) -> list[int]:
    return [
        delivery.message.trade_id
        for id_ in range(first, first + count)
        for delivery in faults.apply(message(id_, stream), ["c1", "c2"])
    ]


@given(st.integers(1, 20), st.integers(0, 30))
def test_swallowed_messages_are_named(n: int, count: int) -> None:
    faults = StreamFaults()
    faults.add(Swallow(STREAM, n))
    assert passed(faults, count, OTHER) == list(range(count))
    assert passed(faults, count) == list(range(min(n, count), count))
    gone = min(n, count)
    assert faults.log.fired["swallow"] == gone
    ids = [(0, gone - 1)]
    if gone:
        assert faults.log.withheld["swallow"].report() == {
            "messages": gone,
            "withheld": {"BTCUSDT": ids},
            "by_connection": {"c1": {"BTCUSDT": ids}, "c2": {"BTCUSDT": ids}},
        }
    assert bool(faults.rules) == (n > count)


def test_swallowing_from_one_connection_leaves_the_others_theirs() -> None:
    faults = StreamFaults()
    faults.add(Swallow(STREAM, 1, "c2"))
    (delivery,) = faults.apply(message(7), ["c1", "c2"])
    assert delivery.except_for == {"c2"}
    report = faults.log.withheld["swallow"].report()
    assert report["withheld"] == {}
    assert report["by_connection"] == {"c2": {"BTCUSDT": [(7, 7)]}}
    assert faults.log.fired["swallow"] == 1


def test_swallowing_waits_for_its_connection_to_subscribe() -> None:
    faults = StreamFaults()
    faults.add(Swallow(STREAM, 1, "c9"))
    assert passed(faults, 3) == [0, 1, 2]
    assert faults.log.fired["swallow"] == 0


@given(st.integers(1, 20), st.integers(0, 30))
def test_duplicates_come_twice(n: int, count: int) -> None:
    faults = StreamFaults()
    faults.add(Duplicate(STREAM, n))
    twice = min(n, count)
    assert passed(faults, count) == [i for i in range(twice) for _ in (0, 1)] + list(range(twice, count))
    assert faults.log.fired["duplicate"] == twice


@given(st.integers(1, 4), st.integers(2, 6), st.integers(0, 40))
def test_windows_are_turned_round_and_nothing_is_lost(n: int, window: int, count: int) -> None:
    faults = StreamFaults()
    faults.add(Reorder(STREAM, n, window))
    found = passed(faults, count)
    whole = min(n, count // window)
    for i in range(whole):
        assert found[i * window : (i + 1) * window] == list(reversed(range(i * window, (i + 1) * window)))
    assert faults.log.fired["reorder"] == whole
    held = [delivery.message.trade_id for delivery in faults.clear()]
    assert sorted(found + held) == list(range(count))
    assert passed(faults, 2, first=count) == [count, count + 1]


@given(st.integers(0, 1000), st.integers(0, 60), st.integers(1, 60))
def test_a_mix_loses_nothing_and_counts_what_it_did(seed: int, count: int, n: int) -> None:
    faults = StreamFaults()
    faults.add(Mix("*", n, seed, duplicate=0.3, reorder=0.3))
    found = passed(faults, count) + passed(faults, count, OTHER, first=1000)
    found += [delivery.message.trade_id for delivery in faults.clear()]
    assert set(found) == {*range(count), *range(1000, 1000 + count)}
    assert len(found) == 2 * count + faults.log.fired["duplicate"]


def test_late_trades_keep_their_time_and_are_told_when_due() -> None:
    faults = StreamFaults()
    faults.add(Late(STREAM, 1, 2_000_000))
    assert passed(faults, 2) == [1]
    due_us = message(0).pace_us + 2_000_000
    assert faults.log.next_due_us == due_us
    assert list(faults.log.due(due_us - 1)) == []
    assert faults.log.fired["late"] == 0
    (delivery,) = faults.log.due(due_us)
    assert delivery.message.pace_us == due_us
    assert b'"E":%d' % (due_us // 1000) in delivery.message.payload(COMBINED)
    assert b'"T":%d' % (message(0).pace_us // 1000) in delivery.message.payload(COMBINED)
    assert faults.log.fired["late"] == 1
    assert faults.log.next_due_us is None
