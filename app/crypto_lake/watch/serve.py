"""HTTP of a collector: /metrics, /status, /healthz, /readyz."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Protocol

import msgspec
from aiohttp import web

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.lake import tasks
from crypto_lake.lake.layout import Layout
from crypto_lake.watch.alerts_file import firing, read_alerts
from crypto_lake.watch.metrics import CONTENT_TYPE, registry_of, render
from crypto_lake.watch.metrics_state import state_families
from crypto_lake.watch.status import SCHEMA, judge_running

log = logging.getLogger(__name__)

NO_PORT = -1


class SnapshotSource(Protocol):
    """What can be asked how it is: the collector."""

    def snapshot(self) -> CollectorSnapshot: ...


def application(take: Callable[[], CollectorSnapshot], layout: Layout | None = None) -> web.Application:
    """The four pages.

    /healthz answers while the loop turns: a probe that gets no answer has found one that does not.
    /readyz is 200 when all streams are live and what comes is being written, else 503 with the reasons.
    /status is the snapshot with `schema`, `health` and `reasons` beside its own fields. With a layout it has `tasks`
    and `alerts`, too, and /metrics their figures: what the other processes of this lake left in `state/`.
    """
    registry = registry_of(take, (lambda: state_families(layout)) if layout else None)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(registry), headers={"Content-Type": CONTENT_TYPE})

    async def status(_: web.Request) -> web.Response:
        snapshot = take()
        health, reasons = judge_running(snapshot)
        document: dict[str, object] = {"schema": SCHEMA, "health": health, "reasons": reasons}
        if layout is not None:
            alerts = firing(read_alerts(layout)[0])
            document |= {"tasks": tasks.read(layout), "alerts": alerts}
        body = msgspec.json.encode(document | msgspec.structs.asdict(snapshot))
        return web.Response(body=body, content_type="application/json")

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reasons = [reason for reason in judge_running(take())[1] if reason.code in NOT_READY]
        if reasons:
            return web.Response(status=503, text="".join(f"{reason.message}\n" for reason in reasons))
        return web.Response(text="ready\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/status", status)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


# Gaps and a clock that is off are reasons to look; taking the collector out of service would mend neither.
NOT_READY = frozenset({"not_subscribed", "not_writing", "write_errors"})


class Server:
    """Serves until closed. `port` is the real one; -1 where none was asked for."""

    def __init__(
        self, take: Callable[[], CollectorSnapshot], listen: str, port: int, layout: Layout | None = None
    ) -> None:
        self._take = take
        self._layout = layout
        self._listen = listen
        self._wanted = port
        self._runner: web.AppRunner | None = None
        self.port = NO_PORT

    async def start(self) -> None:
        """Bind. A port that is taken is replaced by a free one, with a warning: collecting goes before watching.

        Raises OSError where the address can't be bound at all.
        """
        if self._wanted == NO_PORT:
            return
        self._runner = web.AppRunner(
            application(self._take, self._layout), access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        await self._runner.setup()
        try:
            self.port = await self._bind(self._wanted)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                await self.close()
                raise
            self.port = await self._bind(0)
            log.warning(
                "port %d on %s is in use; /metrics and /status are on port %d. Set collector.port to choose another",
                self._wanted,
                self._listen,
                self.port,
            )

    async def _bind(self, port: int) -> int:
        assert self._runner is not None
        site = web.TCPSite(self._runner, self._listen, port)
        await site.start()
        addresses: list[tuple[str, int]] = self._runner.addresses
        return addresses[0][1]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            self.port = NO_PORT
