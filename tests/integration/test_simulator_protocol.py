"""The simulator as a client sees it: real sockets, the exchange's protocol and its limits."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from crypto_lake.model.decimals import format_e8
from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings, StartWhen

START_US = 1_723_161_254_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "DOTUSDT")
SECONDS = 120


def market() -> GeneratedMarket:
    return GeneratedMarket(11, SYMBOLS, start_us=START_US, activity=0.3)


@asynccontextmanager
async def simulating(**settings: Any) -> Any:
    async with (
        asyncio.timeout(SECONDS),
        Simulator(market(), Settings(**settings)) as simulator,
        aiohttp.ClientSession() as session,
    ):
        yield simulator, session


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


async def reply(ws: Any, request: dict[str, Any]) -> Any:
    """Send a request; the next message that is not a stream's."""
    await ws.send_json(request)
    while True:
        found = json.loads((await ws.receive()).data)
        if "stream" not in found and "e" not in found and "u" not in found:
            return found


async def take(ws: Any, count: int) -> list[Any]:
    return [json.loads((await ws.receive()).data) for _ in range(count)]


async def end_of(ws: Any) -> tuple[Any, int | None]:
    while True:
        message = await ws.receive()
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR):
            return message.type, ws.close_code


def test_combined_and_raw_streams_say_the_same() -> None:
    async def test() -> None:
        async with (
            simulating(speed=0, start_when=StartWhen.COMMAND) as (simulator, session),
            session.ws_connect(
                f"{simulator.websocket_url}/stream?streams=btcusdt@trade/ethusdt@bookTicker"
            ) as a,
            session.ws_connect(f"{simulator.websocket_url}/ws/btcusdt@trade/ethusdt@bookTicker") as b,
            session.ws_connect(f"{simulator.websocket_url}/ws/btcusdt@trade?timeUnit=MICROSECOND") as c,
        ):
            assert (await reply(a, {"method": "LIST_SUBSCRIPTIONS", "id": 3}))["result"] == [
                "btcusdt@trade",
                "ethusdt@bookTicker",
            ]
            assert await reply(b, {"method": "GET_PROPERTY", "params": ["combined"], "id": 1}) == {
                "result": False,
                "id": 1,
            }
            while len(simulator.hub.readers()) < 3:
                await asyncio.sleep(0.01)
            simulator.start()
            combined, raw, micro = await take(a, 300), await take(b, 300), await take(c, 20)
            assert [message["data"] for message in combined] == raw
            assert {message["stream"] for message in combined} == {"btcusdt@trade", "ethusdt@bookTicker"}
            trades = [message for message in raw if message.get("e") == "trade"]
            first = simulator.market.first_id("BTCUSDT")
            truth = simulator.market.trades("BTCUSDT", first, first + len(trades) - 1)
            assert trades == [
                {
                    "e": "trade",
                    "E": t.event_us // 1000,
                    "s": "BTCUSDT",
                    "t": t.id,
                    "p": format_e8(t.price_e8),
                    "q": format_e8(t.size_e8),
                    "T": t.time_us // 1000,
                    "m": t.buyer_is_maker,
                    "M": True,
                }
                for t in truth
            ]
            assert [(m["T"], m["E"]) for m in micro] == [(t.time_us, t.event_us) for t in truth[:20]]

    run(test)


def test_streams_come_and_go_by_message_and_unknown_ones_are_acknowledged() -> None:
    async def test() -> None:
        async with (
            simulating(speed=20, start_when=StartWhen.AT_ONCE, messages_per_second=50) as (
                simulator,
                session,
            ),
            session.ws_connect(f"{simulator.websocket_url}/stream") as ws,
        ):
            wanted = ["btcusdt@trade", "nosuch@trade", "btcusdt@nothing"]
            assert await reply(ws, {"method": "SUBSCRIBE", "params": wanted, "id": "a"}) == {
                "result": None,
                "id": "a",
            }
            assert (await reply(ws, {"method": "LIST_SUBSCRIPTIONS", "id": 1}))["result"] == wanted
            assert {m["stream"] for m in await take(ws, 50)} == {"btcusdt@trade"}
            await reply(ws, {"method": "SUBSCRIBE", "params": ["ethusdt@bookTicker"], "id": 2})
            await reply(ws, {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 3})
            assert {m["stream"] for m in await take(ws, 50)} == {"ethusdt@bookTicker"}
            await reply(ws, {"method": "SET_PROPERTY", "params": ["combined", False], "id": 4})
            assert all(m["s"] == "ETHUSDT" for m in await take(ws, 20))
            refused = await reply(ws, {"method": "SUBSCRIBE", "params": "btcusdt@trade", "id": 5})
            assert (refused["code"], refused["id"]) == (2, 5)
            await ws.send_str("{")
            assert (await reply(ws, {"method": "nothing", "id": 6}))["code"] in (2, 3)

    run(test)


