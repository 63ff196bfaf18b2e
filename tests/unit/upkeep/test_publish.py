"""Published days: what one machine would have made, from whatever collectors had it, in whatever order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import publishing as p
from support.publishing import DAY, DAY_NS, END_NS, HOUR_NS, Line, Machine

LATER_NS = END_NS + 49 * HOUR_NS


def market(seed: int, trades: int = 60) -> list[tuple[int, int, bool]]:
    """(number, time, is a trade), rising, around both ends of two days."""
    rng = random.Random(seed)
    spans = [(-2, -1.99), (-0.01, 0.02), (11, 11.3), (23.98, 24.01), (24.5, 24.51), (26, 26.01)]
    times = sorted(
        DAY_NS + int(rng.uniform(*rng.choice(spans)) * 3600 * 1000) * 10**6 for _ in range(2 * trades)
    )
    return [(number, time, rng.random() < 0.5) for number, time in enumerate(times, start=100)]


def received(seed: int, events: Sequence[tuple[int, int, bool]]) -> list[list[Line]]:
    """What each of two collectors got of it: holes of their own, their own delays, some trades hours late."""
    rng = random.Random(seed)
    found: list[list[Line]] = []
    for _ in range(2):
        lines: list[Line] = []
        silent = rng.randrange(len(events)), rng.randrange(2, 12)
        trade_id = 1000
        for number, time, is_trade in events:
            trade_id += is_trade
            if silent[0] <= number - 100 < silent[0] + silent[1] or rng.random() < 0.05:
                continue
            delay = rng.choice([3, 40, 250]) * 10**6
            if is_trade:
                late = rng.choice([0] * 12 + [-400 * 10**6, 2 * HOUR_NS, 5 * HOUR_NS])
                lines.append(p.trade(trade_id, time, time + delay + late))
            else:
                lines.append(p.quote(number, time + delay))
        found.append(lines)
    return found


def check_is_what_one_machine_makes(tmp: Path, seed: int, at_once: bool) -> None:
    events = market(seed)
    per_collector = received(seed + 1, events)
    one = p.one_machine(tmp / "one", per_collector)
    days = [DAY, "2024-08-07"]
    wanted = {day: p.bars_of(one, LATER_NS, day) for day in days}
    assert wanted[DAY] is not None
    for names in (("a", "b"), ("b", "a")):
        folder = tmp / names[0]
        store = p.bucket(folder / "bucket")
        for name, lines in zip(names, per_collector, strict=True):
            machine = Machine(folder / name, name)
            machine.receive(lines)
            machine.send(store, LATER_NS)
            if not at_once:
                p.run(store, LATER_NS)
        report = p.run(store, LATER_NS)
        assert not report.problem, report
        assert {day: p.published(store, folder, day) for day in days} == wanted
        again = p.run(store, LATER_NS)
        assert (again.of("published", "noted", "completed"), again.bytes_read) == ([], 0)


@settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10**6), at_once=st.booleans())
def test_a_published_day_is_the_one_that_a_machine_with_all_of_it_makes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, at_once: bool
) -> None:
    check_is_what_one_machine_makes(tmp_path_factory.mktemp("lake"), seed, at_once)


@pytest.mark.faults
@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9), at_once=st.booleans())
def test_a_published_day_is_the_one_that_a_machine_with_all_of_it_makes_at_length(
    tmp_path_factory: pytest.TempPathFactory, seed: int, at_once: bool
) -> None:
    check_is_what_one_machine_makes(tmp_path_factory.mktemp("lake"), seed, at_once)
