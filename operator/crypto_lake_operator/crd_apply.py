"""The definition in a cluster brought up to date: what `apply-crd` does, before a release is installed or upgraded.

A definition that a newer version made is left alone: taking it back would drop fields of lakes that are there. Nothing
is ever deleted. Over any `Request`; `cluster.py` has the real one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, Protocol, cast

from crypto_lake_operator import crd

PATH: Final = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd.CRD_NAME}"
# Another name than the operator's own: it never writes a definition.
FIELD_MANAGER: Final = "crypto-lake-operator-crd"
APPLY: Final = "application/apply-patch+yaml"
JSON_PATCH: Final = "application/json-patch+json"
# The API server takes lakes by the new schema a moment after it has stored the definition, and tells nobody when.
SETTLE_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.25
_ATTEMPTS: Final = 5


class ClusterError(Exception):
    """An answer that is no success. `code`: of HTTP; 0: the API server was not reached."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Request(Protocol):
    """One request of the API server; the decoded answer. Raises ClusterError."""

    def __call__(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Any: ...


class Outcome(StrEnum):
    AS_IT_WAS = "is up to date"
    UPDATED = "was brought up to date"
    NEWER = "is of a newer version and is left as it is"


class NotEstablishedError(Exception):
    """The definition is stored, and the API server does not serve lakes by it."""


class NoDefinitionError(Exception):
    """There is no definition, and making one is not this command's."""


def apply(
    request: Request,
    *,
    field_manager: str = FIELD_MANAGER,
    wait_seconds: float = 60.0,
    settle_seconds: float = SETTLE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Server-side apply, forced; `field_manager` then owns all of it, alone.

    Helm 4 applies the definition, too, at an install, and fails where somebody else owns what it changes. So a release's
    hook passes Helm's own name. Returns when the API server serves lakes by the definition. Raises ClusterError,
    NoDefinitionError, NotEstablishedError.
    """
    live = _live(request)
    wanted = crd.crd()
    if is_newer(version_of(live), version_of(wanted)):
        return Outcome.NEWER
    changed = differs(live, wanted)
    request("PATCH", f"{PATH}?fieldManager={field_manager}&force=true&fieldValidation=Strict", wanted, APPLY)
    _own_alone(request, field_manager)
    _wait_until_established(request, wait_seconds, clock, sleep)
    if not changed:
        return Outcome.AS_IT_WAS
    sleep(settle_seconds)
    return Outcome.UPDATED


def _own_alone(request: Request, manager: str) -> None:
    for attempt in range(_ATTEMPTS):
        operations = disowning(request("GET", PATH), manager)
        if not operations:
            return
        try:
            request("PATCH", f"{PATH}?fieldManager={manager}", operations, JSON_PATCH)
            return
        except ClusterError as error:
            # 409, 422: it was changed meanwhile; the API server writes the status of a definition by itself.
            if error.code not in (409, 422) or attempt == _ATTEMPTS - 1:
                raise


def disowning(live: Mapping[str, Any], manager: str) -> list[dict[str, Any]]:
    """JSON patch that leaves `manager`, by apply, as the only one that owns fields, but for subresources; [] where it is."""
    entries = cast("list[dict[str, Any]]", live["metadata"].get("managedFields") or [])
    kept = [
        entry
        for entry in entries
        if entry.get("subresource") or (entry.get("manager"), entry.get("operation")) == (manager, "Apply")
    ]
    if len(kept) == len(entries):
        return []
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/metadata/managedFields", "value": kept},
    ]


def _live(request: Request) -> dict[str, Any]:
    try:
        return request("GET", PATH)
    except ClusterError as error:
        if error.code != 404:
            raise
        raise NoDefinitionError(
            f"there is no CustomResourceDefinition {crd.CRD_NAME}: "
            "install without --skip-crds, or kubectl apply --server-side -f manifests/crd.yaml"
        ) from None


def version_of(definition: Mapping[str, Any]) -> str:
    """Which version of the program made it; empty where it does not say."""
    annotations = cast("dict[str, str]", definition["metadata"].get("annotations") or {})
    return annotations.get(crd.ANNOTATION_VERSION, "")


def is_newer(live: str, ours: str) -> bool:
    """By the numbers of the version; one that can't be read is older than any."""
    return _numbers(live) > _numbers(ours)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def differs(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a live definition is not as ours, but for what the API server adds by itself.

    A changed label is no difference: it changes nothing of how lakes are read.
    """
    names, have = wanted["spec"]["names"], live["spec"]["names"]
    return (
        version_of(live) != version_of(wanted)
        or live["spec"]["versions"] != wanted["spec"]["versions"]
        or any(have.get(key) != value for key, value in names.items())
    )


def is_established(definition: Mapping[str, Any]) -> bool:
    conditions = cast("list[dict[str, str]]", definition.get("status", {}).get("conditions") or [])
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _wait_until_established(
    request: Request, wait_seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    until = clock() + wait_seconds
    while not is_established(request("GET", PATH)):
        if clock() > until:
            raise NotEstablishedError(
                f"{crd.CRD_NAME} is stored and not served after {wait_seconds:.0f} s: "
                f"see kubectl describe crd {crd.CRD_NAME}"
            )
        sleep(_POLL_SECONDS)