def test_kline_streams_agree_with_rest() -> None:
    async def test() -> None:
        async with (
            simulating(speed=0) as (simulator, session),
            session.ws_connect(
                f"{simulator.websocket_url}/stream?streams=dotusdt@kline_1s/btcusdt@trade/btcusdt@aggTrade"
            ) as ws,
        ):
            closed: dict[int, Any] = {}
            running = 0
            aggregated: list[Any] = []
            while len(closed) < 90:
                for message in await take(ws, 1):
                    if message["stream"] == "btcusdt@aggTrade":
                        aggregated.append(message["data"])
                    elif message["stream"] == "dotusdt@kline_1s":
                        kline = message["data"]["k"]
                        running += not kline["x"]
                        if kline["x"]:
                            closed[kline["t"]] = kline
            assert running > 0
            assert sorted(closed) == list(range(min(closed), min(closed) + 1000 * len(closed), 1000))
            url = f"{simulator.rest_url}/api/v3/klines?symbol=DOTUSDT&interval=1s&startTime={min(closed)}&limit=90"
            async with session.get(url) as response:
                rows = await response.json()
            assert [
                [k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["T"], k["q"], k["n"], k["V"], k["Q"]]
                for k in closed.values()
            ] == [row[:11] for row in rows]
            empty = [k for k in closed.values() if k["n"] == 0]
            assert empty
            assert all((k["f"], k["L"]) == (-1, -1) for k in empty)
            ids = [id_ for a in aggregated for id_ in range(a["f"], a["l"] + 1)]
            assert ids == list(range(ids[0], ids[0] + len(ids)))

    run(test)


