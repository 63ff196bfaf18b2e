"""Bandwidth and patience: pure rules over any sequence."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.store import Limiter, StoreSettings, Unavailable
from crypto_lake.store.limiter import full_bucket, take
from crypto_lake.store.patience import Patience, wait_seconds

takes = st.lists(st.tuples(st.floats(-1, 10), st.integers(0, 10**7)), max_size=50)


@given(st.floats(1, 1e9), st.floats(0, 1e7), takes)
def test_never_more_passes_than_the_rate_and_the_burst_allow(
    rate: float, burst: float, steps: list[tuple[float, int]]
) -> None:
    """What is let through up to a moment is at most the burst and the rate's worth, but for the take under way."""
    now = 100.0
    latest = now
    bucket = full_bucket(rate, burst, now)
    passed = 0
    for wait, amount in steps:
        now += wait
        latest = max(latest, now)
        bucket, told = take(bucket, amount, now)
        passed += amount
        assert told >= 0
        allowed = burst + (latest - 100.0 + told) * rate
        assert passed <= allowed * (1 + 1e-9) + 1e-3 * rate * 1e-6 + 1


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30))
def test_a_limit_that_is_not_reached_costs_nothing(amounts: list[int]) -> None:
    bucket = full_bucket(1e6, 1e6, 0.0)
    for n, amount in enumerate(amounts):
        bucket, told = take(bucket, amount, float(n + 1))
        assert told == 0


def test_threads_share_a_limit() -> None:
    slept: list[float] = []
    limiter = Limiter(1000, clock=lambda: 0.0, sleep=slept.append)
    threads = [threading.Thread(target=lambda: [limiter.take(100) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(slept) == pytest.approx((4 * 50 * 100 - 250) / 1000)


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_limit_is_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Limiter(rate)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_waits_grow_to_the_longest(attempt: int, chance: float) -> None:
    wait = wait_seconds(attempt, 0.5, 20, chance)
    assert min(20, 0.5 * 2 ** min(attempt - 1, 60)) / 2 <= wait <= 20


@given(st.lists(st.floats(0, 50), max_size=200), st.sets(st.integers(0, 200)))
def test_patience_ends_a_deadline_after_the_last_progress(works: list[float], progress: set[int]) -> None:
    settings = StoreSettings(deadline_seconds=100)
    now = [0.0]
    since = 0.0

    def sleep(seconds: float) -> None:
        now[0] += seconds

    patience = Patience(settings, "gs://b/o", clock=lambda: now[0], sleep=sleep, chance=lambda: 0.5)
    for n, work in enumerate(works):
        now[0] += work
        if n in progress:
            patience.progressed()
            since = now[0]
        ended = False
        try:
            patience.pause("HTTP 503")
        except Unavailable:
            ended = True
        if ended:
            assert now[0] + settings.longest_wait_seconds - since > 100
            break
        assert now[0] - since <= 100
