"""What a person should know, as events.k8s.io/v1: `kubectl describe cryptolake` shows them. Told once, and not too often.

Nothing depends on an event: one that can't be written is logged.
"""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from crypto_lake_operator import api, kinds, naming
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.client import Api, ApiError

logger = logging.getLogger(__name__)

SAME_AGAIN_SECONDS: Final = 3600.0
BURST: Final = 20
REFILL_SECONDS: Final = 30.0
LONGEST_NOTE: Final = 1000
_REMEMBERED: Final = 8192


@dataclass(frozen=True, slots=True)
class News:
    """reason: a word for programs. action: what the operator did or tried. note: for people."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str


@dataclass(slots=True)
class Limiter:
    """The same once in SAME_AGAIN_SECONDS, and of a lake BURST, then one each REFILL_SECONDS. Pure."""

    _told: OrderedDict[tuple[str, str, str], float] = field(
        default_factory=OrderedDict[tuple[str, str, str], float]
    )
    _credit: OrderedDict[str, tuple[float, float]] = field(
        default_factory=OrderedDict[str, tuple[float, float]]
    )

    def may_tell(self, uid: str, news: News, now: float) -> bool:
        key = (uid, news.reason, news.note)
        told = self._told.get(key)
        if told is not None and now - told < SAME_AGAIN_SECONDS:
            return False
        credit, at = self._credit.get(uid, (float(BURST), now))
        credit = min(float(BURST), credit + (now - at) / REFILL_SECONDS)
        if credit < 1:
            return False
        self._credit[uid] = (credit - 1, now)
        self._told[key] = now
        self._told.move_to_end(key)
        self._credit.move_to_end(uid)
        for remembered in (self._told, self._credit):
            while len(remembered) > _REMEMBERED:
                remembered.popitem(last=False)
        return True


class Teller:
    """identity: of this replica."""

    def __init__(self, client: Api, identity: str = "") -> None:
        self._client, self._limiter = client, Limiter()
        self._identity = (identity or socket.gethostname())[:128]

    async def tell(self, lake: CryptoLake, news: News) -> None:
        """Or not, where it was told already or too much was."""
        if not self._limiter.may_tell(lake.metadata.uid, news, time.monotonic()):
            return
        logger.info("%s/%s: %s: %s", lake.metadata.namespace, lake.metadata.name, news.reason, news.note)
        try:
            await self._client.create(kinds.EVENT, lake.metadata.namespace, self._body(lake, news))
        except ApiError as error:
            logger.warning("an event of %s was not written: %s", lake.metadata.name, error)

    def _body(self, lake: CryptoLake, news: News) -> dict[str, Any]:
        now = datetime.now(UTC)
        metadata = lake.metadata
        return {
            "apiVersion": kinds.EVENT.api_version,
            "kind": "Event",
            "metadata": {
                # A name that is cut may not end in what a name may not end in.
                "name": f"{metadata.name[:200].rstrip('.-')}.{secrets.token_hex(8)}",
                "namespace": metadata.namespace,
            },
            "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": f"{api.GROUP}/{naming.MANAGED_BY}",
            "reportingInstance": self._identity,
            "type": news.type,
            "reason": news.reason,
            "action": news.action,
            "note": news.note[:LONGEST_NOTE],
            "regarding": {
                "apiVersion": api.API_VERSION,
                "kind": api.KIND,
                "namespace": metadata.namespace,
                "name": metadata.name,
                "uid": metadata.uid,
            },
        }
