"""The columnar bars against plain integers, on small markets with everything that can go wrong in them."""

from __future__ import annotations

import importlib.util
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto_lake.bars.transform import transform
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour


def _load(name: str):
    full = f"bars_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


reference, lake = _load("reference"), _load("lake")
START_US = 1_723_161_600 * 10**6 - 3 * 10**6  # three seconds before a midnight


@dataclass(frozen=True)
class Market:
    """Lines by receive time, and what they say."""

    trades: list
    quotes: list
    lines: list  # (received_ns, line)


def market_of(seed: int, count: int) -> Market:
    """A market of about `count` trades. From a seed: what fails is made again by it, and shrinks by count."""
    rng = random.Random(seed)
    # Steps of seconds, now and then of minutes or an hour, so that hours and days are crossed and stand empty.
    trades, quotes, lines = [], [], []
    id_, at, u = rng.randrange(10**9), START_US, rng.randrange(1000)
    for _ in range(count):
        id_ += 1 if rng.random() < 0.9 else rng.randrange(2, 5)
        at += rng.choice(
            [
                0,
                1000,
                200_000,
                999_000,
                3_000_000,
                rng.choice([70, 4000]) * 10**6 if rng.random() < 0.1 else 0,
            ]
        )
        trade = reference.T(
            id_,
            at,
            rng.randrange(1, 10**13),
            rng.randrange(1, 10**14),
            rng.random() < 0.5,
            rng.random() < 0.05,
        )
        # Copies, another connection's, late by up to hours; now and then one that says something else.
        for copy in range(rng.choice([1, 1, 1, 2, 3])):
            late = rng.choice([0, 300, 1500, -1200, 7_500_000 if rng.random() < 0.2 else 0])
            said = trade
            if copy and rng.random() < 0.2:
                said = reference.T(id_, at, trade.price + 1, trade.size, trade.maker, trade.rest)
            received = (said.time_us + late * 1000) * 1000 + rng.randrange(10**6)
            trades.append(said)
            if said.rest:
                lines.append(
                    (
                        received,
                        lake.rest_line(said.id, said.time_us, said.price, said.size, said.maker, received),
                    )
                )
            else:
                lines.append(
                    (
                        received,
                        lake.trade_line(
                            said.id,
                            said.time_us,
                            said.price,
                            said.size,
                            said.maker,
                            received,
                            f"c-{copy}",
                            microseconds=rng.random() < 0.3,
                        ),
                    )
                )
        if rng.random() < 0.7:
            u += rng.choice([0, 1, 5])
            bid = rng.randrange(1, 10**13)
            for copy in range(rng.choice([1, 2])):
                received = at * 1000 + rng.randrange(-(10**9), 2 * 10**9)
                quote = reference.Q(
                    received,
                    u - rng.choice([0, 0, 0, 3]),
                    f"c-{copy}",
                    bid,
                    rng.randrange(10**12),
                    bid + rng.randrange(-5, 10**6),
                    rng.randrange(10**12),
                )
                if quote.u < 0:
                    continue
                quotes.append(quote)
                lines.append(
                    (
                        received,
                        lake.quote_line(
                            received,
                            quote.u,
                            quote.connection,
                            quote.bid,
                            quote.bid_size,
                            quote.ask,
                            quote.ask_size,
                        ),
                    )
                )
    lines.sort()
    return Market(trades, quotes, lines)


markets = st.builds(market_of, st.integers(0, 2**32), st.integers(1, 40))


def parts_of(market: Market, rng: random.Random) -> list[tuple[Hour, list[bytes]]]:
    """The lines in parts, none over an hour."""
    parts: list[tuple[Hour, list[bytes]]] = []
    for received, line in market.lines:
        hour = Hour.of_ns(received)
        if not parts or parts[-1][0] != hour or rng.random() < 0.15:
            parts.append((hour, []))
        parts[-1][1].append(line)
    return parts


def made(parts, folder: str, order=None, *, between: bool = False, workers: int = 1) -> Layout:
    layout = Layout(Path(folder))
    for number in order or range(len(parts)):
        hour, lines = parts[number]
        lake.write_part(layout, hour, number + 1, lines, frames=2)
        if between:
            assert not transform(layout, "binance", workers=workers).failed
    report = transform(layout, "binance", workers=workers)
    assert not report.failed
    return layout


def check_bars(market: Market, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = made(parts_of(market, random.Random(seed)), folder)
        assert lake.rows_of(layout) == reference.bars(market.trades, market.quotes)


def check_order(market: Market, seed: int) -> None:
    rng = random.Random(seed)
    parts = parts_of(market, rng)
    # The same lines under other numbers, shuffled within each part, some of them twice.
    other = [(hour, rng.sample([*lines, *lines[:2]], len(lines) + len(lines[:2]))) for hour, lines in parts]
    rng.shuffle(other)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, second = made(parts, one), made(other, two)
        assert lake.bars_files(first) == lake.bars_files(second)


def check_many_runs(market: Market, seed: int) -> None:
    rng = random.Random(seed)
    parts = parts_of(market, rng)
    order = list(range(len(parts)))
    if rng.random() < 0.5:
        rng.shuffle(order)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, second = made(parts, one), made(parts, two, order, between=True)
        assert lake.bars_files(first) == lake.bars_files(second)
        again = transform(second, "binance", rebuild=True)
        assert not again.failed
        assert lake.bars_files(first) == lake.bars_files(second)


common = settings(deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32)


@settings(common, max_examples=20)
@given(markets, seeds)
def test_bars_are_those_of_plain_integers(market: Market, seed: int) -> None:
    check_bars(market, seed)


@settings(common, max_examples=10)
@given(markets, seeds)
def test_the_order_of_files_and_of_lines_changes_no_byte(market: Market, seed: int) -> None:
    check_order(market, seed)


@settings(common, max_examples=6)
@given(markets, seeds)
def test_runs_after_each_part_end_with_the_bytes_of_one_run(market: Market, seed: int) -> None:
    check_many_runs(market, seed)


@pytest.mark.faults
@pytest.mark.parametrize("check", [check_bars, check_order, check_many_runs])
@settings(common, max_examples=100)
@given(market=markets, seed=seeds)
def test_they_hold_at_length(check: Callable[[Market, int], None], market: Market, seed: int) -> None:
    check(market, seed)
