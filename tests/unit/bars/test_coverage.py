"""How far past the last trade a stream was watched."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.bars.coverage import ControlEvent, Receipt, reach, watched_us, watches, without_repeats
from crypto_lake.lake.control import Alive, CollectorStarted, Disconnected, Subscribed, Unsubscribed

STREAM = "btcusdt@trade"
S, US = 10**9, 10**6


def event(at: float, connection: str, what) -> ControlEvent:
    return ControlEvent(int(at * S), connection, what)


def alive(at: float, connection: str, exchange: float | None = None) -> ControlEvent:
    return event(at, connection, Alive(int((at if exchange is None else exchange) * US), 1))


def reached(events, *receipts: tuple[float, str]) -> int:
    return reach(
        watched_us(watches(events).get(STREAM, []), [Receipt(int(at * S), name) for at, name in receipts])
    )


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


def test_an_unsubscribed_stream_is_watched_no_longer() -> None:
    events = [
        event(0, "a", Subscribed((STREAM,))),
        alive(5, "a"),
        event(6, "a", Unsubscribed((STREAM,))),
        alive(9, "a"),
    ]
    assert reached(events, (3, "a")) == 3


spans = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), min_size=1, max_size=6)


@given(mine=spans, theirs=spans, clocks=st.tuples(st.integers(-500, 500), st.integers(-500, 500)))
def test_what_any_collector_watched_is_known_whatever_its_clock(
    mine: list[tuple[int, int]], theirs: list[tuple[int, int]], clocks: tuple[int, int]
) -> None:
    """Each span is a connection's: from when, and how long, by the exchange's clock. The first one brought the trade."""
    events: list[ControlEvent] = []
    for name, of_one, off in (("c-aa-1", mine, clocks[0]), ("c-bb-1", theirs, clocks[1])):
        for number, (start, length) in enumerate(of_one):
            connection = f"{name}-{number}"
            at = 1000 + start + off
            events.append(event(at, connection, Subscribed((STREAM,))))
            # A restart of one of them ends no watch of the other, nor one that goes on.
            events.append(event(at + length / 2, f"{name}-0", CollectorStarted(name, "1")))
            events.append(alive(at, connection, start))
            events.append(alive(at + length, connection, start + length))
    until = sum(mine[0])
    while wider := [s + n for s, n in [*mine, *theirs] if s <= until < s + n]:
        until = max(wider)
    assert reached(events, (1000 + mine[0][0] + clocks[0], "c-aa-1-0")) == max(0, until - 2)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ab"), st.sampled_from("SUDAAAAAA")), max_size=40)
)
def test_signs_of_life_in_between_change_nothing(drawn: list[tuple[int, str, str]]) -> None:
    made = {
        "S": Subscribed((STREAM,)),
        "U": Unsubscribed((STREAM,)),
        "D": Disconnected("x", "", 0, 0.0, 1),
    }
    events = [
        event(at + n / 100, f"c-1-{name}", made[kind]) if kind in made else alive(at + n / 100, f"c-1-{name}")
        for n, (at, name, kind) in enumerate(drawn)
    ]
    few = without_repeats(events)
    assert without_repeats(few) == few
    assert watches(few) == watches(events)
    ordered = sorted(events, key=lambda e: (e.received_ns, e.connection))
    assert [e for e in ordered if not isinstance(e.event, Alive)] == [
        e for e in few if not isinstance(e.event, Alive)
    ]
    for connection in ("c-1-a", "c-1-b"):
        last = [e for e in ordered if e.connection == connection][-1:]
        assert [e for e in few if e.connection == connection][-1:] == last


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
