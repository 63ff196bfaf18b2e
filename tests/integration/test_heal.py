"""A collector that misses trades fetches them: its bars are the exchange's klines, and the budget is kept."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from crypto_lake.cli.main import main
from crypto_lake.completeness.entries import Outcome
from crypto_lake.completeness.ledger import account, read
from crypto_lake.completeness.prove_disk import prove
from crypto_lake.lake.layout import Layout
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings
from crypto_lake.upkeep.seal import compact
from crypto_lake.upkeep.verify import verify_disk
from support.healing import START_US, assert_equal_klines, collecting

SYMBOLS = ("BTCUSDT", "ETHUSDT")
SUMS = frozenset({"volume_quote", "taker_buy_quote"})


def market(activity: float = 1.0) -> GeneratedMarket:
    return GeneratedMarket(11, SYMBOLS, start_us=START_US, activity=activity)


def outcomes(layout: Layout, symbol: str) -> list[Outcome]:
    return [line for line in read(layout.ledger("binance", symbol)).lines if isinstance(line, Outcome)]


def test_what_was_lost_is_fetched_and_the_bars_are_the_exchanges(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Simulator(market(), Settings()) as simulator:
            async with collecting(simulator, tmp_path, SYMBOLS) as lake:
                await lake.past_this_second()
                simulator.control("swallow", stream="btcusdt@trade", n=7)
                simulator.control("swallow", stream="ethusdt@trade", n=3)
                # What is lost next is a hole of its own.
                await lake.until(lambda: lake.holes_found == 2, "a hole of each symbol")
                simulator.control("drop_connections")
                simulator.control("refuse_connections", n=1)
                await lake.whole(3)
                before = lake.holes_found
                simulator.control("rest", n=1, status=503)
                simulator.control("swallow", stream="btcusdt@trade", n=4)
                await lake.until(lambda: simulator.faults()["rest"]["fired"] == 1, "the failure")
                await lake.whole(before + 1)
                assert lake.healing.trades_healed >= 14
                assert lake.healing.requests["503"] >= 1
            for fault in ("swallow", "drop_connections", "refuse_connections", "rest"):
                assert simulator.faults()[fault]["fired"], fault

    asyncio.run(scenario())
    layout = Layout(tmp_path)
    for symbol in SYMBOLS:
        assert assert_equal_klines(layout, market(), symbol)["healed"] >= 1
        told = account(read(layout.ledger("binance", symbol)).lines)
        assert list(told.open_holes) == []
        lines = outcomes(layout, symbol)
        assert {(line.outcome, line.action) for line in lines} == {("healed", "historicalTrades")}
        assert all((layout.root / line.file).is_file() for line in lines)
    # Healed files are sealed, attested and verified as all others are.
    sealed = compact(layout)
    assert sealed.failed == {}
    assert sealed.left_alone == []
    assert sealed.files_attested == len({line.file for s in SYMBOLS for line in outcomes(layout, s)})
    assert verify_disk(layout).differences == []
    bucket = tmp_path.with_name("bucket")
    bucket.mkdir()
    assert main(["upload", "--data", str(tmp_path), "--set", f"gcs.url=file://{bucket}"]) == 0
    assert len(list((bucket / "raw").rglob("healed_*"))) == sealed.files_attested
    for symbol in SYMBOLS:
        assert prove(layout, "binance", symbol).disagreements == []


def test_where_sums_alone_are_served_they_are_taken_and_the_bars_say_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = Settings(without=frozenset({"historicalTrades"}))
        async with (
            Simulator(market(3.0), settings) as simulator,
            collecting(simulator, tmp_path, SYMBOLS) as lake,
        ):
            await asyncio.sleep(1)
            for symbol in SYMBOLS:
                simulator.control("swallow", stream=f"{symbol.lower()}@trade", n=9)
            await lake.whole(2)
            await asyncio.sleep(1)
            assert simulator.faults()["swallow"]["fired"] == 18
            assert lake.healing.trades_aggregated == lake.healing.trades_healed > 0
            assert "404" in str(lake.healing.requests)

    asyncio.run(scenario())
    states = [assert_equal_klines(Layout(tmp_path), market(3.0), symbol, but=SUMS) for symbol in SYMBOLS]
    assert sum(found.get("aggregated", 0) for found in states) >= 1
    assert {line.action for symbol in SYMBOLS for line in outcomes(Layout(tmp_path), symbol)} == {"aggTrades"}


def test_a_ban_stops_all_requests_for_as_long_as_it_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            Simulator(market(), Settings()) as simulator,
            collecting(simulator, tmp_path, SYMBOLS, clock_probe_seconds=0.2) as lake,
        ):
            simulator.control("rest", n=1, status=418, seconds=3)
            simulator.control("swallow", stream="btcusdt@trade", n=5)
            await lake.until(lambda: simulator.faults().get("rest", {}).get("fired"), "the refusal")
            banned_at = time.monotonic()
            await lake.until(lambda: lake.healing.blocked_by == 418, "the refusal in the status")
            await asyncio.sleep(0.3)  # whoever was asking at that moment has his answer
            before, asked = dict(simulator.rest.requests), dict(simulator.rest.requests)
            # What is asked when a busy machine comes back after the ban has ended says nothing.
            while asked == before and time.monotonic() < banned_at + 1.8:
                await asyncio.sleep(0.05)
                if time.monotonic() < banned_at + 2.3:
                    asked = dict(simulator.rest.requests)
            assert asked == before, "nothing is asked, by nobody"
            await lake.whole()
            assert lake.healing.refusals == 1

    asyncio.run(scenario())
    assert_equal_klines(Layout(tmp_path), market(), "BTCUSDT")


def test_no_more_weight_is_used_than_the_share(tmp_path: Path) -> None:
    """Two requests of single trades and a few of the clock, and no third: it waits for the minute to pass."""

    async def scenario() -> None:
        async with (
            Simulator(market(), Settings()) as simulator,
            collecting(simulator, tmp_path, SYMBOLS, weight_per_minute=60) as lake,
        ):
            for number in range(1, 4):
                simulator.control("swallow", stream="btcusdt@trade", n=3)
                # Each by itself: without a trade between them two would be one hole, and one request.
                await lake.until(lambda number=number: lake.holes_found == number, "a hole")
            await lake.until(lambda: lake.healing.state == "waiting", "the end of the share")
            await asyncio.sleep(0.3)
            assert lake.symbols["BTCUSDT"].holes_open >= 1
            assert 25 <= simulator.rest.greatest_weight <= 60
            assert lake.healing.trades_healed > 0
            # A larger share is heard of while it runs.
            lake.collector.use_weight(3000)
            await lake.whole(3)

    asyncio.run(scenario())
    assert_equal_klines(Layout(tmp_path), market(), "BTCUSDT")
