"""How far past the last trade a stream was watched."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.bars.coverage import ControlEvent, Receipt, reach, watches
from crypto_lake.lake.control import Alive, CollectorStarted, Disconnected, Subscribed, Unsubscribed

STREAM = "btcusdt@trade"
S, US = 10**9, 10**6


def event(at: float, connection: str, what) -> ControlEvent:
    return ControlEvent(int(at * S), connection, what)


def alive(at: float, connection: str, exchange: float | None = None) -> ControlEvent:
    return event(at, connection, Alive(int((at if exchange is None else exchange) * US), 1))


def reached(events, *receipts: tuple[float, str]) -> int:
    return reach(watches(events).get(STREAM, []), [Receipt(int(at * S), name) for at, name in receipts])


def test_a_live_connection_carries_as_far_as_the_exchanges_clock_less_two_seconds() -> None:
    events = [event(0, "a", Subscribed((STREAM,))), alive(5, "a"), alive(10, "a", 11.5)]
    assert reached(events, (3, "a")) == 9


def test_nothing_is_known_of_a_connection_without_events_or_of_another_stream() -> None:
    assert reached([], (3, "a")) == 0
    assert reached([event(0, "a", Subscribed(("ethusdt@trade",))), alive(9, "a")], (3, "a")) == 0


def test_a_hand_over_goes_on_and_a_break_does_not() -> None:
    over = [
        event(0, "a", Subscribed((STREAM,))),
        event(8, "b", Subscribed((STREAM,))),
        event(10, "a", Disconnected("handover", "", 10 * US, 10.0, 1)),
        alive(20, "b"),
    ]
    assert reached(over, (3, "a")) == 18
    broken = [item if item.received_ns != 8 * S else event(11, "b", Subscribed((STREAM,))) for item in over]
    assert reached(broken, (3, "a")) == 8


def test_an_unsubscribed_stream_and_a_collector_that_was_killed_end_it() -> None:
    assert (
        reached(
            [
                event(0, "a", Subscribed((STREAM,))),
                alive(5, "a"),
                event(6, "a", Unsubscribed((STREAM,))),
                alive(9, "a"),
            ],
            (3, "a"),
        )
        == 3
    )
    assert (
        reached(
            [
                event(0, "a", Subscribed((STREAM,))),
                alive(5, "a"),
                event(7, "", CollectorStarted("x", "1")),
                alive(9, "a"),
            ],
            (3, "a"),
        )
        == 3
    )


@given(st.permutations(list(range(6))))
def test_the_order_of_events_does_not_matter(order: list[int]) -> None:
    events = [
        event(0, "a", Subscribed((STREAM,))),
        alive(5, "a"),
        event(6, "b", Subscribed((STREAM,))),
        event(7, "a", Disconnected("x", "", 7 * US, 7.0, 1)),
        alive(9, "b"),
        alive(12, "b"),
    ]
    assert reached([events[n] for n in order], (3, "a"), (3.2, "b")) == 10
