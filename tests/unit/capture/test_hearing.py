"""What a look notes of a stream: whether something new came since the one before."""

from __future__ import annotations

from crypto_lake.capture.hearing import Hearing
from crypto_lake.capture.routes import Buffer, Route
from crypto_lake.exchanges import BINANCE
from crypto_lake.exchanges.base import BestQuote
from crypto_lake.model.market import Stream
from crypto_lake.simulator.klines import Kline
from crypto_lake.simulator.messages import COMBINED, KlineMessage


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


def test_what_a_stream_told_last_goes_by_its_kind() -> None:
    present, hearing = BINANCE.present, Hearing()
    trades = Route("btcusdt@trade", Stream.TRADE, Buffer("BTCUSDT"))
    trades.greatest_id, trades.last_message = 7, b"a copy"
    assert hearing.newest(trades, present) == (7, None)
    quotes = Route("btcusdt@bookTicker", Stream.BOOK_TICKER, Buffer("BTCUSDT"))
    assert hearing.newest(quotes, present) == (0, None)
    quotes.last_message = b'{"data":{"b":"1","B":"2","a":"3","A":"4"}}'
    assert hearing.newest(quotes, present) == (0, BestQuote(10**8, 2 * 10**8, 3 * 10**8, 4 * 10**8))


def test_klines_tell_the_greatest_trade_id_that_one_of_them_named() -> None:
    route, hearing = Route("btcusdt@kline_1s", Stream.KLINE, Buffer("BTCUSDT")), Hearing()
    assert hearing.newest(route, BINANCE.present) == (0, None)
    told: list[int] = []
    for at, last_id in enumerate((-1, 50, -1, 48, 60)):
        kline = Kline(at * 10**6, *[10**8] * 6, 1, 1, 1, last_id, last_id)
        message = KlineMessage(at * 10**6, "BTCUSDT", route.name, "1s", 10**6, kline, closed=True)
        route.last_message, route.messages = message.payload(COMBINED), at + 1
        hearing.look(route, float(at))
        told.append(hearing.newest(route, BINANCE.present)[0])
    assert told == [0, 50, 50, 50, 60]
    # Each says something new, also of a second in which nothing was traded.
    assert (hearing.fresh, hearing.repeats, hearing.mean_pause) == (5, 0, 1.0)
    assert hearing.behind is None
