"""From a real WebSocket to bars on the disk, by the commands a user has, against the exchange's own klines."""

from __future__ import annotations

import csv
import json
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake.completeness.ledger import account, read
from crypto_lake.lake.layout import Layout
from support.klines import KLINE_COLUMNS, klines_over_rest

FIELDS = ("open", "high", "low", "close", "volume_base")


def bars_of(data: Path, symbol: str) -> pl.DataFrame:
    paths = sorted((data / "parquet" / "binance" / symbol).rglob("bars.parquet"))
    assert paths, f"no bars of {symbol}"
    return pl.concat([pl.read_parquet(path) for path in paths])


def rolled_up(bars: pl.DataFrame, every: str) -> dict[datetime, tuple[Decimal, ...]]:
    rolled = bars.group_by_dynamic("window_start", every=every).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume_base").sum(),
    )
    return {row[0]: row[1:] for row in rolled.iter_rows()}


def klines_of(path: Path) -> dict[datetime, tuple[Decimal, ...]]:
    with path.open() as file:
        return {
            datetime.fromisoformat(row["date"]): tuple(
                Decimal(row[name]) for name in ("open", "high", "low", "close", "volume")
            )
            for row in csv.DictReader(file)
        }


def last_ids(simulator: Any, symbols: list[str]) -> dict[str, int]:
    """Of each symbol's trades until now."""
    newest = {s: simulator.get(f"/api/v3/trades?symbol={s}&limit=1") for s in symbols}
    return {symbol: trades[-1]["id"] for symbol, trades in newest.items() if trades}


def has_durably(lake: Any, ids: dict[str, int]) -> bool:
    """Whether the collector has fsynced at least these trades."""
    told = json.loads((lake.data / "state" / "collector.json").read_bytes())["symbols"]
    durable = {symbol["symbol"]: symbol["durable_id"] or 0 for symbol in told}
    return all(durable[symbol] >= last for symbol, last in ids.items())


def collect_all(lake: Any, simulator: Any, wait_for: Callable[..., Any], timeout_seconds: float) -> None:
    """Collect BTCUSDT until the market is over and all its trades are fsynced, then transform."""
    collector = lake.popen("collect")
    try:
        simulator.wait_until_done(timeout_seconds)
        last = last_ids(simulator, ["BTCUSDT"])
        wait_for(lambda: has_durably(lake, last), 60, "the last trade's fsync")
        collector.send_signal(signal.SIGTERM)
        assert collector.wait(90) == 0
    finally:
        collector.kill()
        collector.wait()
    lake.run("transform")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_recorded_day_equals_the_exchanges_klines(
    simulate: Callable[..., Any], lake_on: Callable[..., Any], wait_for: Callable[..., Any], recorded: Path
) -> None:
    """Played across midnight at x40; the recorder's clock was 1.27 s behind, so receive time would not do."""
    folder = recorded / "binance-spot"
    files = sorted(folder.glob("btcusdt_*.gz"))
    assert len(files) == 2
    simulator = simulate("--speed", "40", *(f"--recording={path}" for path in files))
    lake = lake_on(simulator, collector_symbols="BTCUSDT", collector_clock="exchange")
    collect_all(lake, simulator, wait_for, 300)

    bars = bars_of(lake.data, "BTCUSDT")
    assert bars["trade_count"].sum() == 19_904
    told = account(read(Layout(lake.data).ledger("binance", "BTCUSDT")).lines)
    assert (told.seen.count(), list(told.open_holes)) == (19_904, [])

    for every, file, expected in (
        ("1m", "BTCUSDT-1m-klines-2024-08-08.csv", 10),
        ("5m", "BTCUSDT-5m-klines-2024-08-08.csv", 2),
    ):
        ours, theirs = rolled_up(bars, every), klines_of(folder / file)
        first, last = bars["window_start"].min(), bars["window_start"].max()
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        length = timedelta(minutes=int(every[:-1]))
        whole = [at for at in theirs if at >= first and at + length <= last]
        assert len(whole) == expected
        assert {at: ours[at] for at in whole} == {at: theirs[at] for at in whole}


