"""All of one lake at a moment: of the cache, of the last reports, and, rarely, by asking.

A Secret and a StorageClass are no watch's: it would see those of everybody. They are asked for, and the answer is good for
a while. Of a Secret only whether it has the key is kept.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar, cast

from crypto_lake_operator import kinds, naming, quantity
from crypto_lake_operator.api import CryptoLake, SecretKey
from crypto_lake_operator.cache import Belongings, Cache, Owner
from crypto_lake_operator.client import Api, ForbiddenError, NotFoundError, Object
from crypto_lake_operator.observed import Observed, Unreachable
from crypto_lake_operator.report import Report

GOOD_SECONDS: Final = 30.0
# What we may not see will not be allowed a moment later.
FORBIDDEN_SECONDS: Final = 600.0

T = TypeVar("T")
Answers = Callable[[Owner, Belongings], Mapping[str, Report | Unreachable]]


@dataclass(slots=True)
class _Remembered(Generic[T]):
    answers: dict[tuple[str, ...], tuple[float, T]] = field(
        default_factory=dict[tuple[str, ...], "tuple[float, T]"]
    )

    async def get(self, key: tuple[str, ...], ask: Callable[[], Awaitable[tuple[T, float]]]) -> T:
        """ask: gives the answer, and for how many seconds it is good."""
        now = time.monotonic()
        known = self.answers.get(key)
        if known is not None and now < known[0]:
            return known[1]
        value, good_seconds = await ask()
        if len(self.answers) > 4096:
            self.answers = {k: v for k, v in self.answers.items() if v[0] > now}
        self.answers[key] = (now + good_seconds, value)
        return value


class Observer:
    """apis: which optional kinds are watched now."""

    def __init__(
        self,
        client: Api,
        cache: Cache,
        answers: Answers,
        apis: Callable[[], frozenset[str]],
        good_seconds: float = GOOD_SECONDS,
    ) -> None:
        self._client, self._cache, self._answers, self._apis = client, cache, answers, apis
        self._good_seconds = good_seconds
        self._classes: _Remembered[bool | str | None] = _Remembered()
        self._secrets: _Remembered[bool | None] = _Remembered()
        self._refusals: _Remembered[str] = _Remembered()

    async def observe(self, lake: CryptoLake) -> Observed:
        """Raises UnavailableError."""
        owner = Owner(lake.metadata.namespace, naming.base(lake.metadata.name))
        belongings = self._cache.of(owner)
        classes = await self._storage_classes(lake, belongings)
        secrets = await self._named_secret(lake)
        return Observed(
            taken_at=datetime.now(UTC),
            children=dict(belongings.children),
            claims=dict(belongings.claims),
            pods=dict(belongings.pods),
            jobs=tuple(belongings.jobs.values()),
            ends=belongings.last_ends(),
            storage_classes=classes,
            secrets=secrets,
            apis=self._apis(),
            reports=self._answers(owner, belongings),
            not_made=await self._not_made(lake, belongings),
        )

    async def _not_made(self, lake: CryptoLake, belongings: Belongings) -> dict[str, str]:
        """Of StatefulSets that lack pods: a quota, or an admission, is told to their controller alone."""
        found: dict[str, str] = {}
        for key, child in belongings.children.items():
            if key.kind != kinds.STATEFUL_SET.kind or "observedGeneration" not in child.status:
                continue
            has = sum(naming.is_pod_of(key.name, pod) for pod in belongings.pods)
            if has >= int(child.manifest()["spec"].get("replicas", 1)):
                continue
            namespace, name = lake.metadata.namespace, key.name
            why = await self._refusals.get(
                (namespace, name), lambda namespace=namespace, name=name: self._ask_events(namespace, name)
            )
            if why:
                found[name] = why
        return found

    async def _ask_events(self, namespace: str, name: str) -> tuple[str, float]:
        fields = f"regarding.kind={kinds.STATEFUL_SET.kind},regarding.name={name}"
        try:
            page = await self._client.list_page(kinds.EVENT, namespace, "", fields=fields)
        except ForbiddenError:
            return "", FORBIDDEN_SECONDS
        latest = max(page.items, key=_last, default=None)
        failed = latest is not None and latest.get("reason") == "FailedCreate"
        return (
            " ".join(str(latest.get("note", "")).split())[:600] if failed and latest else ""
        ), self._good_seconds

    async def _storage_classes(self, lake: CryptoLake, belongings: Belongings) -> dict[str, bool | None]:
        spec = lake.spec
        names = {spec.storage.storage_class_name, spec.publish.scratch_storage_class_name}
        size = quantity.parse(spec.storage.size)
        names |= {c.storage_class for c in belongings.claims.values() if quantity.parse(c.requested) < size}
        found: dict[str, bool | None] = {}
        for name in sorted(name for name in names if name):
            answer = await self._classes.get((name,), lambda name=name: self._ask_class(name))
            if not isinstance(answer, str):
                found[name] = answer
        return found

    async def _ask_class(self, name: str) -> tuple[bool | str | None, float]:
        try:
            found = await self._client.get(kinds.STORAGE_CLASS, "", name)
        except NotFoundError:
            return None, self._good_seconds
        except ForbiddenError as error:
            return error.message, FORBIDDEN_SECONDS
        return bool(found.get("allowVolumeExpansion", False)), self._good_seconds

    async def _named_secret(self, lake: CryptoLake) -> dict[str, bool]:
        webhook = lake.spec.alerts.webhook_secret_ref
        if webhook is None:
            return {}
        namespace = lake.metadata.namespace
        answer = await self._secrets.get(
            (namespace, webhook.name, webhook.key), lambda: self._ask_secret(namespace, webhook)
        )
        return {} if answer is None else {webhook.name: answer}

    async def _ask_secret(self, namespace: str, webhook: SecretKey) -> tuple[bool | None, float]:
        try:
            return await read_secret(self._client, namespace, webhook) is not None, self._good_seconds
        except ForbiddenError:
            return None, FORBIDDEN_SECONDS


def _last(event: Object) -> str:
    """When it was last so."""
    series = cast("dict[str, str]", event.get("series") or {})
    return (
        series.get("lastObservedTime")
        or event.get("deprecatedLastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp", "")
    )


async def read_secret(client: Api, namespace: str, webhook: SecretKey) -> str | None:
    """The value; None where there is no such Secret or key. Raises ForbiddenError, UnavailableError."""
    try:
        found = await client.get(kinds.SECRET, namespace, webhook.name)
    except NotFoundError:
        return None
    encoded = cast("dict[str, str]", found.get("data") or {}).get(webhook.key)
    if not encoded:
        return None
    try:
        return base64.b64decode(encoded).decode().strip() or None
    except (binascii.Error, UnicodeDecodeError):
        return None
