"""Backoff, the budget of attempts and the pace of messages, by their properties."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.capture.backoff import AttemptBudget, Backoff, MessagePace, cool_down_seconds
from crypto_lake.capture.outcome import Ending, Outcome, Reason

seconds = st.floats(0, 10_000, allow_nan=False)


@given(st.integers(1, 100_000), st.integers())
def test_a_delay_lies_under_its_ceiling_and_the_ceiling_never_falls(failures: int, seed: int) -> None:
    backoff = Backoff(base_seconds=0.5, ceiling_seconds=60.0)
    assert 0.0 <= backoff.delay(failures, random.Random(seed)) <= backoff.ceiling(failures) <= 60.0
    assert backoff.ceiling(failures) <= backoff.ceiling(failures + 1)


def test_ceilings_double_up_to_the_limit_and_the_jitter_is_full() -> None:
    backoff = Backoff(base_seconds=0.5, ceiling_seconds=3.0)
    assert [backoff.ceiling(n) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    chance = random.Random(7)
    drawn = [backoff.delay(4, chance) for _ in range(2000)]
    # Full jitter: a fifth of the delays in each fifth of the range, roughly.
    for fifth in range(5):
        share = sum(fifth * 0.6 <= delay < (fifth + 1) * 0.6 for delay in drawn)
        assert 300 < share < 500


@given(st.integers(0, 1000), seconds)
def test_only_a_connection_that_lived_starts_the_count_anew(failures: int, lived: float) -> None:
    backoff = Backoff(healthy_seconds=60.0)
    after = backoff.failures_after(failures, Outcome(Ending(Reason.RESET), lived, 0))
    assert after == (1 if lived >= 60.0 else failures + 1)


@given(
    st.integers(1, 20),
    st.floats(1.0, 100.0),
    st.lists(st.tuples(st.floats(0, 50), st.one_of(st.none(), st.floats(0, 200))), max_size=80),
)
def test_no_window_ever_holds_more_attempts_than_the_budget(
    attempts: int, window: float, waits: list[tuple[float, float | None]]
) -> None:
    """A caller that tries at any time, and waits when told so; the exchange may close the door meanwhile."""
    budget = AttemptBudget(attempts, window)
    now, made = 0.0, list[float]()
    for wait, closed_for in waits:
        now += wait
        if closed_for is not None:
            budget.close_until(now + closed_for)
        free_at = budget.free_at(now)
        assert free_at >= now
        if closed_for is not None:
            assert free_at >= now + closed_for
        now = free_at
        assert budget.free_at(now) == now  # having waited, the attempt is allowed
        budget.spend(now)
        made.append(now)
    for index, last in enumerate(made):
        inside = [at for at in made[: index + 1] if at + window > last]
        assert len(inside) <= attempts


def test_the_budget_does_not_wait_without_need() -> None:
    budget = AttemptBudget(2, 10.0)
    for at in (0.0, 1.0):
        assert budget.free_at(at) == at
        budget.spend(at)
    assert budget.free_at(2.0) == 10.0
    assert budget.free_at(10.0) == 10.0


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no connection"):
        AttemptBudget(0, 10.0)


@pytest.mark.parametrize(
    ("status", "retry_after", "expected"),
    [
        (429, 7.0, 7.0),
        (418, 500.0, 500.0),
        (403, None, 300.0),
        (429, None, 60.0),
        (418, None, 120.0),
        (503, 30.0, 30.0),
        (503, None, 0.0),
        (None, None, 0.0),
        (418, 1e12, 3 * 86400.0),
    ],
)
def test_cool_downs(status: int | None, retry_after: float | None, expected: float) -> None:
    ending = Ending(Reason.HANDSHAKE_REJECTED, "", status, retry_after)
    assert cool_down_seconds(ending) == expected


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), max_size=50))
def test_our_messages_leave_room_for_two_pongs_in_any_second(gaps: list[tuple[float, float]]) -> None:
    """However late each one goes after its wait."""
    pace = MessagePace(5)
    now, sent = 0.0, list[float]()
    for gap, late in gaps:
        now += gap
        wait = pace.wait_seconds(now)
        assert wait >= 0
        now += wait + late
        pace.sent(now)
        sent.append(now)
    for at in sent:
        assert sum(at <= other < at + 0.999 for other in sent) <= 3
