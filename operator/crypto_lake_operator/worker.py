"""The tasks that work on keys, one key at a time each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from crypto_lake_operator.client import ThrottledError, UnavailableError
from crypto_lake_operator.queue import Breaker, Done, Failed, Key, KeyQueue, Outcome

logger = logging.getLogger(__name__)

Work = Callable[[Key], Awaitable[Outcome]]
# key, what became of it (`done`, `failed`, `unavailable`, `fault`), seconds.
OnWork = Callable[[Key, str, float], None]


class Workers:
    """`count` tasks over one queue. `add` and `forget` are for the event loop's own thread."""

    def __init__(
        self,
        work: Work,
        count: int,
        *,
        queue: KeyQueue | None = None,
        breaker: Breaker | None = None,
        on_work: OnWork | None = None,
    ) -> None:
        self.queue = queue or KeyQueue()
        self.breaker = breaker or Breaker()
        self._work, self._count, self._on_work = work, count, on_work
        self._more = asyncio.Event()

    def add(self, key: Key, after_seconds: float = 0.0, *, anew: bool = False) -> None:
        self.queue.add(key, time.monotonic(), after_seconds, anew=anew)
        self._more.set()

    def forget(self, key: Key) -> None:
        self.queue.forget(key)

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._count):
                tasks.create_task(self._one())

    async def _one(self) -> None:
        while True:
            key = await self._next()
            began = time.monotonic()
            try:
                outcome, what = await self._outcome(key)
            except asyncio.CancelledError:
                self.queue.done(key, Failed(), time.monotonic())
                raise
            self.queue.done(key, outcome, time.monotonic())
            self._more.set()
            if self._on_work is not None:
                self._on_work(key, what, time.monotonic() - began)

    async def _outcome(self, key: Key) -> tuple[Outcome, str]:
        try:
            outcome = await self._work(key)
        except ThrottledError as error:
            logger.warning("%s: the API server wants less: %s", key, error)
            self.breaker.failed(time.monotonic(), error.retry_after_seconds)
            return Failed(error.retry_after_seconds), "unavailable"
        except UnavailableError as error:
            logger.warning("%s: %s", key, error)
            self.breaker.failed(time.monotonic())
            # It is the breaker that waits; the key itself is as good as any other.
            return Done(again_seconds=0.0), "unavailable"
        except Exception:
            logger.exception("%s: a fault of the operator; it is tried again", key)
            self.breaker.succeeded()
            return Failed(), "fault"
        self.breaker.succeeded()
        return outcome, "failed" if isinstance(outcome, Failed) else "done"

    async def _next(self) -> Key:
        while True:
            now = time.monotonic()
            waits = self.queue.wait_seconds(now)
            if waits == 0.0:
                if self.breaker.enter(now):
                    key = self.queue.take(now)
                    assert key is not None
                    return key
                waits = max(0.05, self.breaker.wait_seconds(now))
            self._more.clear()
            try:
                async with asyncio.timeout(waits):
                    await self._more.wait()
            except TimeoutError:
                continue
