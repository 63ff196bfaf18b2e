"""The feed over real sockets, against an exchange of a few lines with faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

from crypto_lake.capture.backoff import Backoff
from crypto_lake.capture.connection import ConnectionSettings
from crypto_lake.capture.feed import Feed, FeedSettings
from crypto_lake.capture.intake_protocol import Drained
from crypto_lake.capture.outcome import Reason
from crypto_lake.capture.transport import Target
from crypto_lake.exchanges import BINANCE, Exchange, UnassignableMessageError
from crypto_lake.lake import control
from crypto_lake.model.clock import SystemClock

# Binance, with limits that a test can reach, or that do not slow it down.
EXCHANGE = dataclasses.replace(
    BINANCE, limits=dataclasses.replace(BINANCE.limits, messages_per_second=1000, connection_attempts=10_000)
)
SYMBOLS = ("AAUSDT", "BBUSDT", "CCUSDT", "DDUSDT")


def names(symbols: Iterable[str]) -> set[str]:
    return {f"{symbol.lower()}@{kind}" for symbol in symbols for kind in ("trade", "bookTicker")}


class FakeExchange:
    """Trades of every symbol with ids that run on, sent to whoever subscribed; the market never waits."""

    def __init__(self) -> None:
        self.url = ""
        self.clients: dict[ServerConnection, set[str]] = {}
        self.attempts: list[float] = []
        self.reject: list[tuple[int, dict[str, str]]] = []  # answers to the next attempts, in place of 101
        self.reject_all = False
        self.unknown: set[str] = set()  # streams that are refused
        self.mute: set[str] = set()  # streams that are acknowledged and never sent
        self.frozen: set[ServerConnection] = set()
        self.fired: Counter[str] = Counter()  # faults that really happened
        self.last_id: defaultdict[str, int] = defaultdict(lambda: 1000)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[FakeExchange]:
        async with serve(
            self._client, "127.0.0.1", 0, process_request=self._request, compression=None, close_timeout=0.1
        ) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream"
            market = asyncio.ensure_future(self._market())
            try:
                yield self
            finally:
                market.cancel()

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.attempts.append(time.monotonic())
        if not self.reject and not self.reject_all:
            return None
        status, headers = self.reject.pop(0) if self.reject else (503, {})
        self.fired["reject"] += 1
        response = connection.respond(http.HTTPStatus(status), "no\n")
        response.headers.update(headers)
        return response

    async def _client(self, client: ServerConnection) -> None:
        self.clients[client] = streams = set[str]()
        try:
            async for message in client:
                request = json.loads(message)
                asked = set(request["params"])
                if request["method"] == "SUBSCRIBE" and asked & self.unknown:
                    self.fired["refuse"] += 1
                    await client.send(json.dumps({"code": 2, "msg": "unknown", "id": request["id"]}))
                    continue
                if request["method"] == "SUBSCRIBE":
                    streams |= asked
                else:
                    streams -= asked
                await client.send(json.dumps({"result": None, "id": request["id"]}))
        finally:
            del self.clients[client]

    async def _market(self) -> None:
        while True:
            await asyncio.sleep(0.003)
            now_ms = time.time_ns() // 1_000_000
            for symbol in SYMBOLS:
                self.last_id[symbol] += 1
                data = {"e": "trade", "E": now_ms, "s": symbol, "t": self.last_id[symbol], "T": now_ms}
                self._send(f"{symbol.lower()}@trade", data)
                self._send(f"{symbol.lower()}@bookTicker", {"u": self.last_id[symbol], "s": symbol})

    def _send(self, stream: str, data: dict[str, Any]) -> None:
        to = [
            client
            for client, streams in self.clients.items()
            if stream in streams and client not in self.frozen
        ]
        if stream in self.mute:
            self.fired["mute"] += len(to)
            return
        broadcast(to, json.dumps({"stream": stream, "data": data}))

    def announce_shutdown(self) -> None:
        self.fired["shutdown"] += len(self.clients)
        data = {"e": "serverShutdown", "E": time.time_ns() // 1_000_000}
        broadcast(self.clients, json.dumps({"stream": "!serverShutdown", "data": data}))

    def drop(self, stream: str) -> None:
        """Cut, without a word, every connection that carries the stream."""
        for client, streams in self.clients.items():
            if stream in streams:
                self.fired["drop"] += 1
                client.transport.abort()


class Kept:
    """An intake that keeps what it is given."""

    paused = False

    def __init__(self) -> None:
        self.trades: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.streams: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by connection
        self.events: list[tuple[str, control.AnyEvent]] = []

    def drain(self, connection: str, received_ns: int, messages: list[bytes]) -> Drained:
        controls, greatest, trades = [], 0, 0
        for message in messages:
            try:
                head = BINANCE.head(message)
            except UnassignableMessageError:
                continue
            if head.stream is None:
                controls.append(head)
                continue
            self.streams[connection][head.stream] += 1
            greatest = max(greatest, head.event_time_us)
            if head.trade_id >= 0:
                trades += 1
                self.trades[BINANCE.parse_stream_name(head.stream)[0]][connection].append(head.trade_id)
        return Drained(controls, greatest, trades)

    def event(self, connection: str, event: control.AnyEvent) -> None:
        self.events.append((connection, event))

    def of(self, kind: type[control.Event]) -> list[tuple[str, Any]]:
        return [(name, event) for name, event in self.events if isinstance(event, kind)]

    def ids(self, symbol: str) -> list[int]:
        return sorted({number for ids in self.trades[symbol].values() for number in ids})

    def assert_no_hole(self, symbols: Iterable[str] = SYMBOLS) -> None:
        for symbol in symbols:
            ids = self.ids(symbol)
            assert ids, symbol
            assert ids == list(range(ids[0], ids[-1] + 1)), symbol
            for on_one in self.trades[symbol].values():
                assert on_one == sorted(set(on_one))


def run(test: Callable[[FakeExchange, Kept], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(180), FakeExchange().open() as server:
            await test(server, Kept())

    asyncio.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def make_feed(
    server: FakeExchange,
    kept: Kept,
    symbols: Iterable[str] = SYMBOLS,
    exchange: Exchange = EXCHANGE,
    **settings: Any,
) -> Feed:
    connection = ConnectionSettings(
        Target(server.url, coalesce_ms=1.0, open_timeout_seconds=5.0),
        silence_seconds=settings.pop("silence_seconds", 30.0),
        overlap_seconds=settings.pop("overlap_seconds", 0.02),
        quiet_seconds=settings.pop("quiet_seconds", 1.0),
        alive_seconds=0.1,
    )
    settings.setdefault("backoff", Backoff(base_seconds=0.02, ceiling_seconds=0.1, healthy_seconds=1.0))
    return Feed(
        exchange,
        FeedSettings(connection, **settings),
        kept,
        SystemClock(),
        names(symbols),
        "c-t",
        chance=random.Random(5),
    )


@contextlib.asynccontextmanager
async def running(feed: Feed) -> AsyncIterator[None]:
    task = asyncio.ensure_future(feed.run())
    try:
        yield
    finally:
        await feed.stop()
        await task


def outcomes(kept: Kept) -> Counter[str]:
    return Counter(event.reason for _, event in kept.of(control.Disconnected))


def test_it_covers_every_stream_over_several_connections_and_stops() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        feed = make_feed(server, kept, streams_per_connection=4)
        async with running(feed):
            await until(lambda: all(len(kept.ids(symbol)) > 50 for symbol in SYMBOLS))
            await until(lambda: kept.of(control.Alive))
            assert feed.acknowledged == names(SYMBOLS)
            snapshot = feed.snapshot()
            assert sorted(c.name for c in snapshot.connections) == ["c-t-1", "c-t-2"]
            assert {c.state for c in snapshot.connections} == {"live"}
            assert sum(c.streams for c in snapshot.connections) == len(names(SYMBOLS))
            assert all(c.messages and c.bytes and c.exchange_time_us for c in snapshot.connections)
        kept.assert_no_hole()
        # No stream came over two connections, and both of a symbol came over one.
        for symbol in SYMBOLS:
            carriers = {c for c, seen in kept.streams.items() if names([symbol]) & set(seen)}
            assert len(carriers) == 1
        assert feed.snapshot() == ([], {"stopped": 2}, 0)
        assert outcomes(kept) == {"stopped": 2}
        for _, event in kept.of(control.Disconnected):
            assert event.exchange_time_us > 0
        await until(lambda: not server.clients)

    run(test)


def test_symbols_come_and_go_and_the_others_feel_nothing() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        feed = make_feed(server, kept, SYMBOLS[:2], streams_per_connection=6)
        async with running(feed):
            await until(lambda: all(kept.ids(symbol) for symbol in SYMBOLS[:2]))
            feed.set_streams(names(SYMBOLS))  # one fills the free places, one needs a new connection
            await until(lambda: all(kept.ids(symbol) for symbol in SYMBOLS))
            feed.set_streams(names([SYMBOLS[0], SYMBOLS[2]]))
            await until(lambda: kept.of(control.Unsubscribed) and outcomes(kept)["unsubscribed"])
            await until(lambda: set().union(*server.clients.values()) == names([SYMBOLS[0], SYMBOLS[2]]))
            mark = len(kept.ids(SYMBOLS[0]))
            await until(lambda: len(kept.ids(SYMBOLS[0])) > mark + 50)
            assert [c.name for c in feed.snapshot().connections] == ["c-t-1"]
            feed.set_streams(())
            await until(lambda: not feed.snapshot().connections)
            feed.set_streams(names([SYMBOLS[3]]))  # and from nothing again
            mark = len(kept.ids(SYMBOLS[3]))
            await until(lambda: len(kept.ids(SYMBOLS[3])) > mark)
        kept.assert_no_hole((SYMBOLS[0], SYMBOLS[1], SYMBOLS[2]))
        assert set(kept.trades[SYMBOLS[0]]) == {"c-t-1"}
        assert outcomes(kept) == {"unsubscribed": 2, "stopped": 1}

    run(test)


def test_a_dropped_connection_is_made_good_and_the_others_feel_nothing() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        feed = make_feed(server, kept, streams_per_connection=4)
        async with running(feed):
            await until(lambda: all(kept.ids(symbol) for symbol in SYMBOLS))
            for turn in range(1, 4):
                server.drop("aausdt@trade")
                await until(lambda turn=turn: len(kept.trades["AAUSDT"]) > turn)
            assert server.fired["drop"] == 3
            assert feed.snapshot().reconnects == 3
        kept.assert_no_hole(["CCUSDT", "DDUSDT"])
        assert outcomes(kept) == {"reset": 3, "stopped": 2}
        assert [event.replaces for _, event in kept.of(control.Connected)] == [None] * 5

    run(test)


def test_hand_over_by_age_leaves_no_hole() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        feed = make_feed(server, kept, streams_per_connection=4, handover_seconds=0.3)
        async with running(feed):
            await until(lambda: outcomes(kept)["lifetime"] >= 8)
        kept.assert_no_hole()
        assert set(outcomes(kept)) == {"lifetime", "stopped"}
        assert feed.snapshot().reconnects == 0
        by_name = dict(kept.of(control.Connected))
        ended = [name for name, event in kept.of(control.Disconnected) if event.reason == "lifetime"]
        successors = {event.replaces: name for name, event in by_name.items() if event.replaces}
        for old in ended:
            # Both delivered before the old one ended: something came twice.
            symbols = [symbol for symbol in SYMBOLS if old in kept.trades[symbol]]
            new = successors[old]
            assert any(set(kept.trades[symbol][old]) & set(kept.trades[symbol][new]) for symbol in symbols)

    run(test)


def test_hand_over_on_the_exchange_s_word_even_where_attempts_fail() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        feed = make_feed(server, kept)
        async with running(feed):
            await until(lambda: all(kept.ids(symbol) for symbol in SYMBOLS))
            (old,) = server.clients
            server.reject = [(503, {})] * 3
            server.announce_shutdown()
            await until(lambda: outcomes(kept)["server_shutdown"])
            await until(lambda: old not in server.clients)
            mark = len(kept.ids("AAUSDT"))
            await until(lambda: len(kept.ids("AAUSDT")) > mark + 50)
            assert server.fired == {"shutdown": 1, "reject": 3}
        kept.assert_no_hole()
        assert outcomes(kept) == {"handshake_rejected": 3, "server_shutdown": 1, "stopped": 1}

    run(test)


def test_a_close_in_the_middle_of_a_hand_over_promotes_the_new_connection() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        feed = make_feed(server, kept, SYMBOLS[:1])
        async with running(feed):
            await until(lambda: kept.ids("AAUSDT"))
            # The new connection gets nothing, so it does not cover yet when the old one is cut.
            (old,) = server.clients
            server.mute = names(SYMBOLS)
            server.announce_shutdown()
            await until(lambda: len(server.clients) == 2)
            old.transport.abort()
            await until(lambda: outcomes(kept)["reset"])
            server.mute = set()
            mark = len(kept.ids("AAUSDT"))
            await until(lambda: len(kept.ids("AAUSDT")) > mark)
            assert [c.name for c in feed.snapshot().connections] == ["c-t-2"]
            assert server.fired["mute"] > 0
        assert outcomes(kept) == {"reset": 1, "stopped": 1}

    run(test)


@pytest.mark.parametrize("status", [429, 418, 403])
def test_retry_after_is_obeyed_by_all_connections(status: int) -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        server.reject = [(status, {"Retry-After": "1"})]
        feed = make_feed(server, kept, SYMBOLS[:1])
        async with running(feed):
            await until(lambda: server.fired["reject"])
            await until(lambda: outcomes(kept)["handshake_rejected"])
            feed.set_streams(names(SYMBOLS))
            await until(lambda: kept.ids("DDUSDT"))
        rejected, *later = server.attempts
        assert later[0] - rejected >= 0.99
        assert outcomes(kept) == {"handshake_rejected": 1, "stopped": 1}

    run(test)


def test_attempts_stay_in_their_budget() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        server.reject_all = True
        limits = dataclasses.replace(EXCHANGE.limits, connection_attempts=10, connection_window_seconds=0.3)
        hasty = Backoff(base_seconds=0.001, ceiling_seconds=0.001)
        feed = make_feed(
            server,
            kept,
            exchange=dataclasses.replace(EXCHANGE, limits=limits),
            backoff=hasty,
            streams_per_connection=2,
        )
        started = time.monotonic()
        async with running(feed):
            await until(lambda: len(server.attempts) >= 33)
            took = time.monotonic() - started
            server.reject_all = False
            await until(lambda: all(kept.ids(symbol) for symbol in SYMBOLS))
        assert took >= 4 * 0.3  # eight of ten in each window, so the 33rd falls into the fifth
        assert server.fired["reject"] >= 33

    run(test)


def test_a_connection_that_is_acknowledged_and_sends_nothing_is_replaced() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        server.mute = names(["AAUSDT"])
        feed = make_feed(
            server, kept, SYMBOLS[:2], streams_per_connection=2, no_data_seconds=0.3, quiet_seconds=0.05
        )
        async with running(feed):
            await until(lambda: outcomes(kept)["no_data"])
            server.mute = set()
            await until(lambda: kept.ids("AAUSDT"))
            assert server.fired["mute"]
        kept.assert_no_hole(["BBUSDT"])
        assert len(kept.trades["BBUSDT"]) == 1

    run(test)


def test_a_frozen_connection_is_given_up() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        feed = make_feed(server, kept, SYMBOLS[:1], silence_seconds=0.4)
        async with running(feed):
            await until(lambda: kept.ids("AAUSDT"))
            server.frozen |= set(server.clients)
            await until(lambda: len(kept.trades["AAUSDT"]) == 2)
            assert outcomes(kept) == {"silent": 1}

    run(test)


def test_a_refused_stream_harms_no_other() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        server.unknown = {"bbusdt@trade"}
        feed = make_feed(server, kept)
        async with running(feed):
            await until(lambda: feed.refused == {"bbusdt@trade"})
            await until(lambda: feed.acknowledged == names(SYMBOLS) - server.unknown)
            await until(lambda: all(kept.ids(symbol) for symbol in SYMBOLS if symbol != "BBUSDT"))
            assert server.fired["refuse"] > 1
            assert len(server.attempts) == 1

    run(test)


def test_it_stops_while_a_handshake_hangs_and_when_it_is_cancelled() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        hanging = asyncio.Event()

        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            hanging.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(mute, "127.0.0.1", 0) as deaf:
            server.url = f"ws://127.0.0.1:{deaf.sockets[0].getsockname()[1]}/"
            async with running(make_feed(server, kept)):
                await hanging.wait()
            hanging.clear()
            cancelled = asyncio.ensure_future(make_feed(server, kept).run())
            await hanging.wait()
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        assert outcomes(kept) == {"stopped": 2}

    run(test)


def test_an_intake_that_can_keep_nothing_ends_the_feed() -> None:
    async def test(server: FakeExchange, kept: Kept) -> None:
        class Broken(Kept):
            def event(self, connection: str, event: control.AnyEvent) -> None:
                if isinstance(event, control.Alive):
                    raise OSError("no space")
                super().event(connection, event)

        with pytest.raises(ExceptionGroup) as failure:
            await make_feed(server, Broken()).run()
        assert failure.value.subgroup(OSError) is not None
        await until(lambda: not server.clients)

    run(test)


@pytest.mark.parametrize("most", [0, 1025])
def test_more_streams_than_the_exchange_allows_are_refused_at_once(most: int) -> None:
    with pytest.raises(ValueError, match="1 to 1024"):
        make_feed(FakeExchange(), Kept(), streams_per_connection=most)


def test_reasons_are_told_apart_by_intent() -> None:
    assert {reason for reason in Reason if reason.planned} == {
        Reason.LIFETIME,
        Reason.SERVER_SHUTDOWN,
        Reason.UNSUBSCRIBED,
        Reason.STOPPED,
    }
