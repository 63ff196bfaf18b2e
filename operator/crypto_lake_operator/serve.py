"""The operator's own port: /healthz, /readyz, /metrics."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

from aiohttp import web

from crypto_lake_operator.metrics import CONTENT_TYPE, Metrics

# What is wrong, one line each; none: all is well.
Problems = Callable[[], list[str]]
_SHUTDOWN_SECONDS: Final = 1.0


def application(metrics: Metrics, health: Problems, ready: Problems) -> web.Application:
    def answer(problems: list[str]) -> web.Response:
        if problems:
            return web.Response(status=503, text="\n".join(problems) + "\n")
        return web.Response(text="ok\n")

    async def healthz(_: web.Request) -> web.Response:
        return answer(health())

    async def readyz(_: web.Request) -> web.Response:
        return answer(ready())

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    made = web.Application()
    made.router.add_get("/healthz", healthz)
    made.router.add_get("/readyz", readyz)
    made.router.add_get("/metrics", exposition)
    return made


@contextlib.asynccontextmanager
async def serving(application: web.Application, host: str, port: int) -> AsyncGenerator[int]:
    """Gives the port, which for 0 the system chooses. Raises OSError where it can't listen."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
