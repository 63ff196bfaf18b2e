"""The exchange's clock against ours, by its REST interface."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import aiohttp
import msgspec

from crypto_lake.capture.intake_protocol import Intake
from crypto_lake.completeness.budget_file import Grant, WeightBudget, retry_after_of
from crypto_lake.exchanges.binance import to_us
from crypto_lake.lake import control
from crypto_lake.model.clock import Clock, ClockSetting, ExchangeClock

_log = logging.getLogger(__name__)

_REQUEST_SECONDS = 5.0
_TIME_WEIGHT = 1
_SAMPLES = 5  # of which the one with the shortest way counts

_Shape = TypeVar("_Shape", bound=msgspec.Struct)


class ProbeError(Exception):
    """The exchange's time could not be read; the text says where and why."""


class _ServerTime(msgspec.Struct):
    serverTime: int  # noqa: N815  the exchange's own name


class _ControlClock(msgspec.Struct):
    exchange_ns: int
    wall_ns: int
    speed: float


async def read_clock_setting(rest: str, tls: ssl.SSLContext | None = None) -> ClockSetting:
    """A simulator's clock, from GET <rest>/control/clock: for a lake with `clock: exchange`.

    Raises ProbeError; a real exchange has no such page.
    """
    async with _session(tls) as session:
        read = await _get(session, f"{rest}/control/clock", _ControlClock)
    return ClockSetting(exchange_ns=read.exchange_ns, wall_ns=read.wall_ns, speed=read.speed)


class ClockProbe:
    """Measures, tells the intake, and sleeps. A failed measurement is logged and tried again at the next turn.

    With an ExchangeClock the setting is read anew before each measurement, so that a simulator that was
    restarted or changed its speed is followed. `recording`: whether a measurement is told the intake, and so written
    down: of a collector that has no streams, it would date nothing. `budget`: the account that its questions go by; a
    ban is heard by all who ask.
    """

    def __init__(
        self,
        rest: str,
        intake: Intake,
        clock: Clock,
        *,
        name: str = "probe",
        every_seconds: float = 60.0,
        tls: ssl.SSLContext | None = None,
        recording: Callable[[], bool] = lambda: True,
        budget: WeightBudget | None = None,
    ) -> None:
        self.latest: control.ClockOffset | None = None
        self.failures = 0  # since the start
        self._rest = rest.rstrip("/")
        self._intake = intake
        self._clock = clock
        self._name = name
        self._every_seconds = every_seconds
        self._tls = tls
        self._recording = recording
        self._budget = budget

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.measure()
            except ProbeError as error:
                self.failures += 1
                _log.warning("clock offset not measured: %s", error)
            await asyncio.sleep(self._every_seconds)

    async def measure(self) -> control.ClockOffset:
        """Measure once. Raises ProbeError where no sample could be had."""
        if isinstance(self._clock, ExchangeClock):
            self._clock.setting = await read_clock_setting(self._rest, self._tls)
        samples: list[control.ClockOffset] = []
        failure: ProbeError | None = None
        async with _session(self._tls) as session:
            for _ in range(_SAMPLES):
                try:
                    samples.append(await self._sample(session))
                except ProbeError as error:
                    failure = error
                    break  # it is the exchange's budget that is spent
        # The first one pays for the connection's handshakes; with others at hand the shortest is another anyway.
        if not samples:
            raise failure or ProbeError(f"{self._rest}: no sample")
        self.latest = min(samples, key=lambda sample: sample.round_trip_us)
        if self._recording():
            self._intake.event(self._name, self.latest)
        return self.latest

    async def _sample(self, session: aiohttp.ClientSession) -> control.ClockOffset:
        grant = await self._granted()
        refusals: list[tuple[int, str | None]] = []
        try:
            started, before_ns = time.perf_counter_ns(), self._clock.now_ns()
            read = await _get(session, f"{self._rest}/api/v3/time", _ServerTime, refusals)
            after_ns, ended = self._clock.now_ns(), time.perf_counter_ns()
        finally:
            await self._answered(grant, refusals)
        middle_us = (before_ns + after_ns) // 2000
        return control.ClockOffset(to_us(read.serverTime) - middle_us, (ended - started) // 1000)

    async def _granted(self) -> Grant | None:
        if self._budget is None:
            return None
        try:
            grant = await asyncio.to_thread(self._budget.take, _TIME_WEIGHT)
        except OSError as error:
            raise ProbeError(
                f"{self._rest}: not asked, the account of weight can't be kept: {error}"
            ) from None
        if isinstance(grant, Grant):
            return grant
        raise ProbeError(
            f"{self._rest}: not asked, the address's weight is spent or closed for {grant:.0f} s"
        )

    async def _answered(self, grant: Grant | None, refusals: list[tuple[int, str | None]]) -> None:
        if self._budget is None or grant is None:
            return
        status, retry_after = refusals[0] if refusals else (200, None)
        note = partial(self._budget.answered, grant, status, retry_after_seconds=retry_after_of(retry_after))
        with suppress(OSError):  # it then counts for longer than it need
            await asyncio.to_thread(note)


def _session(tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls if tls is not None else True),
        timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS),
        # Milliseconds are the default; an exchange that does not know the header sends them still.
        headers={"X-MBX-TIME-UNIT": "MICROSECOND"},
    )


async def _get(
    session: aiohttp.ClientSession,
    url: str,
    shape: type[_Shape],
    refusals: list[tuple[int, str | None]] | None = None,
) -> _Shape:
    """GET and decode. Raises ProbeError; of an answer that is none, its status and Retry-After go to `refusals`."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                if refusals is not None:
                    refusals.append((response.status, response.headers.get("Retry-After")))
                raise ProbeError(f"{url}: HTTP {response.status}")
            return msgspec.json.decode(await response.read(), type=shape)
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
        raise ProbeError(f"{url}: {str(error) or type(error).__name__}") from error
