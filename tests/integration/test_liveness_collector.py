"""A whole collector: what it thinks of a feed stands in its snapshot, and a confirmed silence in its ledger."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from pathlib import Path

from crypto_lake.capture.collector import Collector
from crypto_lake.capture.collector_settings import CollectorSettings
from crypto_lake.capture.liveness import WatchSettings
from crypto_lake.completeness.entries import Quiet
from crypto_lake.completeness.ledger import read
from crypto_lake.lake.layout import Layout
from crypto_lake.model.market import Stream
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings
from crypto_lake.upkeep.prove import prove_lake
from crypto_lake.watch.status import judge_running

SCALE = 0.01


@dataclasses.dataclass
class Endpoint:
    websocket: str
    rest: str
    ca_file: str = ""
    archive: str = ""


def test_a_quiet_market_is_told_in_status_and_ledger_and_proven(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    async def test() -> None:
        market = GeneratedMarket(3, ("BTCUSDT", "ETHUSDT"), start_us=time.time_ns() // 1000)
        async with asyncio.timeout(60), Simulator(market, Settings()) as simulator:
            endpoint = Endpoint(simulator.websocket_url, simulator.rest_url)
            watch = dataclasses.replace(
                WatchSettings().scaled(SCALE), keep_quiet_seconds=0.4, keep_quiet_most_seconds=0.4
            )
            settings = CollectorSettings("binance", market.symbols, (Stream.TRADE,), endpoint)
            collector = Collector(settings, layout, watch=watch)
            running = asyncio.ensure_future(collector.run())

            async def until(name: str, kinds: set[str]) -> None:
                while True:
                    streams = {stream.name: stream for stream in collector.snapshot().streams}
                    if name in streams and streams[name].liveness in kinds:
                        assert streams[name].evidence
                        assert 0 < streams[name].liveness_since_ns <= time.time_ns()
                        return
                    assert not running.done()
                    await asyncio.sleep(0.02)

            await until("ethusdt@trade", {"live"})
            await asyncio.sleep(0.5)
            simulator.control("halt", symbol="ETHUSDT")
            await until("ethusdt@trade", {"halted"})
            await asyncio.sleep(1.5)
            # Where a machine stood still there may be another one by now, or two.
            while len(simulator.hub.connections) != 1:
                await asyncio.sleep(0.02)
            (connection,) = simulator.hub.connections
            before = sum(collector.snapshot().replacements.values())
            simulator.control("swallow", stream="btcusdt@trade", n=10**6, connection=connection)
            await until("btcusdt@trade", {"symbol_silent", "connection_silent"})
            reasons = [reason.code for reason in judge_running(collector.snapshot())[1]]
            assert "feed_dead" in reasons
            while sum(collector.snapshot().replacements.values()) == before:
                await asyncio.sleep(0.02)
            await until("btcusdt@trade", {"live"})
            assert simulator.faults()["halt"]["fired"] == 1
            assert simulator.faults()["swallow"]["fired"]
            collector.stop("test")
            await running

    asyncio.run(test())
    quiet = [line for line in read(layout.ledger("binance", "ETHUSDT")).lines if isinstance(line, Quiet)]
    assert quiet
    assert all(line.until_ns - line.from_ns >= 0.4 * 10**9 for line in quiet)
    # They rest on answers that are kept; a ledger that says more than raw does would be found.
    assert prove_lake(layout, "ETHUSDT", None).proven
