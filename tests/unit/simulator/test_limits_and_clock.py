"""Limits and the clock, on times that the test makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.simulator.clock import Phase, SimulatorClock
from crypto_lake.simulator.limits import SlidingRate, WeightWindow
from crypto_lake.simulator.messages import frame


@given(st.lists(st.integers(0, 5_000), max_size=60), st.integers(1, 6))
def test_a_rate_allows_what_fits_into_each_window(moments: list[int], limit: int) -> None:
    rate = SlidingRate(limit, 1.0)
    moments.sort()
    for i, moment in enumerate(moments):
        within = sum(1 for m in moments[: i + 1] if m > moment - 1024)
        assert rate.allow(moment / 1024) == (within <= limit)


@given(st.lists(st.sampled_from([1, 2, 4, 20, 25]), min_size=1, max_size=80))
def test_weight_is_used_up_to_the_limit_then_refused_then_banned(weights: list[int]) -> None:
    window = WeightWindow(200, ban_after=2, ban_seconds=90)
    used = refused = 0
    banned = False
    for weight in weights:
        verdict = window.charge(weight, 600.0)
        if banned:
            assert verdict.status == 418
        elif used + weight <= 200:
            used += weight
            assert verdict.status == 200
        else:
            refused += 1
            banned = refused > 2
            assert verdict.status == (418 if banned else 429)
        assert verdict.used_weight == used <= 200
        assert (verdict.retry_after_seconds > 0) == (verdict.status != 200)


def test_who_waits_as_told_is_served_again() -> None:
    window = WeightWindow(10, ban_after=1, ban_seconds=90)
    assert window.charge(10, 30.0).status == 200
    refused = window.charge(1, 30.0)
    assert refused.status == 429
    assert window.charge(1, 30.0 + refused.retry_after_seconds).status == 200
    assert window.charge(10, 91.0).status == 429
    banned = window.charge(10, 91.0)
    assert banned.status == 418
    assert window.charge(1, 150.0).status == 418
    assert window.charge(1, 91.0 + banned.retry_after_seconds).status == 200


class Times:
    monotonic_ns = 5_000
    wall_ns = 7_000


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_a_clock_with_a_speed_stands_then_runs_then_runs_on(speed: float) -> None:
    times = Times()
    clock = SimulatorClock(10**15, speed, lambda: times.monotonic_ns, lambda: times.wall_ns)
    times.monotonic_ns += 10**9
    assert (clock.phase, clock.now_us(), clock.setting().speed) == (Phase.WAITING, 10**15, 0.0)
    clock.start()
    times.monotonic_ns += 2 * 10**9
    times.wall_ns += 3 * 10**9
    expected = 10**15 + int(2_000_000 * speed)
    assert clock.now_us() == expected
    setting = clock.setting()
    assert (setting.speed, setting.exchange_ns) == (speed, expected * 1000)
    assert setting.at(times.wall_ns + 10**9) == expected * 1000 + int(10**9 * speed)
    clock.start()  # changes nothing
    clock.finish()
    times.monotonic_ns += 10**9
    assert clock.now_us() == expected + int(1_000_000 * speed)


def test_a_clock_without_a_speed_is_that_of_the_last_message() -> None:
    clock = SimulatorClock(100, 0)
    clock.start()
    assert clock.now_us() == 100
    clock.told(250)
    clock.told(200)
    assert (clock.now_us(), clock.setting().exchange_ns, clock.setting().speed) == (250, 250_000, 0)


@pytest.mark.parametrize("speed", [-1, float("inf"), float("nan")])
def test_speeds_that_are_none_are_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed is"):
        SimulatorClock(0, speed)


@given(st.binary(max_size=300) | st.sampled_from([b"x" * n for n in (125, 126, 65535, 65536)]))
def test_frames_are_what_a_websocket_client_reads(payload: bytes) -> None:
    from websockets.frames import Frame, Opcode

    assert frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
    assert frame(payload, binary=True) == Frame(Opcode.BINARY, payload).serialize(mask=False)
