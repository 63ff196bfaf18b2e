"""One replica's work while it leads: what is watched, what is heard, and who is told. `run.py` starts it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from kubernetes.aio.client.configuration import Configuration

from crypto_lake_operator import alerts, kinds, naming
from crypto_lake_operator.alerts_send import BACKOFF as ALERT_BACKOFF
from crypto_lake_operator.alerts_send import Alerts
from crypto_lake_operator.cache import Cache, Owner
from crypto_lake_operator.client import Api, ApiError
from crypto_lake_operator.config import OperatorSettings
from crypto_lake_operator.events import Teller
from crypto_lake_operator.execute import Executor
from crypto_lake_operator.handlers import LakeWatch
from crypto_lake_operator.kinds import Kind
from crypto_lake_operator.lakes import Change, Lakes
from crypto_lake_operator.metrics import Figures, Metrics
from crypto_lake_operator.observe import GOOD_SECONDS, Observer
from crypto_lake_operator.poll import Poller
from crypto_lake_operator.queue import Backoff, Key, KeyQueue
from crypto_lake_operator.reconcile import WAIT_SECONDS, Reconciler
from crypto_lake_operator.render.context import HTTP_PORT
from crypto_lake_operator.watch import Watch
from crypto_lake_operator.worker import Workers

logger = logging.getLogger(__name__)

Login = Callable[[], Awaitable[Configuration]]
# Refusals are asked again so late at most; so long after it was mended a lake may take to heal.
BACKOFF: Final = Backoff(1.0, 60.0)
STUCK_SECONDS: Final = 900.0
_RETRY_SECONDS: Final = 5.0


class Operator:
    """One replica's work while it leads. `run` returns only by an error or by cancellation."""

    def __init__(
        self,
        client: Api,
        login: Login,
        settings: OperatorSettings,
        metrics: Metrics,
        *,
        identity: str = "",
        collector_port: int = HTTP_PORT,
        backoff: Backoff = BACKOFF,
        alert_seconds: float = alerts.AFTER_SECONDS,
        alert_backoff: Backoff = ALERT_BACKOFF,
        good_seconds: float = GOOD_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
        retry_seconds: float = _RETRY_SECONDS,
    ) -> None:
        self._retry_seconds = retry_seconds
        self.settings, self.metrics = settings, metrics
        self._client = client
        self.lakes, self.cache = Lakes(), Cache()
        self.poller = Poller(
            self.cache,
            self._on_owner,
            every_seconds=settings.poll_seconds,
            port=collector_port,
            on_asked=metrics.polled,
        )
        self.watches: list[Watch] = []
        self.lake_watch = LakeWatch(login, settings.watch_namespaces, self._on_lake, self._on_lakes_restart)
        self._missed = asyncio.Event()  # a watch that began anew may have missed what was deleted meanwhile
        self._optional: dict[str, list[Watch]] = {}
        observer = Observer(client, self.cache, self.poller.answers, self._apis, good_seconds)
        self.teller = Teller(client, identity)
        self.alerts = Alerts(client, metrics, after_seconds=alert_seconds, backoff=alert_backoff)
        self.reconciler = Reconciler(
            client,
            self.lakes,
            observer,
            Executor(client, self.cache),
            self.teller,
            settings,
            on_seen=self.alerts.look,
            on_gone=self._on_gone,
            on_written=self._on_written,
            wait_seconds=wait_seconds,
        )
        self.workers = Workers(
            self.reconciler.reconcile,
            settings.workers,
            queue=KeyQueue(backoff=backoff),
            on_work=lambda _, what, seconds: metrics.worked(what, seconds),
        )
        self.resynced = 0.0  # Unix time
        self.synced = False
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        try:
            await self._run()
        finally:
            await self.alerts.close()

    async def _run(self) -> None:
        await self._wait_for_definition()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for kind in (*kinds.CHILDREN, kinds.POD, kinds.CLAIM):
                for watch in self._watches_of(kind):
                    tasks.create_task(watch.run(), name=str(watch))
            await self._look_for_optional()
            # Nothing is decided on a part of what there is.
            for watch in tuple(self.watches):
                await watch.synced.wait()
            await self._first_list()
            self.synced = True
            tasks.create_task(self.lake_watch.run(), name="lakes")
            tasks.create_task(self.poller.run(), name="poll")
            tasks.create_task(self.workers.run(), name="workers")
            tasks.create_task(self._resyncs(), name="resync")

    async def _first_list(self) -> None:
        while True:
            try:
                return await self._resync()
            except ApiError as error:
                logger.warning("the CryptoLakes can't be listed: %s", error)
                await asyncio.sleep(self._retry_seconds)

    # What is heard

    def _on_lake(self, type_: str | None, lake: dict[str, Any]) -> None:
        metadata = lake["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        if type_ == "DELETED":
            self.reconciler.forget(key, metadata.get("uid", ""))
            return
        self._on_change(key, self.lakes.put(lake))

    def _on_change(self, key: Key, change: Change) -> None:
        if change is Change.LAKE:
            self.workers.add(key, anew=True)
        elif change is Change.STATUS:
            self.workers.add(key)

    def _on_owner(self, owner: Owner) -> None:
        self.poller.look(owner)
        if (key := self.lakes.key_of(owner)) is not None:
            self.workers.add(key)

    def _on_gone(self, key: Key) -> None:
        self.workers.forget(key)
        self.alerts.forget(key)

    def _on_written(self, key: Key) -> None:
        self.poller.soon(Owner(key.namespace, naming.base(key.name)))

    # What is watched

    def _watches_of(self, kind: Kind, *, optional: bool = False) -> list[Watch]:
        made = [
            Watch(
                self._client,
                self.cache,
                kind,
                namespace,
                self._on_owner,
                self.metrics.restarted,
                optional=optional,
            )
            for namespace in self.settings.watch_namespaces or ("",)
        ]
        self.watches += made
        return made

    def _apis(self) -> frozenset[str]:
        """Optional kinds that the cluster has and lets us see."""
        return frozenset(
            name for name, watches in self._optional.items() if all(w.synced.is_set() for w in watches)
        )

    async def _look_for_optional(self) -> None:
        assert self._tasks is not None
        for name, kind in kinds.OPTIONAL.items():
            if name in self._optional:
                continue
            try:
                if not await self._client.serves(kind):
                    continue
                # One that we may not list would never be synced.
                for namespace in self.settings.watch_namespaces or ("",):
                    await self._client.list_page(kind, namespace, kinds.selector(kind), limit=1)
            except ApiError as error:
                logger.info("%s are not made: %s", kind.plural, error)
                continue
            self._optional[name] = self._watches_of(kind, optional=True)
            self._tasks.create_task(self._watch_optional(name), name=name)

    async def _watch_optional(self, name: str) -> None:
        """While the cluster has that kind. What is made of it would else be tried, and missed, all the time."""
        watches = self._optional[name]
        running = [asyncio.create_task(watch.run(), name=str(watch)) for watch in watches]
        try:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        del self._optional[name]
        self.watches = [watch for watch in self.watches if watch not in watches]
        for key, _ in self.lakes.entries():
            self.workers.add(key)
        for task in running:
            if not task.cancelled():
                task.result()

    async def _wait_for_definition(self) -> None:
        while True:
            try:
                if await self._client.serves(kinds.LAKE):
                    return
                logger.warning(
                    "the cluster has no %s yet; crypto-lake-operator crds prints the definition",
                    kinds.LAKE.plural,
                )
            except ApiError as error:
                logger.warning("%s", error)
            await asyncio.sleep(self._retry_seconds)

    # Resync

    def _on_lakes_restart(self) -> None:
        self.metrics.restarted(kinds.LAKE)
        self._missed.set()

    async def _resyncs(self) -> None:
        while True:
            period_seconds = self.settings.resync_seconds * random.uniform(0.9, 1.1)  # noqa: S311
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(period_seconds):
                    await self._missed.wait()
            self._missed.clear()
            try:
                await self._look_for_optional()
                await self._resync(spread_seconds=min(60.0, self.settings.resync_seconds / 4))
            except ApiError as error:
                logger.warning("the resync failed: %s", error)
                await asyncio.sleep(self._retry_seconds)
                self._missed.set()

    async def _resync(self, spread_seconds: float = 0.0) -> None:
        """Lists the lakes, drops those that are gone, and has each looked at, spread over some time."""
        first = not self.synced
        for namespace in self.settings.watch_namespaces or ("",):
            seen: set[Key] = set()
            before = {
                key: entry.uid
                for key, entry in self.lakes.entries()
                if not namespace or key.namespace == namespace
            }
            resume = ""
            while True:
                page = await self._client.list_page(kinds.LAKE, namespace, "", resume=resume)
                for lake in page.items:
                    key = Key(lake["metadata"]["namespace"], lake["metadata"]["name"])
                    seen.add(key)
                    change = self.lakes.put(lake)
                    if change is Change.LAKE and not first:
                        self.metrics.missed_changes.inc()
                    self._on_change(key, change)
                    if not first:
                        self.workers.add(key, random.uniform(0, spread_seconds))  # noqa: S311
                if not page.resume:
                    break
                resume = page.resume
            for key, uid in before.items():
                if key not in seen:  # nor is one that was made since under that name
                    self.reconciler.forget(key, uid)
        self.resynced = time.time()

    # What is told

    def problems(self) -> list[str]:
        """Why it does not work fully; none: it does."""
        found = [f"{watch}: {watch.trouble}" for watch in self.watches if not watch.synced.is_set()]
        if not self.synced and not found:
            found.append("it has not begun: CryptoLakes are not listed yet")
        return found

    def stuck(self, now: float) -> list[str]:
        """Watches that have not turned for long: only a restart helps. That nobody answers is none."""
        return [
            f"{watch} has not turned for {now - watch.turned:.0f} s"
            for watch in self.watches
            if now - watch.turned > STUCK_SECONDS
        ]

    def figures(self) -> Figures:
        now = time.monotonic()
        queue = self.workers.queue
        return Figures(
            leader=True,
            queued=queue.depth(now),
            oldest_seconds=queue.oldest_seconds(now),
            working=queue.working,
            objects=len(self.cache),
            resynced=self.resynced,
            synced=self.synced,
            collectors=self.poller.targets,
            silent=self.poller.silent,
            statuses=[entry.status for _, entry in self.lakes.entries()],
        )
