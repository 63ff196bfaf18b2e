"""What a refusal of Cloud Storage means. Pure: from status and body to an error that says what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from crypto_lake.store.errors import (
    Forbidden,
    NoSuchBucket,
    NotAuthenticated,
    Refused,
    RetentionPolicyBlocks,
    StoreError,
    WrongProject,
)

_PERMISSION = re.compile(r"storage\.(?:objects|buckets|multipartUploads)\.[A-Za-z]+")
_NO_BUCKET = re.compile(r"^(?!no such object).*\bbucket\b.*(?:does not exist|not found)", re.I)
_LONGEST_MESSAGE = 400
_TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_RATE_REASONS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "backendError"})
_PROJECT_REASONS = frozenset(
    {"accessNotConfigured", "accountDisabled", "billingNotEnabled", "userProjectMissing", "userProjectDenied"}
)
_PROJECT_WORDS = re.compile(
    r"requester pays|user project|billing account|serviceusage\.services\.use|has not been used in project",
    re.I,
)
_CHECKSUM_WORDS = re.compile(
    r"(?:crc32c|md5).*(?:match|computed|calculated)|(?:match|computed|calculated).*(?:crc32c|md5)",
    re.I | re.S,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no success: its status, the server's words, and the reasons it gives by name."""

    status: int
    message: str
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"HTTP {self.status}: {self.message}" if self.message else f"HTTP {self.status}"


def parse_answer(status: int, body: bytes) -> Answer:
    """From the body as it came: the JSON API's error, or any text; cut to a readable length."""
    message, reasons = "", ()
    try:
        decoded: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body.decode("utf-8", "replace")
        message = re.sub(r"<[^>]*>", " ", text)
    else:
        error = cast("dict[str, Any]", decoded).get("error") if isinstance(decoded, dict) else None
        if isinstance(error, dict):
            fields = cast("dict[str, Any]", error)
            message = str(fields.get("message") or "")
            details: object = fields.get("errors")
            if isinstance(details, list):
                entries = [
                    cast("dict[str, Any]", one)
                    for one in cast("list[object]", details)
                    if isinstance(one, dict)
                ]
                reasons = tuple(str(entry["reason"]) for entry in entries if "reason" in entry)
        elif isinstance(error, str):
            message = error
    message = " ".join(message.split())
    return Answer(status, message[:_LONGEST_MESSAGE], reasons)


def is_transient(answer: Answer) -> bool:
    """Whether the same request may succeed in a moment."""
    return answer.status in _TRANSIENT_STATUSES or (
        answer.status == 403 and not _RATE_REASONS.isdisjoint(answer.reasons)
    )


def is_checksum_mismatch(answer: Answer) -> bool:
    """Whether the server refused the bytes because they are not those that were declared."""
    return answer.status == 400 and _CHECKSUM_WORDS.search(answer.message) is not None


def names_bucket(answer: Answer) -> bool:
    """Whether a 404 says that it is the bucket that does not exist."""
    return answer.status == 404 and _NO_BUCKET.search(answer.message) is not None


def permission_in(answer: Answer) -> str:
    found = _PERMISSION.search(answer.message)
    return found[0] if found else ""


def error_of(answer: Answer, *, at: str, bucket: str, needed: str) -> StoreError:
    """The error for an answer that is not to be retried. `needed` is the permission that the request takes."""
    told = answer.message.rstrip(".") or f"HTTP {answer.status}"
    words = " ".join((answer.message, *answer.reasons))
    if answer.status == 401:
        return NotAuthenticated(
            f"the credentials were refused ({told})",
            at=at,
            hint="Check which identity runs this: on GKE the pod's service account and its Workload Identity, "
            "elsewhere `gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS.",
        )
    if _PROJECT_WORDS.search(answer.message) or not _PROJECT_REASONS.isdisjoint(answer.reasons):
        return WrongProject(
            f"the project was refused ({told})",
            at=at,
            hint="Check that the bucket's project has billing, and for a bucket of «requester pays» that a project "
            "to be billed is configured on which this identity may use services.",
        )
    if answer.status == 403 and re.search(r"retention|object hold|is under active", words, re.I):
        return RetentionPolicyBlocks(
            f"the bucket's retention policy or a hold forbids to replace the object ({told})",
            at=at,
            hint="A day can get a new version only where its prefix is free of retention: shorten the bucket's "
            "retention policy, or keep parquet/ and manifests/ in a bucket without one.",
        )
    if answer.status == 403:
        permission = permission_in(answer) or needed
        return Forbidden(
            f"permission {permission} is missing ({told})",
            at=at,
            hint=f"Grant {permission} on gs://{bucket} to the identity that runs this; docs/store.md has the roles "
            "and conditions for each prefix.",
            permission=permission,
        )
    if answer.status == 404:
        return NoSuchBucket(
            f"there is no bucket {bucket} ({told})",
            at=at,
            hint="Check the bucket's name, or make it: "
            f"gcloud storage buckets create gs://{bucket} --uniform-bucket-level-access.",
        )
    return Refused(
        f"the store refused the request with HTTP {answer.status} ({told})",
        at=at,
        hint="Trying again changes nothing; the server's words say what it objects to.",
        status=answer.status,
    )
