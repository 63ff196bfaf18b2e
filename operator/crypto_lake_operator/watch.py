"""The watches of children, claims and pods: list, then follow, until cancelled.

They are the client's own and not the framework's: that keeps about 13 kB of bookkeeping and starts a task for each
object, and a lake has a dozen children. What arrives is made small at once and goes into the cache.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

import msgspec

from crypto_lake_operator import kinds
from crypto_lake_operator.cache import Cache, Owner, Place
from crypto_lake_operator.client import Api, ApiError, ForbiddenError, GoneError, NotFoundError
from crypto_lake_operator.kinds import Kind
from crypto_lake_operator.queue import Backoff

logger = logging.getLogger(__name__)

_BACKOFF: Final = Backoff(0.5, 30.0)
_LEAST_SECONDS: Final = 0.2
_RANDOM: Final = random.Random()  # noqa: S311


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _Metadata


_decode_metadata = msgspec.json.Decoder(_Object).decode


class Watch:
    """Of one kind, in one namespace or (empty) all.

    on_change: called with each lake whose picture changed. on_restart: when it had to begin anew. optional: the cluster
    may cease to have that kind; `run` then forgets all of it and returns.
    """

    def __init__(
        self,
        client: Api,
        cache: Cache,
        kind: Kind,
        namespace: str,
        on_change: Callable[[Owner], None],
        on_restart: Callable[[Kind], None] = lambda _: None,
        *,
        optional: bool = False,
    ) -> None:
        self._optional = optional
        self._client, self._cache, self.kind, self.namespace = client, cache, kind, namespace
        self._on_change, self._on_restart = on_change, on_restart
        self.synced = asyncio.Event()
        self.turned = time.monotonic()  # when it last did anything
        self.trouble = "it has not been listed yet"

    async def run(self) -> None:
        """Lists and follows, whatever happens. What the API server does not let us see is tried ever later. Returns only
        where it is optional, and gone.
        """
        failures = 0
        while True:
            began = self.turned = time.monotonic()
            try:
                version = await self._list()
                failures = 0
                await self._follow(version)
            except GoneError:
                logger.info("%s: the watch's place in the history is over; it is listed anew", self)
            except (ForbiddenError, NotFoundError) as error:
                if self._optional and isinstance(error, NotFoundError):
                    logger.info("%s: the cluster has no such kind any more", self)
                    self._tell(self._cache.keep_only(self.kind, self.namespace, set()))
                    return
                failures += 1
                self.trouble = str(error)
                logger.warning("%s: %s", self, error)
            except ApiError as error:
                failures += 1
                self.trouble = str(error)
                logger.log(logging.INFO if failures < 3 else logging.WARNING, "%s: %s", self, error)
            self._on_restart(self.kind)
            wait = _BACKOFF.seconds(failures, _RANDOM) if failures else _LEAST_SECONDS
            await asyncio.sleep(max(_LEAST_SECONDS, wait - (time.monotonic() - began)))

    async def _list(self) -> str:
        seen: set[Place] = set()
        resume, version = "", ""
        while True:
            page = await self._client.list_page(
                self.kind, self.namespace, kinds.selector(self.kind), resume=resume
            )
            version = version or page.resource_version
            for live in page.items:
                metadata = live["metadata"]
                seen.add(Place(metadata.get("namespace", ""), metadata["name"]))
                self._tell(self._cache.put(self.kind, live))
            self._heard()
            if not page.resume:
                break
            resume = page.resume
            await asyncio.sleep(0)
        before = int(version) if version.isdigit() else 0
        self._tell(self._cache.keep_only(self.kind, self.namespace, seen, before))
        self.synced.set()
        return version

    async def _follow(self, version: str) -> None:
        """Until the history is over or a connection fails twice in a row without bringing anything."""
        quiet_failures = 0
        while True:
            heard, self.turned = False, time.monotonic()
            try:
                async with self._client.watch(
                    self.kind, self.namespace, kinds.selector(self.kind), version
                ) as events:
                    self._heard()
                    async for event in events:
                        heard = True
                        self._heard()
                        version = self._take(event.type, event.body) or version
            except GoneError:
                raise
            except ApiError as error:
                # A connection that broke is taken up where it was; anything else, or nothing to take up, begins anew.
                quiet_failures = 0 if heard else quiet_failures + 1
                self.trouble = str(error)
                if quiet_failures > 1 or error.code:
                    raise
                logger.info("%s: %s; it is taken up again", self, error)
                self._on_restart(self.kind)
                await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311
            else:
                quiet_failures = 0
                if not heard:
                    await asyncio.sleep(_LEAST_SECONDS)

    def _take(self, type_: str, body: bytes) -> str:
        metadata = _decode_metadata(body).metadata
        if type_ == "BOOKMARK":
            return metadata.resource_version
        place = (metadata.namespace, metadata.name)
        if type_ == "DELETED":
            self._tell(self._cache.drop(self.kind, *place, uid=metadata.uid))
        elif not self._cache.has(self.kind, *place, metadata.resource_version):
            self._tell(self._cache.put(self.kind, msgspec.json.decode(body)))
        return metadata.resource_version

    def _heard(self) -> None:
        self.turned, self.trouble = time.monotonic(), ""

    def _tell(self, owners: set[Owner]) -> None:
        for owner in owners:
            self._on_change(owner)

    def __str__(self) -> str:
        return f"watch of {self.kind.plural}" + (f" in {self.namespace}" if self.namespace else "")