def test_rest_serves_every_trade_once_and_nothing_of_the_future() -> None:
    async def test() -> None:
        async with (
            simulating(speed=0, weight_limit=100_000) as (simulator, session),
            session.ws_connect(f"{simulator.websocket_url}/ws/ethusdt@trade") as ws,
        ):
            await take(ws, 1500)
            simulator.player.begun.clear()
            get = rest(session, simulator)
            now_ms = (await get("time"))["serverTime"]
            market, symbol = simulator.market, "ETHUSDT"
            found: list[Any] = []
            at = 0
            while page := await get("historicalTrades", symbol=symbol, fromId=at, limit=400):
                found += page
                at = page[-1]["id"] + 1
                if page[-1]["time"] >= now_ms:
                    break
            known = market.trades(symbol, 0, found[-1]["id"])
            assert [row["id"] for row in found] == [trade.id for trade in known]
            for row, trade in zip(found, known, strict=True):
                assert row["price"] == format_e8(trade.price_e8)
                assert row["quoteQty"] == format_e8(trade.price_e8 * trade.size_e8 // 10**8)
                assert row["time"] == trade.time_us // 1000
            newest = await get("trades", symbol=symbol, limit=5)
            assert [row["id"] for row in newest] == list(range(newest[0]["id"], newest[0]["id"] + 5))
            assert await get("historicalTrades", symbol=symbol, fromId=10**15) == []
            first, second = known[10].time_us // 1000, known[700].time_us // 1000
            aggregates = await get("aggTrades", symbol=symbol, startTime=first, endTime=second, limit=1000)
            covered = [id_ for a in aggregates for id_ in range(a["f"], a["l"] + 1)]
            assert covered == [t.id for t in known if first <= t.time_us // 1000 <= second]
            on = await get("aggTrades", symbol=symbol, fromId=aggregates[3]["a"], limit=2)
            assert on == aggregates[3:5]
            headers = {"X-MBX-TIME-UNIT": "MICROSECOND"}
            row = (await get("historicalTrades", headers, symbol=symbol, fromId=known[0].id, limit=1))[0]
            assert row["time"] == known[0].time_us
            kline = (await get("klines", headers, symbol=symbol, interval="1m", limit=1))[0]
            assert (kline[0] % 60_000_000, kline[6]) == (0, kline[0] + 59_999_999)
            info = await get("exchangeInfo", symbols='["BTCUSDT","DOTUSDT"]')
            assert [s["symbol"] for s in info["symbols"]] == ["BTCUSDT", "DOTUSDT"]
            assert await get("ping") == {}

    run(test)


def rest(session: aiohttp.ClientSession, simulator: Simulator) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def get(path: str, headers: dict[str, str] | None = None, **query: Any) -> Any:
        url = f"{simulator.rest_url}/api/v3/{path}"
        async with session.get(url, params=query, headers=headers) as response:
            return await response.json()

    return get


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("trades", -1102),
        ("trades?symbol=NOPE", -1121),
        ("klines?symbol=BTCUSDT&interval=7s", -1120),
        ("klines?symbol=BTCUSDT", -1102),
        ("trades?symbol=BTCUSDT&limit=x", -1100),
        ("trades?symbol=BTCUSDT&limit=0", -1130),
        ("aggTrades?symbol=BTCUSDT&fromId=1&startTime=1", -1128),
    ],
)
def test_bad_rest_requests_have_the_exchanges_codes(path: str, code: int) -> None:
    async def test() -> None:
        async with (
            simulating() as (simulator, session),
            session.get(f"{simulator.rest_url}/api/v3/{path}") as response,
        ):
            assert response.status == 400
            assert (await response.json())["code"] == code

    run(test)


def test_weight_is_told_then_429_then_418(monkeypatch: pytest.MonkeyPatch) -> None:
    # Weight counts by the minutes of the machine's clock: here it stands in one.
    monkeypatch.setattr("crypto_lake.simulator.rest.time", SimpleNamespace(time=lambda: 1_800_000_000.0))

    async def test() -> None:
        async with simulating(weight_limit=60, ban_after=2) as (simulator, session):
            seen: list[tuple[int, str]] = []
            for _ in range(6):
                async with session.get(f"{simulator.rest_url}/api/v3/trades?symbol=BTCUSDT") as response:
                    seen.append((response.status, response.headers["X-MBX-USED-WEIGHT-1M"]))
                    if response.status != 200:
                        assert int(response.headers["Retry-After"]) > 0
                        assert (await response.json())["code"] == -1003
            statuses = [status for status, _ in seen]
            assert seen[0][1] == "25"
            assert statuses == [200, 200, 429, 429, 418, 418]

    run(test)


def test_more_than_five_messages_a_second_end_the_connection() -> None:
    async def test() -> None:
        async with (
            simulating() as (simulator, session),
            session.ws_connect(f"{simulator.websocket_url}/stream") as ws,
        ):
            for _ in range(3):
                await ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 1})
                await ws.ping()
            kind, code = await end_of(ws)
            assert (kind, code) == (WSMsgType.CLOSE, 1008)
            await until(lambda: simulator.state()["ended"] == {"too_many_messages": 1})

    run(test)


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_pings_carry_a_payload_and_only_its_copy_saves_the_connection() -> None:
    async def test() -> None:
        async with simulating(ping_seconds=0.1, pong_timeout_seconds=1.5, messages_per_second=1000) as (
            simulator,
            session,
        ):
            url = f"{simulator.websocket_url}/stream"
            async with (
                session.ws_connect(url, autoping=False) as good,
                session.ws_connect(url, autoping=False) as behind,
                session.ws_connect(url, autoping=False) as bad,
            ):

                async def answer(ws: Any, copy: bool, each: int = 1) -> int:
                    pings = 0
                    while pings < 40:
                        message = await ws.receive()
                        if message.type is not WSMsgType.PING:
                            return pings
                        assert message.data
                        pings += 1
                        if pings % each == 0:
                            await ws.pong(message.data if copy else b"")
                    return pings

                saved, late, lost = await asyncio.gather(
                    answer(good, True), answer(behind, True, each=3), answer(bad, False)
                )
                assert saved == late == 40  # the answer to the latest ping stands for those before
                assert 0 < lost < 40
                assert simulator.state()["ended"] == {"no_pong": 1}

    run(test)


