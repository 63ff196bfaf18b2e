"""Faults on demand: each fires, is counted, and names what it withheld."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from crypto_lake.simulator.generated import GeneratedMarket
from crypto_lake.simulator.server import Simulator
from crypto_lake.simulator.settings import Settings, StartWhen

START_US = 1_723_161_254_000_000
STREAM = "btcusdt@trade"


@asynccontextmanager
async def simulating(**settings: Any) -> Any:
    defaults: dict[str, Any] = {"speed": 20, "start_when": StartWhen.AT_ONCE}
    market = GeneratedMarket(4, ("BTCUSDT", "ETHUSDT"), start_us=START_US, activity=0.3)
    async with (
        asyncio.timeout(120),
        Simulator(market, Settings(**(defaults | settings))) as simulator,
        aiohttp.ClientSession() as session,
    ):
        yield simulator, session


def held() -> Any:
    """A market that begins when the faults are ordered: a client that is behind has nothing left from before them."""
    return simulating(start_when=StartWhen.COMMAND)


async def begin(simulator: Simulator) -> None:
    """Once there is somebody who listens."""
    await until(simulator.hub.readers)
    simulator.start()


@asynccontextmanager
async def listening(simulator: Simulator, session: aiohttp.ClientSession, streams: str = STREAM) -> Any:
    async with session.ws_connect(f"{simulator.websocket_url}/stream?streams={streams}") as ws:
        yield ws


async def trades(ws: Any, count: int) -> list[Any]:
    return [json.loads((await ws.receive()).data)["data"] for _ in range(count)]


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def fault(session: aiohttp.ClientSession, simulator: Simulator, **order: Any) -> None:
    async with session.post(f"{simulator.rest_url}/control/faults", json=order) as response:
        assert response.status == 200, await response.text()


async def report(session: aiohttp.ClientSession, simulator: Simulator, path: str = "faults") -> Any:
    async with session.get(f"{simulator.rest_url}/control/{path}") as response:
        return await response.json()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_what_is_swallowed_is_named_to_the_id_and_to_the_connection() -> None:
    async def test() -> None:
        async with (
            simulating() as (simulator, session),
            listening(simulator, session) as first,
            listening(simulator, session) as second,
        ):
            await trades(first, 1)
            await trades(second, 1)
            await fault(session, simulator, kind="swallow", stream=STREAM, n=5)
            await fault(session, simulator, kind="swallow", stream=STREAM, n=3, connection="c2")
            await until(lambda: simulator.faults()["swallow"]["fired"] == 8)
            swallowed = (await report(session, simulator))["swallow"]
            assert sum(b - a + 1 for a, b in swallowed["withheld"]["BTCUSDT"]) == 5
            withheld = {c: ids_in(of["BTCUSDT"]) for c, of in swallowed["by_connection"].items()}
            # Between the two orders, too, trades may have come: what counts is that some come after all that is missing.
            last = max(max(missing) for missing in withheld.values())
            await until(lambda: all(v[-1][1] > last for v in simulator.delivered(STREAM).values()))
            assert len(withheld["c1"]) == 5
            assert len(withheld["c2"]) == 8
            delivered = (await report(session, simulator, f"delivered?stream={STREAM}"))["connections"]
            for name, missing in withheld.items():
                got = ids_in(delivered[name])
                assert not got & missing
                assert set(range(min(got), max(got) + 1)) - got == missing

    run(test)


def ids_in(intervals: list[list[int]]) -> set[int]:
    return {id_ for first, last in intervals for id_ in range(first, last + 1)}


def test_duplicates_and_disorder_lose_nothing() -> None:
    async def test() -> None:
        async with held() as (simulator, session), listening(simulator, session) as ws:
            await fault(session, simulator, kind="duplicate", stream=STREAM, n=7)
            await fault(session, simulator, kind="reorder", stream=STREAM, n=2, window=5)
            await begin(simulator)
            found: list[int] = []
            while simulator.faults()["reorder"]["fired"] < 2 or len(found) < 60:
                found += [trade["t"] for trade in await trades(ws, 1)]
            assert found != sorted(found)
            assert set(range(min(found), max(found) + 1)) == set(found)
            assert len(found) - len(set(found)) == 7 == simulator.faults()["duplicate"]["fired"]

    run(test)


def test_a_seeded_mix_goes_on_until_it_is_cleared() -> None:
    async def test() -> None:
        async with held() as (simulator, session), listening(simulator, session) as ws:
            await fault(session, simulator, kind="mix", duplicate=0.2, reorder=0.2, seed=3)
            await begin(simulator)
            found = [trade["t"] for trade in await trades(ws, 200)]
            fired = simulator.faults()
            assert fired["duplicate"]["fired"] > 0
            assert fired["reorder"]["fired"] > 0
            assert found != sorted(found)
            async with session.delete(f"{simulator.rest_url}/control/faults") as response:
                assert response.status == 200
            assert simulator.hub.faults.rules == []

    run(test)


def test_late_trades_keep_their_time() -> None:
    async def test() -> None:
        async with simulating() as (simulator, session), listening(simulator, session) as ws:
            (last,) = await trades(ws, 1)
            await fault(session, simulator, kind="late", stream=STREAM, n=2, delay=3)
            late: list[Any] = []
            while len(late) < 2:
                (trade,) = await trades(ws, 1)
                if trade["t"] < last["t"]:
                    late.append(trade)
                last = max(last, trade, key=lambda t: t["t"])
            assert simulator.faults()["late"]["fired"] == 2
            for trade in late:
                (truth,) = simulator.market.trades("BTCUSDT", trade["t"], trade["t"])
                assert trade["T"] == truth.time_us // 1000
                assert trade["E"] == (truth.event_us + 3_000_000) // 1000

    run(test)


@pytest.mark.parametrize("how", ["abort", "close"])
def test_connections_are_dropped(how: str) -> None:
    async def test() -> None:
        async with (
            simulating() as (simulator, session),
            listening(simulator, session) as first,
            listening(simulator, session) as second,
        ):
            await fault(session, simulator, kind="drop_connections", connection="c1", how=how)
            while (message := await first.receive()).type is WSMsgType.TEXT:
                pass
            assert (message.type is WSMsgType.CLOSE) == (how == "close")
            assert (await second.receive()).type is WSMsgType.TEXT
            found = await report(session, simulator)
            assert found["drop_connections"] == {"fired": 1}
            await until(lambda: [c["id"] for c in simulator.state()["connections"]] == ["c2"])
            assert simulator.state()["ended"] == {"fault": 1}

    run(test)


def test_connections_are_refused_by_number_and_by_time() -> None:
    async def test() -> None:
        async with simulating() as (simulator, session):
            url = f"{simulator.websocket_url}/stream"
            await fault(session, simulator, kind="refuse_connections", n=2)
            for _ in range(2):
                with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                    await session.ws_connect(url)
            async with session.ws_connect(url):
                pass
            await fault(session, simulator, kind="refuse_connections", seconds=60, how="reset")
            with pytest.raises(aiohttp.ClientError):
                await session.ws_connect(url)
            assert simulator.faults()["refuse_connections"]["fired"] > 2  # a client may try again by itself
            simulator.clear_faults()
            async with session.ws_connect(url):
                pass

    run(test)


@pytest.mark.parametrize("what", ["json", "newline", "utf8"])
def test_garbage_reaches_the_client_as_it_is(what: str) -> None:
    async def test() -> None:
        async with simulating(start_when=StartWhen.COMMAND) as (simulator, session):
            async with session.ws_connect(f"{simulator.websocket_url}/stream") as ws:
                await fault(session, simulator, kind="garbage", what=what, binary=what == "utf8")
                payload = (await ws.receive()).data
                if what == "newline":
                    assert "\n" in payload
                elif what == "utf8":
                    with pytest.raises(UnicodeDecodeError):
                        payload.decode()
                else:
                    with pytest.raises(json.JSONDecodeError):
                        json.loads(payload)
                await fault(session, simulator, kind="garbage", bytes_hex="7b00", connection="c1")
                assert (await ws.receive()).data == "{\x00"
            assert simulator.faults()["garbage"] == {"fired": 2}

    run(test)


def test_a_frozen_connection_is_open_silent_and_misses_what_is_named() -> None:
    async def test() -> None:
        async with simulating() as (simulator, session), listening(simulator, session) as ws:
            await trades(ws, 1)
            await fault(session, simulator, kind="freeze", seconds=0.5)
            await until(lambda: not simulator.state()["connections"][0]["frozen"])
            await until(lambda: len(simulator.delivered(STREAM)["c1"]) == 2)
            frozen = simulator.faults()["freeze"]
            assert frozen["fired"] == 1
            (before, after) = simulator.delivered(STREAM)["c1"]
            assert frozen["by_connection"]["c1"]["BTCUSDT"] == [(before[1] + 1, after[0] - 1)]
            count = before[1] - before[0] + after[1] - after[0]
            ids = [trade["t"] for trade in await trades(ws, count)]
            assert not set(ids) & set(range(before[1] + 1, after[0]))

    run(test)


def test_a_subscription_is_acknowledged_and_nothing_comes() -> None:
    async def test() -> None:
        async with simulating() as (simulator, session):
            await fault(session, simulator, kind="ack_silent", n=1)
            async with session.ws_connect(f"{simulator.websocket_url}/stream") as ws:
                await ws.send_json({"method": "SUBSCRIBE", "params": [STREAM], "id": 1})
                assert json.loads((await ws.receive()).data) == {"result": None, "id": 1}
                with pytest.raises(TimeoutError):
                    await ws.receive(timeout=0.3)
            async with listening(simulator, session) as ws:
                assert await trades(ws, 3)
            assert simulator.faults()["ack_silent"] == {"fired": 1}

    run(test)


def test_a_shutdown_is_announced_and_then_happens() -> None:
    async def test() -> None:
        async with simulating() as (simulator, session), listening(simulator, session) as ws:
            await fault(session, simulator, kind="shutdown", seconds=0.2)
            said = []
            while (message := await ws.receive()).type is WSMsgType.TEXT:
                said.append(json.loads(message.data)["stream"])
            assert message.type is WSMsgType.CLOSE
            assert said.count("!serverShutdown") == 1
            assert simulator.faults()["shutdown"] == {"fired": 1}

    run(test)


def test_rest_fails_so_many_times() -> None:
    async def test() -> None:
        async with simulating() as (simulator, session):
            await fault(session, simulator, kind="rest", n=2, status=502)
            statuses = []
            for _ in range(3):
                async with session.get(f"{simulator.rest_url}/api/v3/ping") as response:
                    statuses.append(response.status)
            assert statuses == [502, 502, 200]
            assert simulator.faults()["rest"] == {"fired": 2}

    run(test)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"kind": "swalow", "stream": STREAM}, "did you mean 'swallow'"),
        ({"kind": "swallow", "steam": STREAM}, "steam"),
        ({"stream": STREAM}, "kind"),
        ({"kind": "swallow", "n": 0}, "n must be 1 or more"),
        ({"kind": "drop_connections", "connection": "c99"}, "no connection 'c99'"),
        ({"kind": "refuse_connections"}, "either n or seconds"),
        ({"kind": "refuse_connections", "n": 1, "how": "rudely"}, "rudely"),
        ({"kind": "reorder", "window": 1}, "window 2 or more"),
        ({"kind": "garbage", "what": "paint"}, "paint"),
        ({"kind": "garbage", "bytes_hex": "zz"}, "zz"),
        ({"kind": "mix", "duplicate": 2}, "probabilities"),
        (
            {"kind": "duplicate", "connection": "c1"},
            "duplicate takes no connection; its fields are n, stream",
        ),
        ({"kind": "late", "delay": -1}, "delay is -1"),
        ({"kind": "freeze", "seconds": float("nan")}, "seconds is nan"),
        ({"kind": "shutdown", "seconds": float("inf")}, "seconds is inf"),
        ({"kind": "drop_connections", "how": "gently"}, "gently"),
        ({"kind": "rest", "status": 200}, "status is 200"),
        ("swallow", "object"),
    ],
)
def test_orders_that_are_none_are_refused_with_a_reason(order: Any, reason: str) -> None:
    async def test() -> None:
        async with simulating() as (simulator, session):
            async with session.post(f"{simulator.rest_url}/control/faults", json=order) as response:
                assert response.status == 400
                assert reason in (await response.json())["error"]
            assert all(found["fired"] == 0 for found in simulator.faults().values())

    run(test)


def test_a_stuck_stream_repeats_its_last_message_to_one_connection_alone() -> None:
    async def test() -> None:
        async with (
            simulating() as (simulator, session),
            listening(simulator, session) as one,
            listening(simulator, session) as other,
        ):
            await trades(one, 3)
            stuck, free = list(simulator.hub.connections)
            await fault(session, simulator, kind="stuck", stream=STREAM, connection=stuck, n=50)
            await until(lambda: simulator.faults()["stuck"]["fired"] == 50)
            told = (await report(session, simulator))["stuck"]
            ((first, last),) = told["by_connection"][stuck]["BTCUSDT"]
            ids: list[int] = []
            while not ids or ids[-1] <= last:
                ids += [trade["t"] for trade in await trades(one, 10)]
            repeated = max(ids, key=ids.count)
            assert ids.count(repeated) == 51
            assert (repeated, last - first + 1) == (first - 1, 50)
            there = [trade["t"] for trade in await trades(other, len(ids))]
            assert there == list(range(there[0], there[0] + len(ids)))
            assert free not in told["by_connection"]

    run(test)


def test_one_stream_of_many_is_acknowledged_and_nothing_comes_of_it() -> None:
    async def test() -> None:
        async with simulating() as (simulator, session):
            await fault(session, simulator, kind="ack_silent", stream=STREAM)
            async with listening(simulator, session, f"{STREAM}/btcusdt@bookTicker") as ws:
                heard = [json.loads((await ws.receive()).data)["stream"] for _ in range(30)]
                assert set(heard) == {"btcusdt@bookTicker"}
            async with listening(simulator, session) as ws:  # the next one is served
                assert await trades(ws, 2)
            assert (await report(session, simulator))["ack_silent"]["fired"] == 1

    run(test)


def test_a_halted_symbol_has_nothing_newer_and_says_so() -> None:
    async def test() -> None:
        async def get(path: str) -> Any:
            async with session.get(f"{simulator.rest_url}/api/v3/{path}") as response:
                assert response.status == 200
                return await response.json()

        async with (
            simulating() as (simulator, session),
            listening(simulator, session) as ws,
            listening(simulator, session, "ethusdt@trade") as other,
        ):
            await trades(ws, 5)
            symbols = 'ticker/24hr?symbols=["BTCUSDT","ETHUSDT"]'
            before = {row["symbol"]: row for row in await get(symbols)}
            assert float(before["BTCUSDT"]["bidPrice"]) > 0
            await fault(session, simulator, kind="halt", symbol="BTCUSDT")
            halted = {row["symbol"]: row["lastId"] for row in await get(symbols)}
            while (await trades(other, 1))[0]["t"] <= halted["ETHUSDT"]:
                pass  # sent before
            after = {row["symbol"]: row["lastId"] for row in await get(symbols)}
            assert after["BTCUSDT"] == halted["BTCUSDT"] >= before["BTCUSDT"]["lastId"]
            assert after["ETHUSDT"] > halted["ETHUSDT"]
            assert (await get("trades?symbol=BTCUSDT&limit=1"))[0]["id"] == halted["BTCUSDT"]
            status = {row["symbol"]: row["status"] for row in (await get("exchangeInfo"))["symbols"]}
            assert status == {"BTCUSDT": "BREAK", "ETHUSDT": "TRADING"}
            stopped_us = simulator.hub.halted["BTCUSDT"]
            klines = await get("klines?symbol=BTCUSDT&interval=1s&limit=5")
            assert max(row[0] for row in klines) * 1000 <= stopped_us

    run(test)
