"""Sends what alerts.py finds due, and remembers what it must. The address is a secret: no text here holds any of it."""

from __future__ import annotations

import logging
import random
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from crypto_lake.model.alert_message import Message, body, format_of_host
from crypto_lake_operator import alerts
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.api_status import Status, ToldAlert
from crypto_lake_operator.client import Api, ApiError, UnavailableError
from crypto_lake_operator.collectors import slots
from crypto_lake_operator.metrics import Metrics, version
from crypto_lake_operator.observe import read_secret
from crypto_lake_operator.observed import Observed
from crypto_lake_operator.queue import Backoff, Key
from crypto_lake_operator.render import Plan

logger = logging.getLogger(__name__)

WHOLE_SECONDS: Final = 10.0
BACKOFF: Final = Backoff(10.0, 600.0)
_RANDOM: Final = random.Random()  # noqa: S311


@dataclass(slots=True)
class _Memory:
    """uid: of the lake; another one of that name has nothing of it. since: by slot, when its trouble was first seen. After a failure nothing is tried before not_before (monotonic)."""

    uid: str
    since: dict[str, datetime] = field(default_factory=dict[str, datetime])
    unwritten: tuple[ToldAlert, ...] | None = None
    failures: int = 0
    not_before: float = 0.0


class Alerts:
    def __init__(
        self,
        client: Api,
        metrics: Metrics,
        *,
        after_seconds: float = alerts.AFTER_SECONDS,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._client, self._metrics, self._backoff = client, metrics, backoff
        self._after_seconds = after_seconds
        self._memories: dict[Key, _Memory] = {}
        self._session: aiohttp.ClientSession | None = None

    def forget(self, key: Key) -> None:
        self._memories.pop(key, None)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def look(
        self, lake: CryptoLake, plan: Plan, observed: Observed, status: Status
    ) -> tuple[Status, float | None]:
        """The status with what was told, and in how many seconds to look again. Raises UnavailableError."""
        key = Key(lake.metadata.namespace, lake.metadata.name)
        memory = self._memories.get(key)
        if memory is None or memory.uid != lake.metadata.uid:
            memory = self._memories[key] = _Memory(lake.metadata.uid)
        now = observed.taken_at
        seen = slots(lake, plan, observed, status)
        found = alerts.troubles(seen, lake.spec.suspend, memory.since, now)
        unknown = alerts.unasked(seen)
        memory.since = {trouble.subject: trouble.began for trouble in found} | {
            subject: began for subject, began in memory.since.items() if subject in unknown
        }
        # A record that could not be written yet counts all the same.
        told = status.alerts if memory.unwritten is None else memory.unwritten
        webhook = lake.spec.alerts.webhook_secret_ref
        if webhook is None:
            return msgspec.structs.replace(status, alerts=()), None
        notices, later = alerts.due(
            found, unknown, told, alerts.repeat_seconds(lake), now, after_seconds=self._after_seconds
        )
        if not notices:
            memory.unwritten = None if told == status.alerts else told
            return msgspec.structs.replace(status, alerts=told), later
        waits = memory.not_before - time.monotonic()
        if waits > 0:
            return msgspec.structs.replace(status, alerts=told), waits
        sent = await self._send(lake, notices)
        self._metrics.alerted("sent" if len(sent) == len(notices) else "failed")
        if len(sent) < len(notices):
            memory.failures += 1
            waits = self._backoff.seconds(memory.failures, _RANDOM)
            memory.not_before = time.monotonic() + waits
            later = waits if later is None else min(later, waits)
        else:
            memory.failures = 0
        told = alerts.recorded(told, sent, alerts.repeat_seconds(lake), now)
        memory.unwritten = told if sent else memory.unwritten
        return msgspec.structs.replace(status, alerts=told), later

    async def _send(self, lake: CryptoLake, notices: list[alerts.Notice]) -> list[ToldAlert]:
        """Until one can't be delivered. What is to be recorded of those that were."""
        webhook = lake.spec.alerts.webhook_secret_ref
        assert webhook is not None
        name = f"{lake.metadata.namespace}/{lake.metadata.name}"
        try:
            address = await read_secret(self._client, lake.metadata.namespace, webhook)
        except UnavailableError:
            raise
        except ApiError as error:
            logger.warning("%s: an alert can't be sent: %s", name, error)
            return []
        if address is None:
            logger.warning("%s: an alert can't be sent: Secret %s has no %s", name, webhook.name, webhook.key)
            return []
        sent: list[ToldAlert] = []
        for notice in notices:
            now = datetime.now(UTC)
            told = alerts.message(notice, lake, socket.gethostname(), version(), now)
            problem = await self._post(address, told)
            if problem:
                logger.warning("%s: the webhook was not told of %s: %s", name, notice.subject, problem)
                break
            logger.info("%s: told the webhook: %s %s", name, notice.state, notice.message)
            if notice.record is not None:
                sent.append(notice.record)
        return sent

    async def _post(self, address: str, told: Message) -> str:
        """What went wrong, by its kind alone; empty: it was taken."""
        try:
            parts = urlsplit(address)
            host = parts.hostname or ""
        except ValueError:
            host, parts = "", urlsplit("")
        if parts.scheme not in ("http", "https") or not host:
            return "the Secret holds no http(s) address"
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=WHOLE_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True)
        headers = {"Content-Type": "application/json", "User-Agent": f"crypto-lake-operator/{version()}"}
        sent = body(told, format_of_host(host, parts.path))
        try:
            # A redirect could lead the message, or the secret, elsewhere.
            async with self._session.post(
                address, data=sent, headers=headers, allow_redirects=False
            ) as answer:
                code = answer.status
        except TimeoutError:
            return f"no answer within {WHOLE_SECONDS:.0f} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"the webhook can't be reached: {type(error).__name__}"
        return "" if 200 <= code < 300 else f"it answers {code}"