TRADE_COLUMNS = ["window_start", *KLINE_COLUMNS, "state"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("minutes", [30, pytest.param(60, marks=pytest.mark.faults)])
def test_thirteen_symbols_equal_the_simulators_klines_and_survive_a_rough_ride(
    simulate: Callable[..., Any], lake_on: Callable[..., Any], wait_for: Callable[..., Any], minutes: int
) -> None:
    """Two collectors on one market: one undisturbed, one with its connections dropped in turn, handed over,
    and with messages repeated and out of order. The trade columns are the same in every value."""
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    start_at = midnight - timedelta(minutes=minutes / 2)
    simulator = simulate(
        "--seed", "11", "--activity", "0.1", "--speed", "60", "--start", f"{start_at:%Y-%m-%dT%H:%M:%SZ}",
        "--hold", "--weight-limit", "1000000000",
    )  # fmt: skip
    quiet = lake_on(simulator, "quiet", collector_clock="exchange")
    rough = lake_on(
        simulator,
        "rough",
        collector_clock="exchange",
        collector_streams_per_connection="8",
        collector_handover_seconds="6",
    )
    collectors = [quiet.popen("collect"), rough.popen("collect")]
    try:
        wait_until_subscribed(simulator, quiet, rough)
        simulator.post("/control/start")
        stir(simulator, minutes * 0.75)
        over = midnight + timedelta(minutes=minutes / 2, seconds=10)
        wait_for(lambda: market_ns(simulator) > int(over.timestamp()) * 10**9, 300, "the market's end")
        # A busy machine is behind its clock.
        last = last_ids(simulator, simulator.ready["symbols"])
        wait_for(lambda: has_durably(quiet, last) and has_durably(rough, last), 120, "the last trades' fsync")
        for collector in collectors:
            collector.send_signal(signal.SIGTERM)
        assert [collector.wait(60) for collector in collectors] == [0, 0]
    finally:
        for collector in collectors:
            collector.kill()
            collector.wait()
    quiet.run("transform", timeout_seconds=300)
    rough.run("transform", timeout_seconds=300)

    fired = {kind: fault["fired"] for kind, fault in simulator.get("/control/faults").items()}
    assert fired["duplicate"] > 0
    assert fired["reorder"] > 0
    assert fired["drop_connections"] > 0
    symbols = simulator.ready["symbols"]
    assert len(symbols) == 13
    empty_seconds = 0
    for symbol in symbols:
        bars = bars_of(quiet.data, symbol)
        complete = bars.filter(pl.col("state") == "complete")
        assert complete.height > 50 * minutes
        stamps = complete["window_start"].dt.epoch("ms")
        klines = klines_over_rest(simulator.get, symbol, stamps[0], stamps[-1])
        for row in complete.iter_rows(named=True):
            kline = klines.get(row["window_start"])
            if kline is not None:
                assert {name: row[name] for name in kline} == kline, (symbol, row["window_start"])
                empty_seconds += row["trade_count"] == 0
        assert len(klines) >= complete.height - 1
        assert account(read(Layout(quiet.data).ledger("binance", symbol)).lines).holes == []
        # They began and ended at moments of their own; between, all that trades made is the same.
        other = bars_of(rough.data, symbol).filter(pl.col("state") == "complete")
        start = max(complete["window_start"].min(), other["window_start"].min())
        end = min(complete["window_start"].max(), other["window_start"].max())
        both = pl.col("window_start").is_between(start, end)
        assert (end - start).total_seconds() > 60 * minutes - 100
        assert other.filter(both).select(TRADE_COLUMNS).equals(complete.filter(both).select(TRADE_COLUMNS)), (
            symbol
        )
    assert empty_seconds > 15 * minutes


def market_ns(simulator: Any) -> int:
    setting = simulator.get("/control/clock")
    return setting["exchange_ns"] + int((time.time_ns() - setting["wall_ns"]) * setting["speed"])


def wait_until_subscribed(simulator: Any, *lakes: Any) -> None:
    """Until every collector says that all its streams are live."""
    end = time.monotonic() + 120
    for lake in lakes:
        while True:
            assert time.monotonic() < end, "the collectors did not subscribe"
            path = lake.data / "state" / "collector.json"
            if path.exists():
                snapshot = json.loads(path.read_bytes())
                streams = sum(
                    c["streams"] for c in snapshot["connections"] if c["state"] in ("subscribed", "live")
                )
                if snapshot["connections"] and streams >= 26:
                    break
            time.sleep(0.1)


def stir(simulator: Any, seconds: float) -> None:
    """Faults that lose nothing: copies and disorder on the trade streams, and of two connections that overlap while
    one hands over to the other, the older one is torn away."""
    end, next_fault, round_ = time.monotonic() + seconds, 0.0, 0
    while time.monotonic() < end:
        if time.monotonic() > next_fault:
            symbol = simulator.ready["symbols"][round_ % 13].lower()
            simulator.post("/control/faults", {"kind": "duplicate", "stream": f"{symbol}@trade", "n": 20})
            simulator.post("/control/faults", {"kind": "reorder", "stream": f"{symbol}@trade", "window": 5})
            next_fault, round_ = time.monotonic() + 4, round_ + 1
        older: dict[frozenset[str], dict[str, Any]] = {}
        for connection in simulator.get("/control/state")["connections"]:
            streams = frozenset(connection["streams"])
            # The undisturbed collector has all 26 on one connection.
            if not streams or len(streams) > 8:
                continue
            other = older.setdefault(streams, connection)
            # The new one must have delivered, or there is no overlap yet.
            if other is not connection and min(other["messages"], connection["messages"]) > 0:
                eldest = max(other, connection, key=lambda c: c["age_seconds"])
                simulator.post("/control/faults", {"kind": "drop_connections", "connection": eldest["id"]})
        time.sleep(0.1)
