"""A generated market: the same for the same seed, and shaped like the exchange's."""

from __future__ import annotations

from itertools import pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.exchanges import BINANCE
from crypto_lake.model.market import Stream
from crypto_lake.model.symbols import DEFAULT_SYMBOLS, InvalidSymbolError
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.history import UnknownSymbolError
from crypto_lake.simulator.messages import COMBINED, MICROSECONDS, Message
from crypto_lake.simulator.profiles import profile_of

START_US = 1_723_161_254_123_456
MINUTE_US = 60_000_000

seeds = st.integers(0, 2**32)
symbols = st.sampled_from([*DEFAULT_SYMBOLS, "这是测试币456", "NEWCOINUSDT"])
few = settings(max_examples=15, deadline=None)


def market(seed: int, *names: str, activity: float = 0.2, start_us: int = START_US) -> GeneratedMarket:
    return GeneratedMarket(seed, names, start_us=start_us, activity=activity)


def played(of: GeneratedMarket, until_us: int) -> list[Message]:
    messages: list[Message] = []
    for batch in of.messages():
        messages += batch
        if messages and messages[-1].pace_us >= until_us:
            return [message for message in messages if message.pace_us < until_us]
    raise AssertionError("a generated market ended")


@few
@given(seeds, symbols)
def test_ids_are_contiguous_and_times_never_go_back(seed: int, symbol: str) -> None:
    trades = list(market(seed, symbol).trades_between(symbol, 0, START_US + 3 * MINUTE_US))
    assert trades
    assert trades[0].id == profile_of(symbol).first_id
    for before, after in pairwise(trades):
        assert after.id == before.id + 1
        assert after.time_us >= before.time_us
        assert after.event_us >= before.event_us
    profile = profile_of(symbol)
    for trade in trades:
        assert START_US <= trade.time_us <= trade.event_us
        assert trade.price_e8 > 0
        assert trade.size_e8 > 0
        assert trade.price_e8 % profile.tick_e8 == 0
        assert trade.size_e8 % profile.step_e8 == 0


@few
@given(seeds, symbols)
def test_quotes_are_never_crossed_never_repeat_and_count_up(seed: int, symbol: str) -> None:
    messages = played(market(seed, symbol), START_US + MINUTE_US)
    quotes = [m.quote for m in messages if m.stream.endswith("@bookTicker")]  # pyright: ignore
    assert quotes
    for quote in quotes:
        assert 0 < quote.bid_e8 < quote.ask_e8
        assert quote.bid_size_e8 > 0
        assert quote.ask_size_e8 > 0
    for before, after in pairwise(quotes):
        assert after.update_id > before.update_id
        assert after[2:] != before[2:]


