"""What the operator needs of the API server, and what may become of a call. client_kube.py is the real one.

Errors are of few kinds, by what is to be done about them. `UnavailableError` and `ThrottledError` concern every call, the others
the one object. What passes by itself was tried again before it is raised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from crypto_lake_operator.kinds import Kind

Object = dict[str, Any]
PAGE: Final = 100  # of a list: decoded, an object takes ten times its bytes


class ApiError(Exception):
    """An answer that is no success. message: the API server's own words."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class ConflictError(ApiError):
    """409: it is not what the call took it for, or it is there already."""


class NotFoundError(ApiError):
    """404: neither the object nor, perhaps, its kind."""


class GoneError(ApiError):
    """410: the place in the history is over; list anew."""


class ForbiddenError(ApiError):
    """403: of RBAC, a quota or an admission webhook; the message tells which."""


class InvalidError(ApiError):
    """400, 413, 415, 422: the API server does not take that body; the same call will not do better. And 500 where only an
    admission webhook did not answer: that is about this object, and other lakes' calls go on.
    """


class UnavailableError(ApiError):
    """5xx, no answer, no connection, or 401: nobody is served now."""


class ThrottledError(UnavailableError):
    """429: come back later. retry_after_seconds: when, as the server says."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message, 429)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. resume: where the next one begins, empty at the end."""

    items: Sequence[Object]
    resource_version: str
    resume: str = ""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """type: ADDED, MODIFIED, DELETED or BOOKMARK. body: the object as JSON, not decoded."""

    type: str
    body: bytes


class Api(Protocol):
    """All calls raise ApiError. Each has a time limit of its own; `watch` ends by itself after some minutes."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Object: ...

    async def list_page(
        self,
        kind: Kind,
        namespace: str,
        selector: str,
        *,
        limit: int = PAGE,
        resume: str = "",
        fields: str = "",
    ) -> Page:
        """namespace: empty for all. selector, fields: of labels and of fields; empty for all."""
        ...

    def watch(
        self, kind: Kind, namespace: str, selector: str, resource_version: str
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        """Changes after `resource_version`. Raises GoneError where that is too long ago."""
        ...

    async def apply(self, manifest: Object, *, create_only: bool = False) -> Object:
        """Server-side apply, forced. create_only: ConflictError where the object is there."""
        ...

    async def json_patch(
        self, kind: Kind, namespace: str, name: str, operations: Sequence[Mapping[str, Any]]
    ) -> Object: ...

    async def merge_patch(
        self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any], *, subresource: str = ""
    ) -> Object: ...

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str,
        resource_version: str = "",
        propagation: str = "Background",
    ) -> None:
        """Only the object with that uid, and that resource version where one is given."""
        ...

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object: ...

    async def evict(self, namespace: str, pod: str, *, uid: str) -> None:
        """Raises ThrottledError where the disruption budget does not allow it now."""
        ...

    async def serves(self, kind: Kind) -> bool:
        """Whether the cluster has that kind."""
        ...
