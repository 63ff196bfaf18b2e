"""`crypto-lake-operator run`: everything put together, until SIGTERM or the loss of the lease."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes.aio.client.configuration import Configuration
from prometheus_client import disable_created_metrics

from crypto_lake_operator.client_kube import KubeApi, NoClusterError, configured
from crypto_lake_operator.config import OperatorSettings
from crypto_lake_operator.control import Login, Operator
from crypto_lake_operator.lease import Lease, LeaseLostError
from crypto_lake_operator.metrics import Figures, Metrics
from crypto_lake_operator.serve import application, serving

logger = logging.getLogger(__name__)


async def run(
    settings: OperatorSettings,
    login: Login,
    stop: asyncio.Event,
    *,
    host: str = "",
    on_listening: Callable[[int], None] = lambda _: None,
    **options: Any,
) -> None:
    """One replica: waits for the lease, then works until `stop` is set. options: of `Operator`.

    Raises LeaseLostError, NoClusterError.
    """
    metrics = Metrics()
    identity = f"{socket.gethostname()}_{secrets.token_hex(4)}"
    began = time.monotonic()
    async with KubeApi(await login(), on_call=metrics.called) as client:
        operator = Operator(client, login, settings, metrics, identity=identity, **options)
        lease = Lease(client, settings.namespace, identity) if settings.lease else None
        leads = lambda: lease is None or lease.held  # noqa: E731
        metrics.bind(lambda: operator.figures() if leads() else Figures())

        def health() -> list[str]:
            return operator.stuck(time.monotonic()) if leads() else []

        def ready() -> list[str]:
            # A replica that waits for its turn is as ready as it can be.
            if lease is not None and not lease.held:
                return [] if lease.holder else ["nobody holds the lease yet"]
            return operator.problems()

        pages = application(metrics, health, ready)
        async with serving(pages, host or "0.0.0.0", settings.metrics_port) as port:  # noqa: S104
            logger.info("listening on port %d as %s", port, identity)
            on_listening(port)
            try:
                await _lead(operator, lease, stop)
            finally:
                if lease is not None:
                    await lease.release()
    logger.info("ended after %.0f s", time.monotonic() - began)


async def _lead(operator: Operator, lease: Lease | None, stop: asyncio.Event) -> None:
    stopped = asyncio.create_task(stop.wait())
    try:
        if lease is not None:
            await _first(asyncio.create_task(lease.acquire()), stopped)
            if stopped.done():
                return
            logger.info("this replica works now")
        work = [asyncio.create_task(operator.run())]
        if lease is not None:
            work.append(asyncio.create_task(lease.keep()))
        await _first(*work, stopped)
    finally:
        stopped.cancel()


async def _first(*tasks: asyncio.Task[Any]) -> None:
    """Until one of them ends; the others but the last are then cancelled. Raises its error."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks[:-1]:
        if task not in done:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
    for task in done:
        task.result()


def set_up_logging(level: str) -> None:
    """One line an event on stderr, in UTC."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)sZ %(levelname)s %(name)s %(message)s", force=True
    )
    # kopf tells each object that it hears of, and each call that it tries again as an error.
    for name in ("kopf", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # That signals are not its business in its thread it need not say.
    for name in ("kopf.objects", "kopf._core.reactor.running"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main(settings: OperatorSettings, kubeconfig: Path | None) -> int:
    """0 after SIGTERM, 1 after the loss of the lease or a fault, 4 where no cluster can be reached."""
    set_up_logging(settings.log_level.upper())
    disable_created_metrics()  # a series for each series, of when it began

    async def login() -> Configuration:
        return await configured(kubeconfig)

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await run(settings, login, stop)

    try:
        asyncio.run(work())
    except NoClusterError as error:
        logger.error("%s", error)
        return 4
    except LeaseLostError as error:
        logger.error("%s; this replica ends and is started anew", error)
        return 1
    except OSError as error:
        logger.error("can't listen on port %d: %s", settings.metrics_port, error)
        return 1
    except Exception:
        logger.exception("the operator ends by a fault of its own")
        return 1
    return 0
