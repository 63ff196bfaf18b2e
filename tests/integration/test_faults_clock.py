"""The machine's clock is set while the collector runs: no gap is invented, no part overwritten, no bar in a wrong hour."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from support.collecting import QUICK, SYMBOLS, Collecting
from support.faketime import FakeClock

HOUR_SECONDS = 3600


@pytest.mark.parametrize("step", [-HOUR_SECONDS, pytest.param(HOUR_SECONDS, marks=pytest.mark.faults)])
def test_the_clock_is_set_by_an_hour_and_back(
    simulate: Callable[..., Any], lake_on: Callable[..., Any], tmp_path: Any, step: int
) -> None:
    clock = FakeClock(tmp_path)
    simulator = simulate("--seed", "13", "--symbols", ",".join(SYMBOLS), "--activity", "3")
    lake = lake_on(simulator, **QUICK, collector_clock_probe_seconds="0.2")
    lake.environment |= clock.environment
    began = time.time()
    running = Collecting(simulator, lake)
    try:
        running.wait_acknowledging()
        clock.set(step)
        running.until(
            lambda: abs((running.snapshot()["clock_offset_us"] or 0) / 1e6 + step) < 60, "the step to be seen"
        )
        assert "clock" in running.get("/status")[1]
        running.wait_acknowledging()
        # A rotation under the wrong time, and a crash: what was received then must be found again.
        time.sleep(2.5)
        running.kill()
        running.start()
        running.wait_acknowledging()
        clock.set(0)
        running.wait_acknowledging()
        time.sleep(1)
        assert running.stop() == 0
    finally:
        if running.process.poll() is None:
            running.kill()
    causes = running.assert_exact()
    for symbol, found in causes.items():
        assert found == ["restart"], f"one for the kill, none for the clock: {symbol}"
        files = [
            file
            for day in running.layout.raw_days("binance", symbol)
            for file in running.layout.raw_files("binance", symbol, day)
        ]
        assert len({file.hour for file in files}) >= 2, "it wrote under both hours"
        by_day = [(file.hour.day, file.number) for file in files]
        assert len(set(by_day)) == len(by_day), "a number is used once in a day"
        assert running.told(symbol).holes[0].last_id < (running.on_disk(symbol).last or 0)
    lake.environment = {k: v for k, v in lake.environment.items() if k not in clock.environment}
    lake.run("transform")
    for symbol in SYMBOLS:
        paths = list((lake.data / "parquet" / "binance" / symbol).rglob("bars.parquet"))
        bars = pl.concat([pl.read_parquet(path) for path in paths]).filter(pl.col("trade_count") > 0)
        seconds = bars["window_start"].dt.epoch("s")
        assert began - 60 < int(seconds.min()) <= int(seconds.max()) < time.time() + 60  # pyright: ignore
        assert int(bars["trade_count"].sum()) == running.on_disk(symbol).count()
