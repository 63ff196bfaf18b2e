"""One loop that asks every collector's /status, by its pod's address.

Of an answer the small Report is kept. A lake is looked at when its picture changes (poll_figures.py) or when a collector
stops or begins to answer. One missed answer is no silence: it is asked again soon.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

import aiohttp

from crypto_lake_operator.cache import Belongings, Cache, Owner
from crypto_lake_operator.collectors import runs
from crypto_lake_operator.observed import Pod, Unreachable
from crypto_lake_operator.poll_figures import Picture, picture
from crypto_lake_operator.render.context import HTTP_PORT
from crypto_lake_operator.report import Report, ReportError, read_report

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 2.0
AT_ONCE: Final = 32
MOST_BYTES: Final = 16 * 2**20


class Target(NamedTuple):
    """A collector. uid and address: another pod of the same name is another target."""

    owner: Owner
    pod: str
    uid: str
    address: str


@dataclass(slots=True)
class _Asked:
    """answer: what is told of it; None before the first one."""

    due: float
    answer: Report | Unreachable | None = None
    picture: Picture | None = None
    failing_since: datetime | None = None
    failures: int = 0


# What became of asking: `ok`, `timeout`, `refused`, `no_report`; and how long it took.
OnAsked = Callable[[str, float], None]


class Poller:
    """on_change: called with the lake whose picture changed."""

    def __init__(
        self,
        cache: Cache,
        on_change: Callable[[Owner], None],
        *,
        every_seconds: float,
        port: int = HTTP_PORT,
        on_asked: OnAsked = lambda _what, _seconds: None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._cache, self._on_change, self._on_asked = cache, on_change, on_asked
        self._every_seconds, self._port, self._timeout_seconds = every_seconds, port, timeout_seconds
        self._asked: dict[Target, _Asked] = {}
        self._order: list[tuple[float, Target]] = []
        self._more = asyncio.Event()

    def answers(self, owner: Owner, belongings: Belongings) -> Mapping[str, Report | Unreachable]:
        """By pod, of those that were asked."""
        found: dict[str, Report | Unreachable] = {}
        for pod in belongings.pods.values():
            asked = self._asked.get(_target(owner, pod))
            if asked is not None and asked.answer is not None and runs(pod):
                found[pod.name] = asked.answer
        return found

    def look(self, owner: Owner) -> None:
        """The lake's pods have changed: who is new is asked at once, who is gone no longer."""
        for pod in self._cache.of(owner).pods.values():
            target = _target(owner, pod)
            if _can_answer(pod) and target not in self._asked:
                self._schedule(target, _Asked(0.0), time.monotonic())

    def soon(self, owner: Owner, within_seconds: float = AGAIN_SECONDS) -> None:
        """Ask its collectors earlier than usual: something was changed that they will tell of."""
        due = time.monotonic() + within_seconds
        for pod in self._cache.of(owner).pods.values():
            target = _target(owner, pod)
            asked = self._asked.get(target)
            if asked is not None and due < asked.due < float("inf"):
                self._schedule(target, asked, due)

    @property
    def targets(self) -> int:
        return len(self._asked)

    @property
    def silent(self) -> int:
        return sum(isinstance(asked.answer, Unreachable) for asked in self._asked.values())

    async def run(self) -> None:
        """Until it is cancelled."""
        connector = aiohttp.TCPConnector(limit=AT_ONCE, limit_per_host=2, keepalive_timeout=60)
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        # The environment's proxies are for the way out of the cluster.
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(AT_ONCE):
                tasks.create_task(self._one(session))

    async def _one(self, session: aiohttp.ClientSession) -> None:
        while True:
            target, asked = await self._next()
            pod = self._cache.of(target.owner).pods.get(target.pod)
            if pod is None or _target(target.owner, pod) != target or not _can_answer(pod):
                self._asked.pop(target, None)
                continue
            await self._ask(session, target, asked)

    async def _next(self) -> tuple[Target, _Asked]:
        while True:
            now = time.monotonic()
            while self._order:
                due, target = self._order[0]
                asked = self._asked.get(target)
                if asked is None or asked.due != due:
                    heapq.heappop(self._order)
                    continue
                if due > now:
                    break
                heapq.heappop(self._order)
                asked.due = float("inf")  # of nobody else until it is asked
                return target, asked
            waits = self._order[0][0] - now if self._order else None
            self._more.clear()
            try:
                async with asyncio.timeout(waits):
                    await self._more.wait()
            except TimeoutError:
                continue

    def _schedule(self, target: Target, asked: _Asked, due: float) -> None:
        asked.due = due
        self._asked[target] = asked
        heapq.heappush(self._order, (due, target))
        self._more.set()

    async def _ask(self, session: aiohttp.ClientSession, target: Target, asked: _Asked) -> None:
        began, why, what = time.monotonic(), "", "ok"
        report: Report | None = None
        try:
            report = read_report(await self._body(session, target.address))
        except ReportError as error:
            why, what = str(error), "no_report"
        except TimeoutError:
            why, what = f"no answer within {self._timeout_seconds:.0f} s", "timeout"
        except (aiohttp.ClientError, OSError) as error:
            why, what = str(error) or type(error).__name__, "refused"
        self._on_asked(what, time.monotonic() - began)
        changed = self._heard(asked, report) if report is not None else self._missed(asked, why)
        every = self._every_seconds * random.uniform(0.9, 1.1)  # noqa: S311
        once_missed = report is None and asked.failures == 1
        self._schedule(
            target, asked, time.monotonic() + (min(AGAIN_SECONDS, every) if once_missed else every)
        )
        if changed:
            self._on_change(target.owner)

    async def _body(self, session: aiohttp.ClientSession, address: str) -> bytes:
        host = f"[{address}]" if ":" in address else address
        # A pod's name is in no answer to follow elsewhere.
        async with session.get(f"http://{host}:{self._port}/status", allow_redirects=False) as response:
            if response.status != 200:
                raise ReportError(f"/status answered HTTP {response.status}")
            body = await response.content.read(MOST_BYTES + 1)
            while len(body) <= MOST_BYTES and (more := await response.content.read(MOST_BYTES + 1)):
                body += more
            if len(body) > MOST_BYTES:
                raise ReportError(f"/status answered more than {MOST_BYTES >> 20} MiB")
            return body

    def _heard(self, asked: _Asked, report: Report) -> bool:
        now = picture(report, asked.picture)
        changed = now != asked.picture or not isinstance(asked.answer, Report)
        asked.answer, asked.picture = report, now
        asked.failures, asked.failing_since = 0, None
        return changed

    def _missed(self, asked: _Asked, why: str) -> bool:
        asked.failures += 1
        asked.failing_since = asked.failing_since or datetime.now(UTC)
        if asked.failures == 1:
            return False
        changed = not isinstance(asked.answer, Unreachable)
        asked.answer = Unreachable(_plain(why), asked.failing_since)
        return changed


def _plain(why: str) -> str:
    """Short, and the same for the same trouble."""
    return " ".join(why.split())[:200]


def _target(owner: Owner, pod: Pod) -> Target:
    return Target(owner, pod.name, pod.uid, pod.ip)


def _can_answer(pod: Pod) -> bool:
    try:
        ipaddress.ip_address(pod.ip)
    except ValueError:
        return False
    return runs(pod)
