"""Quantities and schedules, against what they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake_operator import cron, quantity


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1000m", 1, True),
        ("1Gi", "1024Mi", True),
        ("1G", "1Gi", False),
        ("1e3", "1k", True),
        ("0.5", "500m", True),
        ("x", "x", True),
        ("x", "1", False),
    ],
)
def test_quantities_mean_amounts(one: str | int, other: str | int, same: bool) -> None:
    assert quantity.same(one, other) is same


@given(st.integers(0, 10**12), st.sampled_from(["Ki", "Mi", "Gi"]))
def test_binary_units_are_powers_of_1024(number: int, unit: str) -> None:
    power = {"Ki": 1, "Mi": 2, "Gi": 3}[unit]
    assert quantity.parse(f"{number}{unit}") == number * 1024**power


@pytest.mark.parametrize(
    ("text", "shortest", "longest"),
    [
        ("* * * * *", 1, 1),
        ("*/5 * * * *", 5, 5),
        ("*/7 * * * *", 4, 7),
        ("12 * * * *", 60, 60),
        ("5 */6 * * *", 360, 360),
        ("0 3 * * *", 1440, 1440),
        ("0 3 * * 1-5", 1440, 3 * 1440),
        ("0 3 * * 0", 1440, 7 * 1440),
        ("0,30 1,2 * * *", 30, 1350),
        ("0 0 1 * *", 1440, 32 * 1440),
    ],
)
def test_periods_of_schedules(text: str, shortest: int, longest: int) -> None:
    assert (cron.shortest_period_minutes(text), cron.longest_period_minutes(text)) == (shortest, longest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "@hourly",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 7",
        "5-1 * * * *",
        "*/0 * * * *",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(cron.InvalidCronError):
        cron.shortest_period_minutes(text)
