"""A collector on a simulated market in one event loop, and its bars held against the market's klines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from crypto_lake.bars.transform import transform
from crypto_lake.capture.collector import Collector
from crypto_lake.capture.collector_settings import CollectorSettings
from crypto_lake.config.schema import Endpoint
from crypto_lake.lake.layout import Layout
from crypto_lake.model.market import Stream
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.klines import Kline
from crypto_lake.simulator.server import Simulator
from support.klines import KLINE_COLUMNS

START_US = 1_723_161_254_000_000


@dataclass
class Collecting:
    simulator: Simulator
    collector: Collector
    layout: Layout

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not (value := condition()):
            assert loop.time() < end, f"waited {seconds} s in vain for {what}: {self.healing}"
            await asyncio.sleep(0.05)
        return value

    @property
    def healing(self) -> Any:
        return self.collector.snapshot().healing

    @property
    def symbols(self) -> dict[str, Any]:
        return {symbol.symbol: symbol for symbol in self.collector.snapshot().symbols}

    async def collecting(self) -> None:
        await self.until(
            lambda: self.symbols and all(s.durable_id for s in self.symbols.values()),
            "trades of every symbol",
        )

    @property
    def holes_found(self) -> int:
        """Of all symbols, since the start."""
        return sum(symbol.holes_total for symbol in self.symbols.values())

    async def past_this_second(self) -> None:
        """Until the next second of the market: the bar of the first one can't be known, whatever is healed of it."""
        second = self.simulator.clock.now_us() // 10**6
        await self.until(lambda: self.simulator.clock.now_us() // 10**6 > second, "the market's next second")

    async def whole(self, holes: int = 1) -> None:
        """Until so many holes were found, and none is open."""

        def healed() -> bool:
            return self.holes_found >= holes and not any(s.holes_open for s in self.symbols.values())

        await self.until(healed, f"{holes} holes, all healed")


@asynccontextmanager
async def collecting(
    simulator: Simulator,
    root: Path,
    symbols: tuple[str, ...] = ("BTCUSDT",),
    streams: tuple[Stream, ...] = (Stream.TRADE, Stream.BOOK_TICKER),
    **settings: Any,
) -> AsyncIterator[Collecting]:
    """A collector until the end of the block; what it ended with is raised."""
    quick = {"hole_grace_seconds": 0.2, "fsync_ms": 100, "flush_ms": 50, "rotate_seconds": 2}
    collector = Collector(
        CollectorSettings(
            "binance",
            symbols,
            streams,
            Endpoint(websocket=simulator.websocket_url, rest=simulator.rest_url),
            clock="exchange",
            **(quick | settings),
        ),
        Layout(root),
    )
    running = asyncio.create_task(collector.run())
    made = Collecting(simulator, collector, Layout(root))
    try:
        await made.collecting()
        yield made
    finally:
        collector.stop("the test is over")
        await running


def bars_of(layout: Layout, symbol: str) -> dict[int, dict[str, Any]]:
    """By second; numbers as hundred-millionths."""
    transform(layout, "binance", workers=1)
    found: dict[int, dict[str, Any]] = {}
    for path in sorted((layout.root / "parquet" / "binance" / symbol).rglob("bars.parquet")):
        frame = pl.read_parquet(path)
        frame = frame.with_columns(pl.col(pl.Decimal).to_physical(), pl.col("window_start").cast(pl.Int64))
        for row in frame.iter_rows(named=True):
            found[row["window_start"] // 10**6] = row
    return found


def klines_of(market: GeneratedMarket, symbol: str, seconds: range) -> dict[int, Kline]:
    rows = market.klines(symbol, "1s", seconds.start * 10**6, seconds.stop * 10**6)
    return {kline.open_us // 10**6: kline for kline in rows}


def assert_equal_klines(
    layout: Layout, market: GeneratedMarket, symbol: str, *, but: frozenset[str] = frozenset()
) -> dict[str, int]:
    """Every second between the first and the last is there, and equals the exchange's. How many bars of each state."""
    bars = bars_of(layout, symbol)
    first, last = min(bars), max(bars)
    klines = klines_of(market, symbol, range(first, last + 1))
    states: dict[str, int] = {}
    assert sorted(bars) == list(range(first, last + 1)), "a second is missing"
    for second, bar in bars.items():
        states[bar["state"]] = states.get(bar["state"], 0) + 1
        if bar["state"] == "incomplete":
            assert second <= first or second >= last - 2, f"second {second} is incomplete"
            continue
        kline = klines[second]
        wanted = dict(zip(KLINE_COLUMNS, kline[1:], strict=True))
        if not wanted["trade_count"]:
            wanted |= {"first_trade_id": None, "last_trade_id": None}
        told = {name: bar[name] for name in KLINE_COLUMNS}
        exact = {n: v for n, v in wanted.items() if n not in but or bar["state"] != "aggregated"}
        assert {n: v for n, v in told.items() if n in exact} == exact, f"second {second}, {bar['state']}"
        for name in wanted.keys() - exact.keys():
            assert 0 <= told[name] - wanted[name] <= wanted["trade_count"]
    return states
