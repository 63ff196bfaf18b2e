"""What may be done in a bucket, found out by requests that can't succeed: nothing is stored, nothing deleted.

A create and a delete carry a generation that a name which does not exist can't have; permissions are looked at before
preconditions, so the refusal tells. A role bound under a condition on the object's name is seen as it works, which the
bucket's testIamPermissions does not.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from crypto_lake.store.answers import Answer, permission_in
from crypto_lake.store.base import AccessReport, PrefixAccess

T = TypeVar("T")
_IMPOSSIBLE_GENERATION = 1


class Probing(Protocol):
    @property
    def url(self) -> str: ...

    def probe(
        self, needed: str, request: Callable[[Any, Any, tuple[float, float]], T], name: str
    ) -> T | Answer: ...


def bucket_access(store: Probing, prefixes: Sequence[str]) -> AccessReport:
    """One report for the bucket and each prefix. NoSuchBucket, NotAuthenticated and Unavailable are raised."""
    return _bucket(store, tuple(_prefix(store, prefix) for prefix in prefixes))


def _prefix(store: Probing, prefix: str) -> PrefixAccess:
    name = f"{prefix}access-{secrets.token_hex(8)}.probe"
    notes: list[str] = []

    def allowed(needed: str, answer: object, when: tuple[int, ...]) -> bool | None:
        if not isinstance(answer, Answer):
            return True
        if answer.status in when:
            return True
        lacking = permission_in(answer)
        if answer.status == 403 and lacking in ("", needed):
            return False
        notes.append(f"{needed}: not told ({answer})")
        return None

    create = store.probe(
        "storage.objects.create",
        lambda _bucket, blob, timeout: blob.upload_from_string(
            b"", if_generation_match=_IMPOSSIBLE_GENERATION, checksum=None, retry=None, timeout=timeout
        ),
        name,
    )
    if not isinstance(create, Answer):
        notes.append(
            "storage.objects.create: the server does not honour preconditions; never write to it with two"
        )
    get = store.probe(
        "storage.objects.get", lambda _bucket, blob, timeout: blob.reload(retry=None, timeout=timeout), name
    )
    listed = store.probe(
        "storage.objects.list",
        lambda bucket, blob, timeout: list(
            bucket.list_blobs(prefix=blob.name, max_results=1, retry=None, timeout=timeout)
        ),
        name,
    )
    delete = store.probe(
        "storage.objects.delete",
        lambda _bucket, blob, timeout: blob.delete(
            if_generation_match=_IMPOSSIBLE_GENERATION, retry=None, timeout=timeout
        ),
        name,
    )
    return PrefixAccess(
        prefix,
        create=allowed("storage.objects.create", create, (412,)),
        get=allowed("storage.objects.get", get, (404,)),
        list=allowed("storage.objects.list", listed, ()),
        delete=allowed("storage.objects.delete", delete, (404, 412)),
        notes=tuple(notes),
    )


def _bucket(store: Probing, prefixes: tuple[PrefixAccess, ...]) -> AccessReport:
    def look(bucket: Any, _blob: Any, timeout: tuple[float, float]) -> dict[str, Any]:
        bucket.reload(retry=None, timeout=timeout)
        return {
            "retention_seconds": int(bucket.retention_period or 0),
            "retention_locked": bool(bucket.retention_policy_locked),
            "soft_delete_seconds": int(bucket.soft_delete_policy.retention_duration_seconds or 0),
            "versioning": bool(bucket.versioning_enabled),
            "location": bucket.location,
        }

    found = store.probe("storage.buckets.get", look, "x")
    if isinstance(found, Answer):
        note = f"the bucket's retention, soft delete and versioning are not told: storage.buckets.get is missing ({found})"
        return AccessReport(store.url, prefixes, notes=(note,))
    notes: list[str] = []
    if found["retention_seconds"]:
        notes.append(
            f"the bucket retains every object for {found['retention_seconds']} s: a day can't get a new version before"
        )
    if found["soft_delete_seconds"]:
        notes.append(
            f"replaced objects are kept, and billed, for {found['soft_delete_seconds']} s (soft delete)"
        )
    if found["versioning"]:
        notes.append(
            "replaced objects stay as noncurrent versions, and are billed, until a lifecycle rule takes them"
        )
    return AccessReport(store.url, prefixes, notes=tuple(notes), **found)