def test_a_connection_ends_at_its_lifetime_with_a_notice_before() -> None:
    async def test() -> None:
        async with (
            simulating(lifetime_seconds=0.4, shutdown_lead_seconds=0.2) as (simulator, session),
            session.ws_connect(f"{simulator.websocket_url}/stream") as combined,
            session.ws_connect(f"{simulator.websocket_url}/ws") as raw,
        ):
            (notice,) = await take(combined, 1)
            assert notice["stream"] == "!serverShutdown"
            assert notice["data"]["e"] == "serverShutdown"
            assert notice["data"]["E"] >= START_US // 1000
            (notice,) = await take(raw, 1)
            assert notice["e"] == "serverShutdown"
            assert await end_of(combined) == (WSMsgType.CLOSE, 1001)
            await until(lambda: simulator.state()["ended"] == {"lifetime": 2})

    run(test)


def test_too_many_streams_and_attempts_are_refused() -> None:
    async def test() -> None:
        async with simulating(connection_attempts=3) as (simulator, session):
            base = simulator.websocket_url
            names = "/".join(f"s{i}@trade" for i in range(1025))
            for path, status in (
                (f"/stream?streams={names}", 400),
                ("/stream?timeUnit=HOUR", 400),
                (f"/stream?streams={names.rpartition('/')[0]}", 101),
                ("/stream", 429),
            ):
                if status == 101:
                    async with session.ws_connect(base + path) as ws:
                        assert (
                            len((await reply(ws, {"method": "LIST_SUBSCRIPTIONS", "id": 1}))["result"])
                            == 1024
                        )
                    continue
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(base + path)
                assert refused.value.status == status

    run(test)


def test_tls_is_trusted_by_its_authority_and_by_nothing_else(tmp_path: Path) -> None:
    async def test() -> None:
        ca_file = tmp_path / "ca.pem"
        async with simulating(tls=True, ca_file=ca_file, speed=20, start_when=StartWhen.AT_ONCE) as (
            simulator,
            session,
        ):
            trusting = ssl.create_default_context(cafile=str(ca_file))
            assert simulator.websocket_url.startswith("wss://127.0.0.1:")
            for host in ("127.0.0.1", "localhost"):
                url = f"https://{host}:{simulator.port}/api/v3/ping"
                async with session.get(url, ssl=trusting) as response:
                    assert response.status == 200
            async with session.ws_connect(f"{simulator.websocket_url}/ws/btcusdt@trade", ssl=trusting) as ws:
                assert (await take(ws, 3))[0]["e"] == "trade"
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(f"{simulator.rest_url}/api/v3/ping", ssl=ssl.create_default_context())

    run(test)


def test_at_full_speed_the_slowest_reader_sets_the_pace() -> None:
    async def test() -> None:
        url = "/stream?streams=btcusdt@trade/btcusdt@bookTicker/ethusdt@bookTicker"
        async with simulating(speed=0, start_when=StartWhen.COMMAND) as (simulator, session):
            async with session.ws_connect(simulator.websocket_url + url) as slow:
                async with session.ws_connect(simulator.websocket_url + url) as fast:
                    await until(lambda: len(simulator.hub.readers()) == 2)
                    simulator.start()
                    reading = asyncio.create_task(take(fast, 10**9))
                    await until(lambda: sum(simulator.state()["sent"].values()) > 0)
                    sent = -1
                    while sent != (sent := sum(simulator.state()["sent"].values())):
                        await asyncio.sleep(0.5)  # it stands still: the slow one has read nothing
                    assert not reading.done()
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)
                ids = [m["data"]["t"] for m in await take(slow, sent * 2) if m["stream"] == "btcusdt@trade"]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
            assert ids[0] == simulator.market.first_id("BTCUSDT")

    run(test)
