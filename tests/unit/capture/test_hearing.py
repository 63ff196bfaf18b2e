"""What a look notes of a stream: whether something new came since the one before."""

from __future__ import annotations

from crypto_lake.capture.liveness import Hearing
from crypto_lake.capture.routes import Buffer, Route
from crypto_lake.model.market import Stream


def test_a_greater_id_is_new_and_what_two_connections_bring_twice_is_no_repetition() -> None:
    route, hearing = Route("btcusdt@trade", Stream.TRADE, Buffer("BTCUSDT")), Hearing()
    hearing.look(route, 99.0)
    assert (hearing.fresh_at, hearing.mean_pause) == (None, None)
    for id_, messages, now in ((5, 1, 100.0), (6, 2, 101.0), (8, 4, 106.0)):
        route.greatest_id, route.messages = id_, messages
        hearing.look(route, now)
    assert (hearing.greatest_id, hearing.fresh, hearing.fresh_at) == (8, 4, 106.0)
    assert hearing.mean_pause == 2.0
    # The other connection is a second behind.
    route.messages = 7
    hearing.look(route, 107.0)
    assert hearing.repeats == 0
    for now in (109.0, 110.0, 111.0):
        route.messages += 1
        hearing.look(route, now)
    assert (hearing.repeats, hearing.fresh_at) == (3, 106.0)
    hearing.look(route, 112.0)
    assert hearing.repeats == 3
    route.greatest_id, route.lost_messages = 9, 1  # it was let go by a full disk, and came all the same
    hearing.look(route, 113.0)
    assert (hearing.repeats, hearing.fresh_at) == (0, 113.0)


def test_of_a_stream_without_ids_another_message_is_new() -> None:
    route, hearing = Route("btcusdt@bookTicker", Stream.BOOK_TICKER, Buffer("BTCUSDT")), Hearing()
    for message, now in ((b"one", 10.0), (b"two", 11.0), (b"two", 20.0)):
        route.last_message = message
        route.messages += 1
        hearing.look(route, now)
    assert (hearing.fresh, hearing.fresh_at, hearing.repeats) == (2, 11.0, 1)


def test_a_trade_is_as_old_as_it_was_when_it_came() -> None:
    route, hearing = Route("btcusdt@trade", Stream.TRADE, Buffer("BTCUSDT")), Hearing()
    route.greatest_id, route.greatest_time_us, route.messages = 7, 40_000_000, 1
    hearing.look(route, 1.0, 42_000_000)
    assert hearing.behind == 2.0
    # Nothing came since: the market is quiet, the stream is not behind.
    hearing.look(route, 90.0, 131_000_000)
    assert hearing.behind == 2.0
