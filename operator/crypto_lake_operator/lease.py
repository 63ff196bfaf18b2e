"""Which of two replicas works: a Lease that one of them holds and renews.

Nobody trusts another's clock: that a lease has run out is seen by its not changing for its whole time. Whoever could not
renew for RENEW_SECONDS stops, before another may begin.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

from crypto_lake_operator import kinds, naming
from crypto_lake_operator.client import Api, ApiError, ConflictError, NotFoundError, Object

logger = logging.getLogger(__name__)

NAME: Final = naming.MANAGED_BY
DURATION_SECONDS: Final = 15
RENEW_SECONDS: Final = 10.0  # without a renewal for so long: stop
RETRY_SECONDS: Final = 2.0


class LeaseLostError(Exception):
    """Another replica works now, or may: nothing more is to be written."""


@dataclass(slots=True)
class Rival:
    """The lease as it was last seen to change. Pure: times are of our monotonic clock."""

    version: str = ""
    since: float = 0.0

    def decide(self, lease: Object | None, identity: str, now: float) -> Literal["create", "take", "wait"]:
        if lease is None:
            return "create"
        spec = cast("dict[str, Any]", lease.get("spec") or {})
        holder = spec.get("holderIdentity") or ""
        version = lease["metadata"].get("resourceVersion", "")
        if version != self.version:
            self.version, self.since = version, now
        if not holder or holder == identity:
            return "take"
        lasts = float(spec.get("leaseDurationSeconds") or DURATION_SECONDS)
        return "take" if now - self.since >= lasts else "wait"


class Lease:
    """identity: of this replica, and of no other process, be it an earlier one of this pod."""

    def __init__(
        self, client: Api, namespace: str, identity: str, *, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self._client, self._namespace, self.identity = client, namespace, identity
        self._retry_seconds = retry_seconds
        self._version = ""
        self._renewed = 0.0
        self.held = False
        self.holder = ""

    async def acquire(self) -> None:
        """Returns when this replica may work."""
        rival = Rival()
        while True:
            try:
                lease = await self._get()
                self.holder = (lease or {}).get("spec", {}).get("holderIdentity") or ""
                asked = time.monotonic()
                match rival.decide(lease, self.identity, asked):
                    case "create":
                        self._took(await self._create(), asked)
                        return
                    case "take":
                        assert lease is not None
                        changes = int(lease.get("spec", {}).get("leaseTransitions") or 0) + 1
                        spec = self._spec(changes) | {"acquireTime": _now()}
                        self._took(await self._patch(lease["metadata"]["resourceVersion"], spec), asked)
                        return
                    case "wait":
                        pass
            except ConflictError:
                logger.info("another replica was faster")
            except ApiError as error:
                logger.warning("the lease can't be asked for: %s", error)
            await asyncio.sleep(self._retry_seconds * random.uniform(0.8, 1.2))  # noqa: S311

    async def keep(self) -> None:
        """Renews until it is cancelled. Raises LeaseLostError."""
        while True:
            await asyncio.sleep(self._retry_seconds)
            left = self._renewed + RENEW_SECONDS - time.monotonic()
            asked = time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    self._took(await self._patch(self._version, {"renewTime": _now()}), asked)
            except ConflictError:
                # Our own renewal, whose answer was lost, or another's lease.
                await self._look_again()
            except (ApiError, TimeoutError) as error:
                logger.warning("the lease was not renewed: %s", error or "no answer in time")
            if time.monotonic() - self._renewed >= RENEW_SECONDS:
                self.held = False
                raise LeaseLostError(f"the lease {NAME} could not be renewed for {RENEW_SECONDS:.0f} s")

    async def release(self) -> None:
        """So that the other one need not wait for it to run out."""
        if not self.held:
            return
        self.held = False
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            async with asyncio.timeout(3):
                await self._patch(self._version, spec)
        except (ApiError, TimeoutError) as error:
            logger.info("the lease was not given back: %s", error)

    async def _look_again(self) -> None:
        try:
            async with asyncio.timeout(3):
                lease = await self._get()
        except (ApiError, TimeoutError):
            return
        if lease is None or lease.get("spec", {}).get("holderIdentity") != self.identity:
            self.held = False
            raise LeaseLostError(f"another replica holds the lease {NAME}")
        self._version = lease["metadata"]["resourceVersion"]

    async def _get(self) -> Object | None:
        try:
            return await self._client.get(kinds.LEASE, self._namespace, NAME)
        except NotFoundError:
            return None

    async def _create(self) -> Object:
        body = {
            "apiVersion": kinds.LEASE.api_version,
            "kind": "Lease",
            "metadata": {"name": NAME, "namespace": self._namespace},
            "spec": self._spec(0) | {"acquireTime": _now()},
        }
        return await self._client.create(kinds.LEASE, self._namespace, body)

    async def _patch(self, version: str, spec: dict[str, Any]) -> Object:
        patch = {"metadata": {"resourceVersion": version}, "spec": spec}
        return await self._client.merge_patch(kinds.LEASE, self._namespace, NAME, patch)

    def _spec(self, changes: int) -> dict[str, Any]:
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION_SECONDS,
            "leaseTransitions": changes,
            "renewTime": _now(),
        }

    def _took(self, lease: Object, asked: float) -> None:
        """asked: when the call was made; the lease runs from then at the earliest."""
        self._version = lease["metadata"]["resourceVersion"]
        self._renewed, self.held, self.holder = asked, True, self.identity


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
