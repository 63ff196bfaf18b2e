"""What may be done about a lake, as values: `decide` chooses them, `execute` does them."""

from __future__ import annotations

from dataclasses import dataclass

from crypto_lake_operator.observed import Key, Manifest
from crypto_lake_operator.reasons import Reason


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply, forced. Not `known`: it was not among the observed, and may be somebody else's; the executor
    then looks first, and refuses with Reason.NOT_OURS where another controls it.
    """

    manifest: Manifest
    known: bool
    why: str

    @property
    def key(self) -> Key:
        return Key(self.manifest["kind"], self.manifest["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class RemoveForeign:
    """JSON patch: test the resource version, then remove these pointers in this order."""

    key: Key
    resource_version: str
    pointers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delete:
    """With the uid as precondition, in the background."""

    key: Key
    uid: str


@dataclass(frozen=True, slots=True)
class GrowClaim:
    """Patch of the claim's request."""

    claim: str
    size: str


@dataclass(frozen=True, slots=True)
class RetainClaims:
    """Patch of a StatefulSet: its claims outlive it."""

    key: Key


@dataclass(frozen=True, slots=True)
class OrphanRecreate:
    """Delete the StatefulSet and leave its pods (propagationPolicy Orphan, uid and resource version as preconditions),
    then apply the manifest, which takes them over. Collecting goes on meanwhile.
    """

    key: Key
    uid: str
    resource_version: str
    manifest: Manifest
    why: str


@dataclass(frozen=True, slots=True)
class EvictPod:
    """By the eviction API, so that the disruption budget is asked."""

    pod: str
    uid: str
    why: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """With the uid as precondition and its pod, in the foreground: the claim is then free."""

    job: str
    uid: str
    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Something can't be done now, or not by the operator. It becomes the condition Reconciled."""

    reason: Reason
    message: str
    subject: str = ""


Action = (
    Apply | RemoveForeign | Delete | GrowClaim | RetainClaims | OrphanRecreate | EvictPod | DeleteJob | Wait
)
