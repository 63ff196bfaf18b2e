"""The actions, in their order, against the API server. What it refuses becomes a Wait with the reason; the rest goes on.

A 409 or 404 is no trouble: the object is not what it was taken for, and the next pass sees what it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from crypto_lake_operator import drift, kinds
from crypto_lake_operator.actions import (
    Action,
    Apply,
    Delete,
    DeleteJob,
    EvictPod,
    GrowClaim,
    OrphanRecreate,
    RemoveForeign,
    RetainClaims,
    Wait,
)
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.cache import Cache
from crypto_lake_operator.client import (
    Api,
    ApiError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    Object,
    ThrottledError,
    UnavailableError,
)
from crypto_lake_operator.decide import not_ours
from crypto_lake_operator.events import News
from crypto_lake_operator.observed import Key
from crypto_lake_operator.reasons import Reason

logger = logging.getLogger(__name__)

LONGEST_MESSAGE: Final = 600


@dataclass(slots=True)
class Executed:
    """done: how many calls changed something. lost: how many met something else than expected; look again at once."""

    waits: list[Wait] = field(default_factory=list[Wait])
    news: list[News] = field(default_factory=list[News])
    done: int = 0
    lost: int = 0


class Executor:
    def __init__(self, client: Api, cache: Cache) -> None:
        self._client, self._cache = client, cache

    async def execute(self, lake: CryptoLake, actions: Sequence[Action]) -> Executed:
        """Raises UnavailableError; what was done till then is done."""
        result = Executed()
        for action in actions:
            if isinstance(action, Wait):
                result.waits.append(action)
                continue
            try:
                await self._one(lake, action, result)
            except (ConflictError, NotFoundError) as error:
                result.lost += 1
                logger.info("%s: %s: %s", lake.metadata.name, _what(action), error)
            except UnavailableError:
                raise
            except ApiError as error:
                wait = refusal(_what(action), error)
                result.waits.append(wait)
                result.news.append(News("Warning", wait.reason.value, _verb(action), wait.message))
        return result

    async def _one(self, lake: CryptoLake, action: Action, result: Executed) -> None:
        namespace = lake.metadata.namespace
        match action:
            case Apply():
                await self._apply(lake, action, result)
            case RemoveForeign(key, version, pointers):
                test = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
                operations = [test, *({"op": "remove", "path": pointer} for pointer in pointers)]
                try:
                    live = await self._client.json_patch(kinds.of(key.kind), namespace, key.name, operations)
                except InvalidError as error:
                    if error.code != 422:
                        raise
                    # The test failed: somebody was faster.
                    raise ConflictError(error.message, error.code) from None
                self._put(key.kind, live, result)
                result.news.append(
                    News(
                        "Normal",
                        "PutBack",
                        "Patch",
                        f"{key}: took out {', '.join(pointers)}, which is not of spec",
                    )
                )
            case Delete(key, uid):
                await self._client.delete(kinds.of(key.kind), namespace, key.name, uid=uid)
                result.done += 1
                result.news.append(
                    News("Normal", "Deleted", "Delete", f"deleted {key}: spec no longer asks for it")
                )
            case GrowClaim(claim, size):
                patch = {"spec": {"resources": {"requests": {"storage": size}}}}
                live = await self._client.merge_patch(kinds.CLAIM, namespace, claim, patch)
                self._cache.put(kinds.CLAIM, live)
                result.done += 1
                result.news.append(News("Normal", "VolumeGrows", "Patch", f"{claim} is to have {size}"))
            case RetainClaims(key):
                patch = {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}}}
                live = await self._client.merge_patch(kinds.STATEFUL_SET, namespace, key.name, patch)
                self._put(key.kind, live, result)
            case OrphanRecreate(key, uid, version, _, why):
                # Its pods are let go of first, which takes a moment; made anew it is when it is seen to be gone.
                await self._client.delete(
                    kinds.STATEFUL_SET,
                    namespace,
                    key.name,
                    uid=uid,
                    resource_version=version,
                    propagation="Orphan",
                )
                result.done += 1
                note = f"{key} is made anew around its pods, which go on: {why}"
                result.news.append(News("Normal", "Recreated", "Delete", note))
            case EvictPod(pod, uid, why):
                await self._evict(namespace, pod, uid, why, result)
            case DeleteJob(job, uid, why):
                await self._client.delete(kinds.JOB, namespace, job, uid=uid, propagation="Foreground")
                result.done += 1
                result.news.append(News("Warning", "JobDeleted", "Delete", f"deleted Job {job}: {why}"))
            case Wait():
                result.waits.append(action)

    async def _apply(self, lake: CryptoLake, action: Apply, result: Executed) -> None:
        key, manifest = action.key, action.manifest
        kind = kinds.of(key.kind)
        if action.known:
            live = await self._client.apply(manifest)
            self._put(key.kind, live, result)
            _compare(action, live, result)
            if key.kind == "StatefulSet":
                result.news.append(News("Normal", "Changed", "Apply", f"changed {key}: {action.why}"))
            return
        try:
            live = await self._client.apply(manifest, create_only=True)
        except ConflictError:
            found = await self._client.get(kind, lake.metadata.namespace, key.name)
            if _controller(found) != lake.metadata.uid:
                wait = not_ours(key)
                result.waits.append(wait)
                result.news.append(News("Warning", wait.reason.value, "Apply", wait.message))
                return
            # Ours, and not seen: it has lost its labels, or the watch has not brought it yet.
            live = await self._client.apply(manifest)
        self._put(key.kind, live, result)
        _compare(action, live, result)
        if key.kind == "StatefulSet":
            count = manifest["spec"]["replicas"]
            note = f"made {key} with {count} {'collector' if count == 1 else 'collectors'}"
            result.news.append(News("Normal", "Created", "Apply", note))

    async def _evict(self, namespace: str, pod: str, uid: str, why: str, result: Executed) -> None:
        try:
            await self._client.evict(namespace, pod, uid=uid)
        except ThrottledError as error:
            message = f"{pod} is stuck and may not be evicted now: {error.message}"
            result.waits.append(Wait(Reason.ROLLING_OUT, message, pod))
            return
        result.done += 1
        result.news.append(News("Warning", "Evicted", "Evict", f"evicted {pod}: {why}"))

    def _put(self, kind: str, live: Object, result: Executed) -> None:
        self._cache.put(kinds.of(kind), live)
        result.done += 1


def _compare(action: Apply, live: Object, result: Executed) -> None:
    """Whether it came back as it was sent. What admission changes would else be changed back once a second."""
    manifest = action.manifest
    pointers = drift.intruders(
        live, manifest, drift.foreign_fields(live["metadata"].get("managedFields") or ())
    )
    if pointers:  # of others, who set it before: the next pass takes it out
        return
    if path := drift.covers(live, manifest):
        message = (
            f"{action.key}: it was applied and came back otherwise at {path}: a webhook or policy of admission changes "
            "it; exempt the lake's objects from it, or say in spec what it is to be"
        )
        result.waits.append(Wait(Reason.CHANGED_BY_ADMISSION, message, str(action.key)))


def _controller(live: Object) -> str:
    owners = cast("list[dict[str, Any]]", live["metadata"].get("ownerReferences") or [])
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")


def refusal(what: str, error: ApiError) -> Wait:
    """Why the API server does not take it, as a reason, and what to do."""
    said = error.message if len(error.message) <= LONGEST_MESSAGE else error.message[:LONGEST_MESSAGE] + "…"
    if isinstance(error, ForbiddenError) and "exceeded quota" in said:
        return Wait(
            Reason.QUOTA_EXCEEDED,
            f"{what}: {said}; raise the quota or delete something of the namespace",
            what,
        )
    if isinstance(error, ForbiddenError) and " cannot " in said and "User " in said:
        return Wait(
            Reason.FORBIDDEN, f"{what}: the operator may not: {said}; compare its Role with the chart's", what
        )
    if error.code == 500:
        return Wait(
            Reason.REFUSED,
            f"{what}: an admission webhook does not answer, so nobody can write it: {said}; see kubectl get "
            "mutatingwebhookconfigurations,validatingwebhookconfigurations",
            what,
        )
    return Wait(Reason.REFUSED, f"{what}: the API server refuses: {said}", what)


def _what(action: Action) -> str:
    match action:
        case Apply() | RemoveForeign() | Delete() | RetainClaims() | OrphanRecreate():
            return str(action.key)
        case GrowClaim(claim, _):
            return str(Key("PersistentVolumeClaim", claim))
        case EvictPod(pod, _, _):
            return str(Key("Pod", pod))
        case DeleteJob(job, _, _):
            return str(Key("Job", job))
        case Wait():
            return action.subject


def _verb(action: Action) -> str:
    return type(action).__name__
