"""What the fake holds: buckets, objects, upload sessions, and who may do what."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import google_crc32c

GRAIN = 256 * 1024


class Refused(Exception):  # noqa: N818
    """An answer that is no success."""

    def __init__(self, status: int, message: str, reason: str) -> None:
        super().__init__(message)
        self.status, self.message, self.reason = status, message, reason

    def body(self) -> bytes:
        one = {"message": self.message, "domain": "global", "reason": self.reason}
        return json.dumps({"error": {"code": self.status, "message": self.message, "errors": [one]}}).encode()


class Digest:
    """Checksums of bytes as they come."""

    def __init__(self) -> None:
        self.size, self._crc, self._md5 = 0, 0, hashlib.md5(usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self.size += len(data)
        self._crc = google_crc32c.extend(self._crc, data)
        self._md5.update(data)

    @property
    def crc32c(self) -> str:
        return base64.b64encode(self._crc.to_bytes(4, "big")).decode()

    @property
    def md5(self) -> str:
        return base64.b64encode(self._md5.digest()).decode()


@dataclass(frozen=True)
class FakeObject:
    name: str
    data: bytes | None  # None where the server was told to discard bytes
    size: int
    crc32c: str
    md5: str | None
    generation: int
    metadata: dict[str, str]
    updated: str

    def resource(self, bucket: str) -> dict[str, Any]:
        found = {
            "kind": "storage#object",
            "id": f"{bucket}/{self.name}/{self.generation}",
            "name": self.name,
            "bucket": bucket,
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "size": str(self.size),
            "crc32c": self.crc32c,
            "metadata": self.metadata,
            "timeCreated": self.updated,
            "updated": self.updated,
        }
        return found if self.md5 is None else {**found, "md5Hash": self.md5}


@dataclass
class FakeBucket:
    objects: dict[str, FakeObject] = field(default_factory=dict)
    retention_seconds: int = 0
    soft_delete_seconds: int = 604800
    versioning: bool = False
    denied: list[tuple[str, str]] = field(default_factory=list)  # (prefix, permission)

    def may(self, permission: str, name: str) -> bool:
        return not any(name.startswith(prefix) and permission == denied for prefix, denied in self.denied)


@dataclass
class Session:
    """A resumable upload."""

    bucket: str
    resource: dict[str, Any]
    match: int | None
    size: int | None
    digest: Digest = field(default_factory=Digest)
    data: bytearray | None = field(default_factory=bytearray)
    made: FakeObject | None = None


@dataclass(frozen=True)
class Sent:
    """One request as it came, and how it was answered (0: not at all)."""

    step: str
    method: str
    name: str | None
    match: int | None
    status: int
    fault: str | None


class State:
    def __init__(self, buckets: list[str], discard: bool) -> None:
        self.buckets = {name: FakeBucket() for name in buckets}
        self.sessions: dict[str, Session] = {}
        self.discard = discard
        self.lock = threading.RLock()
        self._generation = 0

    def bucket(self, name: str) -> FakeBucket:
        if name not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.", "notFound")
        return self.buckets[name]

    def require(self, bucket: str, permission: str, name: str) -> None:
        kind = "bucket" if permission in ("storage.objects.list", "storage.buckets.get") else "object"
        if not self.bucket(bucket).may(permission, name):
            raise Refused(
                403,
                f"writer@project.iam.gserviceaccount.com does not have {permission} access to the Google Cloud "
                f"Storage {kind}. Permission '{permission}' denied on resource (or it may not exist).",
                "forbidden",
            )

    def existing(self, bucket: str, name: str, generation: int | None) -> FakeObject:
        self.require(bucket, "storage.objects.get", name)
        found = self.bucket(bucket).objects.get(name)
        if found is None or generation not in (None, found.generation):
            # Who may not list is not told whether there is such an object.
            self.require(bucket, "storage.objects.list", name)
            raise Refused(404, f"No such object: {bucket}/{name}", "notFound")
        return found

    def check_create(self, bucket: str, name: str, match: int | None) -> None:
        """Permissions, then the precondition, then retention: as they are at this moment."""
        self.require(bucket, "storage.objects.create", name)
        held = self.bucket(bucket).objects.get(name)
        if match is not None and match != (0 if held is None else held.generation):
            raise Refused(
                412, "At least one of the pre-conditions you specified did not hold.", "conditionNotMet"
            )
        if held is not None:
            self.check_delete(bucket, name)

    def check_delete(self, bucket: str, name: str) -> None:
        self.require(bucket, "storage.objects.delete", name)
        if self.bucket(bucket).retention_seconds:
            raise Refused(
                403,
                f"Object '{bucket}/{name}' is subject to bucket's retention policy or object retention and cannot "
                "be deleted or overwritten until 2099-01-01T00:00:00Z",
                "retentionPolicyNotMet",
            )

    def make(
        self, bucket: str, resource: dict[str, Any], match: int | None, digest: Digest, data: bytes | None
    ) -> FakeObject:
        with self.lock:
            name = resource["name"]
            self.check_create(bucket, name, match)
            for what, declared, found in (
                ("CRC32C", resource.get("crc32c"), digest.crc32c),
                ("MD5 hash", resource.get("md5Hash"), digest.md5),
            ):
                if declared not in (None, found):
                    raise Refused(
                        400,
                        f'Provided {what} "{declared}" doesn\'t match calculated {what} "{found}".',
                        "invalid",
                    )
            self._generation = max(self._generation + 1, time.time_ns() // 1000)
            made = FakeObject(
                name,
                data,
                digest.size,
                digest.crc32c,
                digest.md5,
                self._generation,
                {str(k): str(v) for k, v in (resource.get("metadata") or {}).items()},
                datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            )
            self.bucket(bucket).objects[name] = made
            return made
