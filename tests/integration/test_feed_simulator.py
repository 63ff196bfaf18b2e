"""The feed against the project's own exchange, over TLS, with its limits and its way of ending connections."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable

from crypto_lake.capture.backoff import Backoff
from crypto_lake.capture.connection import ConnectionSettings
from crypto_lake.capture.feed import Feed, FeedSettings
from crypto_lake.capture.intake_protocol import Drained
from crypto_lake.capture.tls import tls_context
from crypto_lake.capture.transport import Target
from crypto_lake.exchanges import BINANCE
from crypto_lake.lake import control
from crypto_lake.model.clock import SystemClock
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
STREAMS = frozenset(f"{symbol.lower()}@{kind}" for symbol in SYMBOLS for kind in ("trade", "bookTicker"))


class Kept:
    """Trade ids by stream and connection, in order of arrival, and events."""

    paused = False

    def __init__(self) -> None:
        self.ids: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.events: list[tuple[str, control.AnyEvent]] = []

    def drain(self, connection: str, received_ns: int, messages: list[bytes]) -> Drained:
        heads = [BINANCE.head(message) for message in messages]
        for head in heads:
            if head.stream is not None and head.trade_id >= 0:
                self.ids[head.stream][connection].append(head.trade_id)
        return Drained(
            [head for head in heads if head.stream is None], max(h.event_time_us for h in heads), 0
        )

    def event(self, connection: str, event: control.AnyEvent) -> None:
        self.events.append((connection, event))

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(event.reason for _, event in self.events if isinstance(event, control.Disconnected))

    def seen(self, stream: str) -> list[int]:
        return sorted({number for ids in self.ids[stream].values() for number in ids})


@contextlib.asynccontextmanager
async def running(settings: Settings, kept: Kept, **more: float) -> AsyncIterator[tuple[Simulator, Feed]]:
    start_us = time.time_ns() // 1000
    async with (
        asyncio.timeout(180),
        Simulator(GeneratedMarket(3, SYMBOLS, start_us=start_us), settings) as simulator,
    ):
        connection = ConnectionSettings(
            Target(f"{simulator.websocket_url}/stream", tls_context(str(simulator.ca_file))),
            silence_seconds=more.pop("silence_seconds", 30.0),
            overlap_seconds=0.1,
            quiet_seconds=0.5,
        )
        backoff = Backoff(base_seconds=0.05, ceiling_seconds=0.2)
        feed = Feed(
            BINANCE,
            FeedSettings(connection, streams_per_connection=4, backoff=backoff, **more),
            kept,
            SystemClock(),
            STREAMS,
            "c-sim",
            chance=random.Random(1),
        )
        task = asyncio.ensure_future(feed.run())
        try:
            yield simulator, feed
        finally:
            await feed.stop()
            await task


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_the_exchange_ends_every_connection_and_not_one_trade_is_missed() -> None:
    """Short lives with a word before each end, and pings among the messages."""

    async def test() -> None:
        kept = Kept()
        settings = Settings(
            # Each is told after 0.8 s, and has more time to hand over than the busiest machine takes.
            tls=True, coalesce=False, lifetime_seconds=60.0, shutdown_lead_seconds=59.2, ping_seconds=0.4,
        )  # fmt: skip
        async with running(settings, kept) as (simulator, feed):
            await until(lambda: kept.outcomes["server_shutdown"] >= 6)
            assert simulator.state()["sent"]
            assert feed.snapshot().reconnects == 0
        assert set(kept.outcomes) == {"server_shutdown", "stopped"}
        for symbol in SYMBOLS:
            stream = f"{symbol.lower()}@trade"
            ids = kept.seen(stream)
            assert len(kept.ids[stream]) >= 3
            assert ids == list(range(ids[0], ids[-1] + 1))
            for on_one in kept.ids[stream].values():
                assert on_one == list(range(on_one[0], on_one[-1] + 1))

    asyncio.run(test())


def test_drops_refusals_freezes_and_silent_acknowledgements_are_survived_and_told() -> None:
    async def test() -> None:
        kept = Kept()
        # Pings keep a connection without data from being silent; so many of them that a machine that stands still for
        # half a second does not.
        settings = Settings(tls=True, ping_seconds=0.1, pong_timeout_seconds=60.0, messages_per_second=1000)
        async with running(settings, kept, silence_seconds=1.0, no_data_seconds=0.5) as (
            simulator,
            feed,
        ):

            async def flowing() -> None:
                mark = {stream: len(kept.seen(stream)) for stream in STREAMS if stream.endswith("@trade")}
                await until(lambda: feed.acknowledged == STREAMS)
                await until(lambda: all(len(kept.seen(stream)) > seen for stream, seen in mark.items()))

            await flowing()
            simulator.control("refuse_connections", n=2)
            simulator.control("drop_connections", n=1)
            await until(lambda: kept.outcomes["handshake_rejected"] == 2)
            await flowing()
            frozen = simulator.state()["connections"][0]["id"]
            simulator.control("freeze", connection=frozen, seconds=30.0)
            await until(lambda: kept.outcomes["silent"])
            await flowing()
            simulator.control("ack_silent", n=1)
            simulator.control("drop_connections", n=1, how="close")
            await until(lambda: kept.outcomes["no_data"])
            await flowing()
            fired = simulator.faults()
            assert fired["drop_connections"]["fired"] == 2
            assert fired["refuse_connections"]["fired"] == 2
            assert fired["freeze"]["fired"] == 1
            assert fired["ack_silent"]["fired"] == 1
        expected = {"reset", "handshake_rejected", "silent", "server_closed", "no_data", "stopped"}
        assert set(kept.outcomes) == expected

    asyncio.run(test())
