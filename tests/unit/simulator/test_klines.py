"""The simulator's klines against the definition, said once more and slowly in Decimal."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.generator import SimulatedTrade
from crypto_lake.simulator.klines import INTERVALS_US, Kline, fill, fold, merge

UNIT = Decimal("0.00000001")
START_US = 1_723_161_254_123_456

trade_lists = st.lists(
    st.tuples(st.integers(0, 3_000_000), st.integers(1, 10**13), st.integers(1, 10**17), st.booleans()),
    max_size=40,
).map(
    lambda rows: [
        SimulatedTrade(1000 + i, time, time, price, size, maker)
        for i, (time, price, size, maker) in enumerate(sorted(rows, key=lambda row: row[0]))
    ]
)


def by_definition(open_us: int, trades: list[SimulatedTrade]) -> Kline:
    prices = [Decimal(t.price_e8) * UNIT for t in trades]
    sizes = [Decimal(t.size_e8) * UNIT for t in trades]
    quotes = [(price * size).quantize(UNIT, ROUND_DOWN) for price, size in zip(prices, sizes, strict=True)]
    taker = [not t.buyer_is_maker for t in trades]

    def e8(value: Decimal | int) -> int:
        return int(value / UNIT)

    return Kline(
        open_us,
        e8(prices[0]),
        e8(max(prices)),
        e8(min(prices)),
        e8(prices[-1]),
        e8(sum(sizes)),
        e8(sum(quotes)),
        len(trades),
        e8(sum(s for s, t in zip(sizes, taker, strict=True) if t)),
        e8(sum(q for q, t in zip(quotes, taker, strict=True) if t)),
        trades[0].id,
        trades[-1].id,
    )


@given(trade_lists)
def test_a_bar_is_what_the_exchange_defines(trades: list[SimulatedTrade]) -> None:
    import decimal

    with decimal.localcontext(prec=80):
        expected = []
        for open_us in sorted({t.time_us // 1_000_000 * 1_000_000 for t in trades}):
            within = [t for t in trades if open_us <= t.time_us < open_us + 1_000_000]
            expected.append(by_definition(open_us, within))
        assert list(fold(trades, 1_000_000)) == expected


@given(trade_lists)
def test_merged_bars_equal_bars_of_the_trades(trades: list[SimulatedTrade]) -> None:
    assert list(merge(fold(trades, 500_000), 1_500_000)) == list(fold(trades, 1_500_000))


@given(trade_lists, st.integers(0, 10**13))
def test_filling_leaves_no_hole_and_invents_no_trade(trades: list[SimulatedTrade], close: int) -> None:
    traded = list(fold(trades, 100_000))
    filled = list(fill(traded, 100_000, 0, 3_100_000, close))
    assert [k for k in filled if k.trade_count] == traded
    for before, after in pairwise(filled):
        assert after.open_us == before.open_us + 100_000
    previous = close
    for kline in filled:
        if not kline.trade_count:
            assert kline == Kline(kline.open_us, *[previous] * 4, 0, 0, 0, 0, 0, -1, -1)
        previous = kline.close_e8
    if close:
        assert len(filled) == 31
    elif traded:
        assert filled[0] == traded[0]  # nothing before the first trade
    else:
        assert filled == []


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1000),
    interval=st.sampled_from(["1s", "1m", "3m", "5m", "15m"]),
    start=st.integers(-120, 500),
    length=st.integers(0, 900),
    now=st.integers(0, 700),
)
def test_a_markets_bars_are_those_of_its_trades_up_to_now(
    seed: int, interval: str, start: int, length: int, now: int
) -> None:
    market = GeneratedMarket(seed, ["DOTUSDT"], start_us=START_US, activity=0.5)
    start_us, until_us = START_US + start * 1_000_000, START_US + now * 1_000_000 + seed
    end_us = start_us + length * 1_000_000
    found = market.klines("DOTUSDT", interval, start_us, end_us, until_us)
    trades = market.trades("DOTUSDT", 0, 2**62, until_us)
    whole = {k.open_us: k for k in fold(trades, INTERVALS_US[interval])}
    for kline in found:
        assert start_us <= kline.open_us < min(end_us, until_us)
        if kline.trade_count:
            assert kline == whole.pop(kline.open_us)
        else:
            assert kline.open_us not in whole
    assert not [us for us in whole if start_us <= us < end_us]
    if trades and found:
        assert found[0].open_us >= trades[0].time_us // INTERVALS_US[interval] * INTERVALS_US[interval]


def test_an_unknown_interval_is_refused() -> None:
    market = GeneratedMarket(1, ["BTCUSDT"], start_us=START_US)
    with pytest.raises(KeyError):
        market.klines("BTCUSDT", "7s", START_US, START_US + 1)
