"""The framework's half: kopf watches the CryptoLakes and passes on what it hears, and nothing else.

It writes nothing: no finalizer, no annotation, no status, no event. It has a thread with an event loop of its own, since
it takes the signals and, at its end, all tasks of the loop that it runs in. When it fails it is started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, cast

import kopf
from kubernetes.aio.client.configuration import Configuration

from crypto_lake_operator import api

logger = logging.getLogger(__name__)

_RESTART_SECONDS: Final = 5.0
# event's type (None: of the first list), the object.
OnLake = Callable[[str | None, dict[str, Any]], None]


class _Backoffs:
    """Without an end: that the API server is away is no reason for the framework to give up."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((0.5, 1.0, 2.0, 4.0), itertools.repeat(8.0))


def kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.peering.standalone = True
    settings.scanning.disabled = True  # the definitions of other kinds are none of its business
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 450
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 100
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = cast("Any", _Backoffs())
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 0.2
    return settings


def registry_of(on_lake: OnLake, login: Callable[[], Awaitable[Configuration]]) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        configuration = cast("Any", await login())
        scheme, __, token = str(configuration.api_key.get("BearerToken", "")).partition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert or None,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file or None,
            private_key_path=configuration.key_file or None,
            scheme=scheme.capitalize() or None,
            token=token.strip() or None,
        )

    async def heard(event: Any, **_: Any) -> None:
        on_lake(event["type"], event["object"])

    kopf.on.login(registry=registry)(cast("Any", log_in))
    kopf.on.event(api.GROUP, api.VERSION, api.PLURAL, registry=registry)(cast("Any", heard))
    return registry


class LakeWatch:
    """namespaces: whose lakes; none: all. on_lake is called in the event loop that `run` is called in."""

    def __init__(
        self,
        login: Callable[[], Awaitable[Configuration]],
        namespaces: tuple[str, ...],
        on_lake: OnLake,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._login, self._namespaces = login, namespaces
        self._on_lake, self._on_restart = on_lake, on_restart
        self.running = False

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._once()
                logger.warning("the watch of CryptoLakes ended; it is started anew")
            except asyncio.CancelledError:
                raise
            except Exception as error:
                logger.warning("the watch of CryptoLakes failed and is started anew: %r", error)
            self._on_restart()
            await asyncio.sleep(_RESTART_SECONDS)

    async def _once(self) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        # The flag belongs to the other loop: one of threads would be waited for in a thread that nothing ends.
        stops: list[Callable[[], object]] = []

        def pass_on(type_: str | None, lake: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(self._on_lake, type_, lake)

        def conclude(error: Exception | None) -> None:
            if ended.done():
                return
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(error)

        async def watch() -> None:
            stop, own = asyncio.Event(), asyncio.get_running_loop()
            stops.append(lambda: own.call_soon_threadsafe(stop.set))
            try:
                await kopf.operator(
                    registry=registry_of(pass_on, self._login),
                    settings=kopf_settings(),
                    standalone=True,
                    clusterwide=not self._namespaces,
                    namespaces=self._namespaces,
                    stop_flag=stop,
                )
            finally:
                await asyncio.sleep(0.05)  # its connections need a turn to close

        def work() -> None:
            error: Exception | None = None
            try:
                asyncio.run(watch())
            except BaseException as raised:
                error = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
            with contextlib.suppress(RuntimeError):  # the program is at its end
                loop.call_soon_threadsafe(conclude, error)

        thread = threading.Thread(target=work, name="kopf", daemon=True)
        thread.start()
        self.running = True
        try:
            await asyncio.shield(ended)
        finally:
            self.running = False
            with contextlib.suppress(RuntimeError):  # its loop is closed
                for stop in stops:
                    stop()
            await asyncio.to_thread(thread.join, 5.0)
