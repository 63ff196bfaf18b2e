"""The account of REST weight: whatever the exchange's minutes are, it never counts more than the share."""

from __future__ import annotations

import math
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.completeness import budget
from crypto_lake.completeness.budget import Allowance, Spent
from crypto_lake.completeness.budget_file import Grant, WeightBudget, retry_after_of

LIMIT = 6000


class Timer:
    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


@given(
    st.integers(25, 500),
    st.floats(0, 59),
    st.lists(
        st.tuples(
            st.sampled_from([1, 2, 4, 25]),
            st.floats(0, budget.REQUEST_SECONDS),  # until the answer
            st.floats(0, 1),  # when in between the exchange counts it
            st.floats(0, 30),  # until the next is wanted
            st.booleans(),  # whether the answer is ever told
        ),
        max_size=60,
    ),
)
def test_no_minute_of_the_exchange_sees_more_than_the_share(
    share: int, skew: float, requests: list[tuple[int, float, float, float, bool]]
) -> None:
    allowance, spent, now = Allowance(share, LIMIT), Spent(), 1_000_000.0
    counted: dict[int, int] = {}
    pending: list[tuple[float, int, int, bool]] = []
    for weight, takes, part, pause, told in requests:
        while True:
            spent = budget.at_time(spent, now)
            wait = budget.wait_seconds(spent, now, weight, allowance)
            if wait == 0:
                break
            assert 0 < wait <= budget.MINUTE_SECONDS + budget.REQUEST_SECONDS + 1
            now += wait
            for at, was, until, says in [p for p in pending if p[0] <= now]:
                pending.remove((at, was, until, says))
                if says:
                    spent = budget.answered(
                        budget.at_time(spent, at),
                        at,
                        was,
                        until,
                        allowance,
                        status=200,
                        reported=None,
                        retry_after_seconds=None,
                    )
        spent, until = budget.sent(spent, now, weight)
        minute = int((now + part * takes + skew) // 60)
        counted[minute] = counted.get(minute, 0) + weight
        pending.append((now + takes, weight, until, told))
        now += pause
    assert all(weight <= share for weight in counted.values())


def test_what_the_exchange_says_stops_everything(tmp_path: Path) -> None:
    clock = Timer(1000.0)
    one, other = (WeightBudget(tmp_path / "weight.json", 3000, LIMIT, clock) for _ in range(2))
    grant = one.take(25)
    assert isinstance(grant, Grant)
    one.answered(grant, 418, retry_after_seconds=300)
    wait = other.take(1)
    assert isinstance(wait, float)
    assert 300 <= wait <= 302
    assert other.usage().blocked_by == 418
    clock.at += 299
    assert not isinstance(other.take(1), Grant)
    clock.at += 3
    assert isinstance(other.take(1), Grant)
    assert other.usage().refusals == 1


@pytest.mark.parametrize(("status", "least"), [(429, 60), (418, 120)])
def test_where_it_does_not_say_how_long(tmp_path: Path, status: int, least: int) -> None:
    clock = Timer(1000.0)
    account = WeightBudget(tmp_path / "weight.json", 3000, LIMIT, clock)
    grant = account.take(4)
    assert isinstance(grant, Grant)
    account.answered(grant, status)
    wait = account.take(4)
    assert isinstance(wait, float)
    assert wait >= least


def test_others_on_the_address_are_given_way(tmp_path: Path) -> None:
    account = WeightBudget(tmp_path / "weight.json", 3000, LIMIT, Timer(1000.0))
    grant = account.take(4)
    assert isinstance(grant, Grant)
    account.answered(grant, 200, reported=5500)
    assert not isinstance(account.take(1), Grant)


def test_a_request_that_is_more_than_the_share_is_never_sent(tmp_path: Path) -> None:
    assert WeightBudget(tmp_path / "weight.json", 20, LIMIT).take(25) == math.inf


def test_an_account_that_is_torn_counts_as_spent(tmp_path: Path) -> None:
    path, clock = tmp_path / "weight.json", Timer(1000.0)
    path.write_bytes(b'{"weights":{"10')
    account = WeightBudget(path, 100, LIMIT, clock)
    wait = account.take(1)
    assert isinstance(wait, float)
    assert wait >= 60
    clock.at += 62
    assert isinstance(account.take(1), Grant)


def test_a_clock_that_is_set_back_does_not_stop_for_ever(tmp_path: Path) -> None:
    clock = Timer(10**9)
    account = WeightBudget(tmp_path / "weight.json", 25, LIMIT, clock)
    assert isinstance(account.take(25), Grant)
    clock.at = 10**8
    assert account.take(25) <= 76
    clock.at += 77
    assert isinstance(account.take(25), Grant)


def _take_many(path: Path, grants: int) -> int:
    account = WeightBudget(path, 500, LIMIT)
    return sum(isinstance(account.take(1), Grant) for _ in range(grants))


def test_processes_share_one_account(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        taken = pool.starmap(_take_many, [(tmp_path / "weight.json", 250)] * 3)
    assert sum(taken) == 500


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), (None, None), ("soon", None), ("-1", None)])
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after_of(text) == seconds
