"""The simulator as a whole: one port on which a market is streamed, asked and controlled."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from crypto_lake.simulator.archive import Archive
from crypto_lake.simulator.clock import SimulatorClock
from crypto_lake.simulator.connection import Connection
from crypto_lake.simulator.control import Control, ControlError
from crypto_lake.simulator.history import Market
from crypto_lake.simulator.hub import Hub
from crypto_lake.simulator.limits import SlidingRate
from crypto_lake.simulator.messages import COMBINED, MICROSECONDS
from crypto_lake.simulator.player import Player
from crypto_lake.simulator.requests import MAX_STREAMS
from crypto_lake.simulator.rest import Rest
from crypto_lake.simulator.settings import Settings, StartWhen
from crypto_lake.simulator.tls import server_context

_log = logging.getLogger(__name__)
_SHUTDOWN_SECONDS = 1.0
_LONGEST_LINE_BYTES = 64 * 1024  # a URL with 1024 streams is long


class Simulator:
    """An exchange that plays `market`. Use it as an async context manager.

    >>> async with Simulator(GeneratedMarket(7, start_us=…), Settings(speed=10)) as simulator:
    ...     simulator.websocket_url, simulator.rest_url

    `market` is the truth to compare with. After leaving, the port is closed and all connections are cut. An error
    while playing is raised on leaving.
    """

    def __init__(self, market: Market, settings: Settings | None = None) -> None:
        self.market = market
        self.settings = settings = settings or Settings()
        self.clock = SimulatorClock(market.start_us, settings.speed)
        self.hub = Hub(self.clock.now_us, market.symbols, market.streams(), settings.slow_client_bytes)
        self.player = Player(market, self.hub, self.clock, settings.tick_seconds)
        self.rest = Rest(market, self.clock, settings, self.hub)
        self._control = Control(market, self.clock, self.hub, self.player, self.rest)
        self._attempts: dict[str, SlidingRate] = {}
        self._runner: web.AppRunner | None = None
        self._playing: asyncio.Task[None] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.ca_file: Path | None = None
        self.port = 0
        waits = market.end_us is not None or not settings.speed
        by_default = StartWhen.SUBSCRIBED if waits else StartWhen.AT_ONCE
        self.start_when = StartWhen(settings.start_when or by_default)
        self.hub.on_subscribed = self._subscribed

    # Where it is.
    @property
    def websocket_url(self) -> str:
        """Base URL of the streams, without a path."""
        return f"{'wss' if self.settings.tls else 'ws'}://{self._address}"

    @property
    def rest_url(self) -> str:
        """Base URL of REST and of /control."""
        return f"{'https' if self.settings.tls else 'http'}://{self._address}"

    @property
    def _address(self) -> str:
        host = self.settings.host
        if host in ("0.0.0.0", "::", ""):  # noqa: S104 - not bound here: what a client on this machine dials
            host = "127.0.0.1"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    # What it is told, in the same process.
    def control(self, kind: str, **fields: Any) -> None:
        """Order a fault, as POST /control/faults does. Raises ControlError."""
        self._control.order({"kind": kind, **fields})

    def clear_faults(self) -> None:
        self._control.clear()

    def faults(self) -> dict[str, Any]:
        """What GET /control/faults reports."""
        return self._control.faults()

    def state(self) -> dict[str, Any]:
        """What GET /control/state reports."""
        return self._control.state()

    def delivered(self, stream: str) -> dict[str, list[tuple[int, int]]]:
        """What GET /control/delivered reports."""
        return self._control.delivered(stream)

    def start(self) -> None:
        """Let the market start, whatever it waits for."""
        self.player.begun.set()

    async def wait_done(self) -> None:
        """Until the last message was handed over; for ever with a generated market. Raises what stopped it."""
        done = asyncio.ensure_future(self.player.done.wait())
        playing = self._playing
        if playing is None:
            raise RuntimeError("the simulator does not run: use it as an async context manager")
        await asyncio.wait({done, playing}, return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        if playing.done() and not self.player.done.is_set():
            playing.result()

    # Life.
    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 20)
        app.add_routes(
            [
                web.get("/stream", self._stream),
                web.get("/ws", self._raw),
                web.get("/ws/{streams:.*}", self._raw),
                web.get("/control/clock", self._get(self._control.clock)),
                web.get("/control/state", self._get(self._control.state)),
                web.get("/control/faults", self._get(self._control.faults)),
                web.post("/control/faults", self._post_faults),
                web.delete("/control/faults", self._delete_faults),
                web.get("/control/delivered", self._get_delivered),
                web.post("/control/start", self._post_start),
                *self.rest.routes(),
                *Archive(self.market, self.clock).routes(),
            ]
        )
        context = None
        if self.settings.tls:
            context, authority = server_context(self.settings.host)
            self.ca_file = self.settings.ca_file
            if self.ca_file is None:
                self._folder = tempfile.TemporaryDirectory()
                self.ca_file = Path(self._folder.name, "ca.pem")
            self.ca_file.write_bytes(authority)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            max_line_size=_LONGEST_LINE_BYTES,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.settings.host, self.settings.port, ssl_context=context)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.port = self._runner.addresses[0][1]
        self._playing = asyncio.create_task(self.player.run())
        self._playing.add_done_callback(_log_failure)
        if self.start_when is StartWhen.AT_ONCE:
            self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        playing, runner = self._playing, self._runner
        if playing is not None:
            playing.cancel()
            await asyncio.wait({playing})
        for connection in list(self.hub.connections.values()):
            connection.abort("stopped")
        if runner is not None:
            await runner.cleanup()
        if self._folder is not None:
            self._folder.cleanup()
        if error is None and playing is not None and not playing.cancelled():
            playing.result()

    def _subscribed(self) -> None:
        if (
            self.start_when is StartWhen.SUBSCRIBED
            and len(self.hub.subscribers) >= self.settings.wait_for_streams
        ):
            self.start()

    # Handlers.
    async def _stream(self, request: web.Request) -> web.StreamResponse:
        return await self._connect(request, request.query.get("streams", ""), COMBINED)

    async def _raw(self, request: web.Request) -> web.StreamResponse:
        return await self._connect(request, request.match_info.get("streams", ""), 0)

    async def _connect(self, request: web.Request, listed: str, variant: int) -> web.StreamResponse:
        if self._control.refusal.take():
            self.hub.faults.log.fired["refuse_connections"] += 1
            if self._control.refusal.how == "reset" and request.transport is not None:
                request.transport.abort()
            return web.Response(status=503, text="a fault was ordered")
        settings = self.settings
        attempts = self._attempts.setdefault(
            request.remote or "",
            SlidingRate(settings.connection_attempts, settings.connection_window_seconds),
        )
        if not attempts.allow(asyncio.get_running_loop().time()):
            return web.Response(status=429, text="Too many connection attempts")
        match request.query.get("timeUnit", "").upper():
            case "" | "MILLISECOND":
                pass
            case "MICROSECOND":
                variant |= MICROSECONDS
            case unit:
                return web.Response(
                    status=400, text=f"timeUnit is {unit!r}; expected MICROSECOND or MILLISECOND"
                )
        streams = tuple(dict.fromkeys(name for name in listed.split("/") if name))
        if len(streams) > MAX_STREAMS:
            return web.Response(
                status=400, text=f"{len(streams)} streams; at most {MAX_STREAMS} a connection"
            )
        connection = Connection(self.hub.next_name(), self.hub, settings, variant)
        return await connection.serve(request, streams)

    @staticmethod
    def _get(report: Any) -> Any:
        async def handle(request: web.Request) -> web.Response:
            return web.json_response(report())

        return handle

    async def _get_delivered(self, request: web.Request) -> web.Response:
        stream = request.query.get("stream", "")
        return web.json_response({"stream": stream, "connections": self._control.delivered(stream)})

    async def _post_faults(self, request: web.Request) -> web.Response:
        try:
            body: Any = await request.json()
            orders: list[Any] = body if isinstance(body, list) else [body]
            for order in orders:
                if not isinstance(order, Mapping):
                    raise ControlError("a fault is an object with a kind")
                self._control.order(order)
        except ValueError as error:  # broken JSON, and ControlError
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"accepted": len(orders)})

    async def _delete_faults(self, request: web.Request) -> web.Response:
        self.clear_faults()
        return web.json_response({})

    async def _post_start(self, request: web.Request) -> web.Response:
        self.start()
        return web.json_response({})


def _log_failure(playing: asyncio.Task[None]) -> None:
    if not playing.cancelled() and playing.exception() is not None:
        _log.error("the market stopped playing", exc_info=playing.exception())
