"""The clock probe against a REST server whose clock is known."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from crypto_lake.capture.intake_protocol import Drained
from crypto_lake.capture.probe import ClockProbe, ProbeError, read_clock_setting
from crypto_lake.lake import control
from crypto_lake.model.clock import ClockSetting, ExchangeClock, SystemClock

AHEAD_US = 1_270_000_000  # far more than any delay of this machine


class Events:
    paused = False

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def drain(self, connection: str, received_ns: int, messages: list[bytes]) -> Drained:
        raise AssertionError("the probe receives nothing")

    def event(self, connection: str, event: control.AnyEvent) -> None:
        self.events.append((connection, event))


@contextlib.asynccontextmanager
async def rest(**routes: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    application = web.Application()
    for name, handler in routes.items():
        application.router.add_get({"time": "/api/v3/time", "clock": "/control/clock"}[name], handler)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def in_microseconds(request: web.Request) -> web.Response:
    assert request.headers["X-MBX-TIME-UNIT"] == "MICROSECOND"
    return web.json_response({"serverTime": time.time_ns() // 1000 + AHEAD_US})


async def in_milliseconds(request: web.Request) -> web.Response:
    return web.json_response({"serverTime": (time.time_ns() // 1000 + AHEAD_US) // 1000})


@pytest.mark.parametrize("handler", [in_microseconds, in_milliseconds])
def test_the_offset_is_right_within_half_the_round_trip(handler: Any) -> None:
    async def test() -> None:
        events = Events()
        async with rest(time=handler) as url:
            probe = ClockProbe(url, events, SystemClock(), name="collector")
            assert probe.latest is None
            measured = await probe.measure()
        assert probe.latest == measured
        assert events.events == [("collector", measured)]
        assert measured.round_trip_us > 0
        # A server that tells milliseconds may be a whole one behind.
        slack_us = measured.round_trip_us / 2 + 1001
        assert abs(measured.offset_us - AHEAD_US) <= slack_us

    asyncio.run(test())


def test_the_shortest_way_counts() -> None:
    async def test() -> None:
        calls = 0

        async def mostly_slow(request: web.Request) -> web.Response:
            nonlocal calls
            calls += 1
            answer = await in_microseconds(request)
            if calls != 3:
                await asyncio.sleep(0.2)  # on the way back, which spoils the middle
            return answer

        async with rest(time=mostly_slow) as url:
            measured = await ClockProbe(url, Events(), SystemClock()).measure()
        assert calls == 5
        assert measured.round_trip_us < 200_000

    asyncio.run(test())


async def broken(request: web.Request) -> web.Response:
    return web.Response(text="<html>")


async def unavailable(request: web.Request) -> web.Response:
    return web.Response(status=503)


@pytest.mark.parametrize("handler", [broken, unavailable, None])
def test_a_time_that_cannot_be_read_is_told_and_tried_again(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        events = Events()
        async with rest(**({"time": handler} if handler else {})) as url:
            with pytest.raises(ProbeError, match=r"/api/v3/time"):
                await ClockProbe(url, events, SystemClock()).measure()
            probe = ClockProbe(url, events, SystemClock(), every_seconds=0.001)
            running = asyncio.ensure_future(probe.run())
            while probe.failures < 3:
                await asyncio.sleep(0.001)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert events.events == []
        assert probe.latest is None
        assert "clock offset not measured" in caplog.text
        with pytest.raises(ProbeError):  # and nobody listens
            await ClockProbe(url, events, SystemClock()).measure()

    asyncio.run(test())


def test_a_clock_that_follows_the_exchange_follows_its_changes() -> None:
    async def test() -> None:
        setting = {
            "exchange_ns": 1_723_161_254_000_000_000,
            "wall_ns": time.time_ns(),
            "speed": 10.0,
            "more": 1,
        }

        async def clock(request: web.Request) -> web.Response:
            return web.json_response(setting)

        async def now(request: web.Request) -> web.Response:
            at = ClockSetting(setting["exchange_ns"], setting["wall_ns"], setting["speed"]).at(time.time_ns())
            return web.json_response({"serverTime": at // 1000})

        async with rest(time=now, clock=clock) as url:
            read = await read_clock_setting(url)
            assert read == ClockSetting(setting["exchange_ns"], setting["wall_ns"], 10.0)
            following = ExchangeClock(read)
            setting |= {"exchange_ns": 1_800_000_000_000_000_000, "wall_ns": time.time_ns(), "speed": 60.0}
            measured = await ClockProbe(url, Events(), following).measure()
        assert following.speed == 60.0
        # It runs sixty times as fast, so the error of half a round trip is sixty times as large.
        assert abs(measured.offset_us) <= 60 * measured.round_trip_us

    asyncio.run(test())


def test_a_real_exchange_has_no_clock_to_follow() -> None:
    async def test() -> None:
        async with rest() as url:
            with pytest.raises(ProbeError, match="control/clock: HTTP 404"):
                await read_clock_setting(url)

    asyncio.run(test())
