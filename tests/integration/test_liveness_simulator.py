"""Dead and quiet feeds on a real exchange of our own: named, and the dead ones replaced without a break.

All times of the watch are a twentieth of what they are in earnest.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from crypto_lake.capture.backoff import Backoff
from crypto_lake.capture.batch import Batch
from crypto_lake.capture.connection import ConnectionSettings
from crypto_lake.capture.feed import Feed, FeedSettings
from crypto_lake.capture.intake import StreamIntake
from crypto_lake.capture.liveness import LivenessWatch, WatchSettings
from crypto_lake.capture.transport import Target
from crypto_lake.completeness.asking import Asker, open_asker
from crypto_lake.completeness.liveness import Liveness
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import control
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import SystemClock
from crypto_lake.model.intervals import IntervalSet
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings
from support.shares import share

SCALE = 0.05
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
TRADES, QUOTES = "btcusdt@trade", "btcusdt@bookTicker"
STREAMS = [f"{symbol.lower()}@{kind}" for symbol in SYMBOLS for kind in ("trade", "bookTicker")]
FOREVER = 1_000_000


@dataclass
class Running:
    simulator: Simulator
    feed: Feed
    intake: StreamIntake
    watch: LivenessWatch
    asker: Asker
    ids: dict[str, IntervalSet]
    events: list[control.AnyEvent]

    def kind(self, stream: str) -> Liveness:
        judgement = self.watch.judgements.get(stream)
        return judgement.kind if judgement else Liveness.NOT_SUBSCRIBED

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(event.reason for event in self.events if isinstance(event, control.Disconnected))

    def connection(self) -> str:
        return next(iter(self.simulator.hub.connections))

    async def until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s in vain for {what}: {self.watch.judgements}"
            await asyncio.sleep(0.01)

    async def all_live(self) -> None:
        def live() -> bool:
            routes = self.intake.routes
            return all(routes[s].messages > 3 and self.kind(s) is Liveness.LIVE for s in STREAMS)

        await self.until(live, 60, "all streams to speak")


@contextlib.asynccontextmanager
async def running(
    folder: Path, activity: float = 1.0, seconds: float = 180, streams: Sequence[str] = STREAMS
) -> AsyncIterator[Running]:
    start_us = time.time_ns() // 1000
    async with (
        asyncio.timeout(seconds),
        Simulator(GeneratedMarket(3, SYMBOLS, start_us=start_us, activity=activity), Settings()) as simulator,
    ):
        ids: defaultdict[str, IntervalSet] = defaultdict(IntervalSet)
        events: list[control.AnyEvent] = []

        def keep(batch: Batch) -> None:
            events.extend(event for _, _, event in batch.events)
            for item in batch.items:
                for run in item.runs:
                    ids[item.symbol].add_interval(run.first_id, run.last_id)
            intake.written({item.symbol: len(item.lines) for item in batch.items})

        clock = SystemClock()
        intake = StreamIntake(BINANCE, clock, keep, queue_bytes=64 << 20, flush_bytes=64 << 10)
        intake.add_streams(streams)
        settings = FeedSettings(
            ConnectionSettings(
                Target(f"{simulator.websocket_url}/stream"), overlap_seconds=0.1, quiet_seconds=0.3
            ),
            backoff=Backoff(base_seconds=0.05, ceiling_seconds=0.2),
        )
        feed = Feed(BINANCE, settings, intake, clock, streams, "c-sim", chance=random.Random(1))
        asker = open_asker(Layout(folder), BINANCE, simulator.rest_url, None)
        watch = LivenessWatch(
            BINANCE, feed, intake, asker, clock, lambda: list(streams), WatchSettings().scaled(SCALE)
        )
        tasks = [asyncio.ensure_future(feed.run()), asyncio.ensure_future(watch.run())]
        try:
            yield Running(simulator, feed, intake, watch, asker, ids, events)
        finally:
            tasks[1].cancel()
            await feed.stop()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asker.close()
            intake.cut()


def swallow(*streams: str) -> Callable[[Running], None]:
    def befall(run: Running) -> None:
        for stream in streams:
            run.simulator.control("swallow", stream=stream, n=FOREVER, connection=run.connection())

    return befall


def freeze(run: Running) -> None:
    run.simulator.control("freeze", connection=run.connection(), seconds=30.0)


def silent_acknowledgement(*, stream: str = "*") -> Callable[[Running], None]:
    def befall(run: Running) -> None:
        run.simulator.control("ack_silent", n=1, stream=stream)
        run.simulator.control("drop_connections", n=1)

    return befall


def stuck(stream: str) -> Callable[[Running], None]:
    return lambda run: run.simulator.control("stuck", stream=stream, connection=run.connection())


def without_rest(run: Running) -> None:
    run.simulator.control("rest", n=FOREVER)
    swallow(TRADES)(run)


# What befalls, the fault that must have fired, the stream, its name, and within how many seconds in earnest.
DEAD = [
    ("one stream", swallow(TRADES), "swallow", TRADES, Liveness.STREAM_SILENT, 18),
    ("quotes", swallow(QUOTES), "swallow", QUOTES, Liveness.STREAM_SILENT, 18),
    ("a symbol", swallow(TRADES, QUOTES), "swallow", TRADES, Liveness.SYMBOL_SILENT, 18),
    ("a connection", swallow("*"), "swallow", TRADES, Liveness.CONNECTION_SILENT, 18),
    ("frozen", freeze, "freeze", TRADES, Liveness.CONNECTION_SILENT, 18),
    ("never spoke", silent_acknowledgement(), "ack_silent", TRADES, Liveness.NEVER_SPOKE, 28),
    ("one never", silent_acknowledgement(stream=TRADES), "ack_silent", TRADES, Liveness.NEVER_SPOKE, 28),
    ("repeats an id", stuck(TRADES), "stuck", TRADES, Liveness.REPEATING, 18),
    ("repeats a quote", stuck(QUOTES), "stuck", QUOTES, Liveness.REPEATING, 18),
    ("without REST", without_rest, "swallow", TRADES, Liveness.STREAM_SILENT, 45),
]


@pytest.mark.parametrize(
    ("befall", "fault", "stream", "kind", "within"),
    share([case[1:] for case in DEAD], 3, seed=4),
)
def test_a_dead_feed_is_named_and_replaced_before_it_ends(
    befall: Callable[[Running], None],
    fault: str,
    stream: str,
    kind: Liveness,
    within: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("crypto_lake.capture.hearing._OVERLAP_SECONDS", 2.0 * SCALE)

    async def test() -> None:
        # Without REST a stream's own mean pause counts four times over, and its market has not the tests' scale.
        activity = 6.0 if befall is without_rest else 1.0
        async with running(tmp_path, activity=activity) as run:
            await run.all_live()
            befall(run)
            # What a busy machine takes on top has room, too: a twentieth of `within` is a second or two. That it is no
            # longer in earnest the unit tests show, on a clock of their own.
            # Where all streams die it may be another one that has the connection replaced.
            dead = STREAMS if kind in (Liveness.CONNECTION_SILENT, Liveness.NEVER_SPOKE) else [stream]
            await run.until(
                lambda: any(run.kind(one) is kind for one in dead),
                within * SCALE + 20,
                f"{stream} to be {kind}",
            )
            assert all(judgement.evidence for judgement in run.watch.judgements.values())
            await run.until(lambda: run.outcomes["stream_dead"] == 1, 30, "its replacement")
            await run.all_live()
            assert run.simulator.faults()[fault]["fired"]
            assert run.watch.replacements == {kind.value: 1}
            others = {event.replaces for event in run.events if isinstance(event, control.Connected)}
            assert others - {None}, "the new connection names the one it takes over from"
            assert run.asker.requests
        # What no fault withheld has no hole: the old connection ended after the new one spoke.
        if fault in ("swallow", "stuck") and stream == TRADES:
            for symbol in ("ETHUSDT", "SOLUSDT"):
                withheld = run.simulator.faults()[fault]["withheld"].get(symbol, [])
                assert run.ids[symbol].holes() == [] or withheld, symbol

    asyncio.run(test())


def test_a_quiet_and_a_halted_market_are_named_and_nothing_is_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as run:
            await run.all_live()
            run.simulator.control("halt", symbol="ETHUSDT")
            await run.until(lambda: run.kind("ethusdt@trade") is Liveness.QUIET, 30, "ETHUSDT to be quiet")
            assert "its newest" in run.watch.judgements["ethusdt@trade"].evidence
            await run.until(lambda: run.kind("ethusdt@trade") is Liveness.HALTED, 30, "ETHUSDT to be halted")
            assert run.kind("ethusdt@bookTicker").at_rest
            for symbol in ("BTCUSDT", "SOLUSDT"):
                run.simulator.control("halt", symbol=symbol)
            await run.until(lambda: all(run.kind(s).at_rest for s in STREAMS), 30, "all to be at rest")
            # Nothing comes of any stream now: neither this watch nor the feed's own rule replaces anything.
            await asyncio.sleep(1)
            assert run.simulator.faults()["halt"]["fired"] == 3
            assert not run.watch.replacements
            assert not run.outcomes

    asyncio.run(test())


@pytest.mark.faults
def test_what_is_old_is_behind(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as run:
            await run.all_live()
            run.simulator.control("late", stream=TRADES, n=FOREVER, delay=6.0)
            await run.until(lambda: run.kind(TRADES) is Liveness.BEHIND, 15, "trades to be behind")
            assert run.simulator.faults()["late"]["fired"]

    asyncio.run(test())


@pytest.mark.faults
def test_an_hour_of_a_quiet_market_is_no_alarm(tmp_path: Path) -> None:
    """An hour of patience passes in three minutes; half a trade a minute of each symbol by that measure."""

    async def test() -> None:
        async with running(tmp_path, activity=0.002, seconds=280) as run:
            dead: set[tuple[str, str]] = set()
            quiet = 0
            end = time.monotonic() + 3600 * SCALE
            while time.monotonic() < end:
                await asyncio.sleep(SCALE)
                for name, judgement in run.watch.judgements.items():
                    quiet += judgement.kind is Liveness.QUIET
                    if judgement.kind.dead:
                        dead.add((name, judgement.evidence))
            assert not dead
            assert quiet
            assert not run.watch.replacements

    asyncio.run(test())


@pytest.mark.faults
def test_klines_beside_the_trades_live_and_are_replaced_when_they_alone_go_silent(tmp_path: Path) -> None:
    klines = "btcusdt@kline_1s"

    async def test() -> None:
        async with running(tmp_path, streams=[*STREAMS, klines]) as run:
            await run.all_live()
            await run.until(lambda: run.intake.routes[klines].messages > 3, 10, "klines")
            before = run.connection()
            swallow(klines)(run)
            await run.until(lambda: run.kind(klines).dead, 60 * SCALE + 8 * SCALE + 3, "their death")
            assert run.kind(klines) is Liveness.STREAM_SILENT
            assert {run.kind(stream) for stream in STREAMS} == {Liveness.LIVE}
            assert run.simulator.faults()["swallow"]["fired"] > 0
            await run.until(lambda: run.outcomes["stream_dead"] == 1, 10, "the replacement")
            await run.until(lambda: run.kind(klines) is Liveness.LIVE, 10, "klines again")
            assert run.connection() != before

    asyncio.run(test())
