"""kill -9 of the collector at any moment, and some time off: after healing the bars are the exchange's klines."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from crypto_lake.completeness.entries import Hole, Outcome
from crypto_lake.completeness.ledger import account, read
from crypto_lake.completeness.prove_disk import prove
from crypto_lake.simulator.generated import GeneratedMarket
from support.collecting import QUICK, SYMBOLS, Collecting
from support.healing import assert_equal_klines

KILLS = int(os.environ.get("CRYPTO_LAKE_KILLS", "100"))
START = "2024-08-08T22:30:00"
SHARE = 3000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_killed_collector_missed_is_healed_when_it_is_back(
    simulate: Callable[..., Any], lake_on: Callable[..., Any]
) -> None:
    kill_and_heal(simulate, lake_on, kills=1, speed=10)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_the_same_at_a_hundred_moments(simulate: Callable[..., Any], lake_on: Callable[..., Any]) -> None:
    kill_and_heal(simulate, lake_on, kills=KILLS, speed=10)


def kill_and_heal(
    simulate: Callable[..., Any], lake_on: Callable[..., Any], *, kills: int, speed: int
) -> None:
    """5 to 60 s of the market's time off, each time."""
    chance = random.Random(7)
    simulator = simulate(
        "--seed",
        "5",
        "--symbols",
        ",".join(SYMBOLS),
        "--activity",
        "0.2",
        "--start",
        START,
        "--speed",
        str(speed),
    )
    settings = {"collector_heal": "true", "collector_clock": "exchange"}
    lake = lake_on(simulator, **(QUICK | settings), collector_weight_per_minute=str(SHARE))
    collector = Collecting(simulator, lake)
    for _ in range(kills):
        collector.wait_acknowledging()
        time.sleep(chance.uniform(0, 1.5))
        collector.kill()
        time.sleep(chance.uniform(5, 60) / speed)
        collector.start()
    collector.wait_acknowledging()

    def healed() -> bool:
        told = [collector.told(symbol) for symbol in SYMBOLS]
        return all(not len(t.open_holes) for t in told) and all(len(t.holes) >= kills for t in told)

    collector.until(healed, "the end of healing", 120)
    time.sleep(1)
    used = simulator.get("/control/state")["rest_greatest_weight"]
    assert collector.stop() == 0
    assert 0 < used <= SHARE

    start_us = int(datetime.fromisoformat(START).replace(tzinfo=UTC).timestamp()) * 10**6
    market = GeneratedMarket(5, SYMBOLS, start_us=start_us, activity=0.2)
    fetched = 0
    for symbol in SYMBOLS:
        states = assert_equal_klines(collector.layout, market, symbol)
        assert states["healed"] >= kills * 4, "each time off is some seconds of the market"
        lines = read(collector.layout.ledger("binance", symbol)).lines
        assert len([line for line in lines if isinstance(line, Hole)]) >= kills
        healings = [line for line in lines if isinstance(line, Outcome) and line.outcome == "healed"]
        assert {line.action for line in healings} == {"historicalTrades"}
        fetched += sum(line.last_id - line.first_id + 1 for line in healings)
        assert list(account(lines).open_holes) == []
        assert prove(collector.layout, "binance", symbol).disagreements == []
    print(f"{kills} kills: {fetched} trades fetched, {used} the greatest weight in a minute")