@few
@given(seeds, st.lists(symbols, min_size=2, max_size=4, unique=True))
def test_a_symbols_market_does_not_depend_on_the_others(seed: int, names: list[str]) -> None:
    alone = [m.payload(COMBINED) for m in played(market(seed, names[0]), START_US + MINUTE_US // 2)]
    among = [
        m.payload(COMBINED)
        for m in played(market(seed, *reversed(names)), START_US + MINUTE_US // 2)
        if m.symbol == names[0]
    ]
    assert alone == among


@few
@given(seeds)
def test_what_is_asked_first_changes_nothing(seed: int) -> None:
    """Blocks are thrown away and made again; each way of asking gives the same trades."""
    symbol, end_us = "ETHUSDT", START_US + 8 * MINUTE_US
    asked_late = market(seed, symbol)
    late = list(asked_late.trades_between(symbol, end_us - MINUTE_US, end_us))
    again = list(asked_late.trades_between(symbol, START_US, START_US + MINUTE_US))
    asked_early = market(seed, symbol)
    assert again == list(asked_early.trades_between(symbol, START_US, START_US + MINUTE_US))
    assert late == list(asked_early.trades_between(symbol, end_us - MINUTE_US, end_us))
    assert late == asked_late.trades(symbol, late[0].id, late[-1].id)


def test_another_seed_is_another_market() -> None:
    first, second = (
        [m.payload(0) for m in played(market(seed, "BTCUSDT"), START_US + MINUTE_US // 6)] for seed in (1, 2)
    )
    assert first != second


def test_messages_come_in_order_and_each_says_what_the_collector_reads() -> None:
    of = GeneratedMarket(5, start_us=START_US)
    messages = played(of, START_US + 12_000_000)
    assert {m.symbol for m in messages} == set(DEFAULT_SYMBOLS)
    for before, after in pairwise(messages):
        assert after.pace_us >= before.pace_us
    seen: dict[str, list[int]] = {}
    for message in messages:
        for variant, unit in ((COMBINED, 1000), (COMBINED | MICROSECONDS, 1)):
            head = BINANCE.head(message.payload(variant))
            assert head.stream == message.stream
            assert head.trade_id == message.trade_id
            if message.trade_id >= 0:
                assert head.event_time_us == message.pace_us // unit * unit
                assert 0 < head.trade_time_us <= head.event_time_us
        if message.trade_id >= 0:
            seen.setdefault(message.symbol, []).append(message.trade_id)
    for symbol, ids in seen.items():
        assert ids == list(range(of.first_id(symbol), of.first_id(symbol) + len(ids)))
        assert message.symbol in DEFAULT_SYMBOLS
        assert BINANCE.stream_name(symbol, Stream.TRADE) in {m.stream for m in messages}


def test_the_market_has_bursts_quiet_minutes_and_shared_microseconds() -> None:
    of = GeneratedMarket(5, start_us=START_US - START_US % MINUTE_US)
    end_us = of.start_us + 20 * MINUTE_US
    quiet = of.klines("DOTUSDT", "1m", of.start_us, end_us)
    assert any(kline.trade_count == 0 for kline in quiet)
    assert any(kline.trade_count > 0 for kline in quiet)
    busy = [k.trade_count for k in of.klines("BTCUSDT", "1s", of.start_us, of.start_us + 5 * MINUTE_US)]
    assert max(busy) > 5 * sorted(busy)[len(busy) // 2]
    trades = list(of.trades_between("BTCUSDT", of.start_us, of.start_us + MINUTE_US))
    assert sum(a.time_us == b.time_us for a, b in pairwise(trades)) > len(trades) // 10


@few
@given(seeds, symbols, st.integers(1, 3 * MINUTE_US))
def test_nothing_is_told_before_it_happened(seed: int, symbol: str, elapsed_us: int) -> None:
    of = market(seed, symbol)
    until_us = START_US + elapsed_us
    known = list(of.trades_between(symbol, 0, START_US + 3 * MINUTE_US))
    happened = list(takewhile(lambda trade: trade.time_us < until_us, known))
    newest = of.newest_id(symbol, until_us)
    assert newest == (happened[-1].id if happened else None)
    assert of.trades(symbol, 0, 2**62, until_us) == happened


@few
@given(seeds, symbols, st.integers(1, 2 * MINUTE_US))
def test_aggregates_cover_the_trades_once_and_keep_their_numbers(
    seed: int, symbol: str, elapsed_us: int
) -> None:
    of = market(seed, symbol)
    until_us = START_US + elapsed_us
    trades = of.trades(symbol, 0, 2**62, until_us)
    found = list(of.aggregates(symbol, 0, until_us))
    assert [a.id for a in found] == [found[0].id + i for i in range(len(found))] if found else not trades
    covered = [id_ for a in found for id_ in range(a.first_id, a.last_id + 1)]
    assert covered == [trade.id for trade in trades]
    assert sum(a.size_e8 for a in found) == sum(trade.size_e8 for trade in trades)
    assert of.newest_aggregate_id(symbol, until_us) == (found[-1].id if found else None)
    if len(found) > 3:
        middle = found[len(found) // 2]
        assert list(of.aggregates(symbol, middle.id, until_us)) == found[len(found) // 2 :]
        same = [a for a in found if a.time_us >= middle.time_us]
        assert list(of.aggregates_between(symbol, middle.time_us, until_us)) == same


def test_bad_markets_are_refused_with_a_reason() -> None:
    for activity in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"activity is {activity}"):
            GeneratedMarket(1, ["BTCUSDT"], start_us=START_US, activity=activity)
    with pytest.raises(ValueError, match="at least one symbol"):
        GeneratedMarket(1, [], start_us=START_US)
    with pytest.raises(InvalidSymbolError, match="upper case"):
        GeneratedMarket(1, ["btcusdt"], start_us=START_US)
    with pytest.raises(UnknownSymbolError, match="'ETHUSDT' is not in this market"):
        market(1, "BTCUSDT").first_id("ETHUSDT")
