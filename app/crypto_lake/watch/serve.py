"""HTTP of a collector: /metrics, /status, /healthz, /readyz."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from aiohttp import web

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.watch.alerts_file import firing
from crypto_lake.watch.exposition import CONTENT_TYPE, text_of
from crypto_lake.watch.lookout import Around, Lookout
from crypto_lake.watch.readiness import Readiness
from crypto_lake.watch.status import SCHEMA, Observation, judge, judge_running

log = logging.getLogger(__name__)

NO_PORT = -1
# What of the disk's figures a page tells: those of files cost a look at every file.
_DISK = (
    "used_percent",
    "used_inodes_percent",
    "free_bytes",
    "total_bytes",
    "free_inodes",
    "total_inodes",
    "limit_bytes",
    "lake_bytes",
)


class SnapshotSource(Protocol):
    """What can be asked how it is: the collector."""

    def snapshot(self) -> CollectorSnapshot: ...


def document(
    snapshot: CollectorSnapshot, around: Around | None, *, is_ready: bool | None = None
) -> dict[str, Any]:
    """What /status says (docs/status.md): the snapshot's fields, and what `crypto-lake status -o json` has under the
    same names. `around` None: nobody looked at the data directory. Pure, but for the time of day.
    """
    if around is None:
        health, reasons = judge_running(snapshot)
        told = {"schema": SCHEMA, "health": health, "ready": is_ready, "reasons": reasons}
        return told | msgspec.structs.asdict(snapshot)
    files = around.files
    status = judge(
        Observation(
            taken_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            data="",
            locked=True,
            snapshot=snapshot,
            snapshot_age_seconds=0.0,
            transform=files.transform,
            transform_age_seconds=files.transform_age_seconds,
            disk=around.disk,
            tasks=files.tasks,
            alerts=firing(files.alerts),
            disk_full_in_seconds=files.alerts.disk_full_in_seconds,
            pending_bytes=around.pending_bytes(snapshot),
            last_verified_upload_ns=around.last_verified_upload_ns,
        )
    )
    told = {
        "schema": SCHEMA,
        "taken_at": status.taken_at,
        "health": status.health,
        "ready": is_ready,
        "reasons": status.reasons,
        "tasks": status.tasks,
        "alerts": status.alerts,
        "disk": {name: getattr(status.disk, name) for name in _DISK},
        "disk_full_in_seconds": status.disk_full_in_seconds,
        "gaps_healed": status.gaps_healed,
        "pending_bytes": status.pending_bytes,
        "last_verified_upload_ns": status.last_verified_upload_ns,
    }
    return told | msgspec.structs.asdict(snapshot)


def application(
    take: Callable[[], CollectorSnapshot], lookout: Lookout | None = None, readiness: Readiness | None = None
) -> web.Application:
    """The four pages.

    /healthz answers while the loop turns: a probe that gets no answer has found one that does not.
    /readyz is 200 when all streams are live and what comes is being written, else 503 with the reasons.
    /status is `document`. With a lookout it and /metrics also tell what the other processes of this lake left.
    """
    ready = readiness or Readiness()

    async def metrics(_: web.Request) -> web.Response:
        around = await lookout.look() if lookout is not None else None
        snapshot = take()
        # Of many symbols it takes a while: other threads get their turns, this one's loop too.
        body = await asyncio.to_thread(text_of, snapshot, around, is_ready=not ready.judge(snapshot))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def status(_: web.Request) -> web.Response:
        around = await lookout.look() if lookout is not None else None
        snapshot = take()
        is_ready = not ready.judge(snapshot)
        body = msgspec.json.encode(document(snapshot, around, is_ready=is_ready))
        return web.Response(body=body, content_type="application/json")

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reasons = ready.judge(take())
        if reasons:
            return web.Response(status=503, text="".join(f"{reason.message}\n" for reason in reasons))
        return web.Response(text="ready\n")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/status", status)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


class Server:
    """Serves until closed. `port` is the real one; -1 where none was asked for."""

    def __init__(
        self,
        take: Callable[[], CollectorSnapshot],
        listen: str,
        port: int,
        lookout: Lookout | None = None,
        readiness: Readiness | None = None,
    ) -> None:
        self._take = take
        self._lookout = lookout
        self._readiness = readiness
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
            application(self._take, self._lookout, self._readiness),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
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
        if self._lookout is not None:
            await self._lookout.close()
