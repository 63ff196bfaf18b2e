"""What the API server is asked, as a dry run, to learn what a lake that is there would become by a file. Pure.

A stored lake may say more than the file: what another wrote, and defaults that an older definition wrote into it. An apply
takes out only what an apply of before put in, so that has to be known: by the field manager that owns the spec, or by
what `kubectl apply` notes on the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_DRY_RUN: Final = "dryRun=All&fieldValidation=Strict"
Object = Mapping[str, Any]


class Question(NamedTuple):
    """A PATCH of the lake. query: without the question mark."""

    query: str
    body: dict[str, Any]
    content_type: str


def question(live: Object, file: Object) -> Question:
    """As whoever applied the lake before would apply the file now."""
    wanted = _as_applied(file)
    manager = _applied_by(live)
    if manager:
        return Question(f"{_DRY_RUN}&fieldManager={manager}&force=true", wanted, APPLY)
    return Question(_DRY_RUN, three_way(_last_applied(live), wanted), MERGE)


def three_way(before: Object, now: Object) -> dict[str, Any]:
    """The merge patch by which an apply of `now` follows one of `before`. A null that both have changes nothing."""
    patch: dict[str, Any] = {key: None for key in before if key not in now}
    for key, value in now.items():
        if isinstance(value, dict):
            patch[key] = three_way(_map(before.get(key)), cast("dict[str, Any]", value))
        elif value is not None or key not in before or before[key] is not None:
            patch[key] = value
    return patch


def _as_applied(document: Object) -> dict[str, Any]:
    """Without what the API server alone writes: a file may be what was read from it."""
    metadata = _map(document.get("metadata"))
    names = {key: metadata.get(key) for key in ("name", "namespace")}
    annotations = {
        key: value for key, value in _map(metadata.get("annotations")).items() if key != _LAST_APPLIED
    }
    return {
        "apiVersion": document.get("apiVersion"),
        "kind": document.get("kind"),
        # Levels that are always there: of labels and annotations, an apply takes out single ones.
        "metadata": names | {"labels": _map(metadata.get("labels")), "annotations": annotations},
        "spec": _map(document.get("spec")),
    }


def _applied_by(live: Object) -> str:
    """Who set the spec by server-side apply; empty: nobody. Every lake has symbols, so they tell whose the spec is."""
    managed = cast("list[dict[str, Any]]", live["metadata"].get("managedFields") or [])
    for entry in managed:
        owns = "f:symbols" in _map(_map(entry.get("fieldsV1")).get("f:spec"))
        if owns and entry.get("operation") == "Apply" and not entry.get("subresource"):
            return str(entry["manager"])
    return ""


def _last_applied(live: Object) -> dict[str, Any]:
    """What `kubectl apply` noted; {} where there is nothing, or nothing that can be read."""
    text = _map(live["metadata"].get("annotations")).get(_LAST_APPLIED, "")
    try:
        return _as_applied(_map(msgspec.json.decode(text)))
    except msgspec.DecodeError:
        return {}


def _map(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
