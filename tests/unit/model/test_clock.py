from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.model.clock import ClockSetting, ExchangeClock, Hour

NS = st.integers(10**18, 4 * 10**18)


@given(NS)
def test_every_moment_lies_in_its_hour(ns: int) -> None:
    hour = Hour.of_ns(ns)
    assert hour.start_ns <= ns < hour.end_ns == hour.start_ns + 3600 * 10**9
    assert hour.previous() < hour < hour.next()
    assert hour.next().previous() == hour


def test_an_exchange_clock_runs_at_its_speed_and_never_back() -> None:
    wall = time.time_ns()
    clock = ExchangeClock(ClockSetting(exchange_ns=10**18, wall_ns=wall, speed=1000.0))
    first = clock.now_ns()
    assert first >= 10**18
    clock.observe(first + 10**15)
    assert clock.now_ns() >= first + 10**15
    clock.observe(first)
    assert clock.now_ns() >= first + 10**15


def test_a_clock_without_speed_stands_until_a_message_moves_it() -> None:
    clock = ExchangeClock(ClockSetting(exchange_ns=10**18, wall_ns=time.time_ns(), speed=0.0))
    assert clock.now_ns() == 10**18
    clock.observe(10**18 + 7)
    assert clock.now_ns() == 10**18 + 7
