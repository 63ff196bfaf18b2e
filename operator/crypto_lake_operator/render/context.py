"""What all parts of rendering know, and what all manifests have in common."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec

from crypto_lake_operator import api, naming, shards
from crypto_lake_operator.api import CryptoLake, CryptoLakeSpec
from crypto_lake_operator.config import OperatorSettings
from crypto_lake_operator.observed import Manifest

ANNOTATION_RENDERED: Final = f"{api.GROUP}/rendered"
ANNOTATION_RESTART: Final = f"{api.GROUP}/settings"
HTTP_PORT: Final = 9464
CONFIG_FOLDER: Final = "/etc/crypto-lake"
WEBHOOK_FOLDER: Final = "/etc/crypto-lake-webhook"
DATA_FOLDER: Final = "/data"


@dataclass(frozen=True, slots=True)
class Context:
    """apis: the optional kinds that the cluster has, as `observed.API_…` names them."""

    lake: CryptoLake
    settings: OperatorSettings
    assignment: shards.Assignment
    apis: frozenset[str]

    @property
    def spec(self) -> CryptoLakeSpec:
        return self.lake.spec

    @property
    def name(self) -> str:
        return self.lake.metadata.name

    @property
    def base(self) -> str:
        return naming.base(self.name)

    @property
    def image(self) -> str:
        return self.spec.image or self.settings.image

    @property
    def service_account(self) -> str:
        return self.spec.pod.service_account_name or self.base

    def manifest(
        self, version: str, kind: str, name: str, component: str, body: dict[str, Any], **labels: str
    ) -> Manifest:
        """A child with the standard labels. `body`: what it has beside metadata."""
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": self.lake.metadata.namespace,
            "labels": naming.labels(self.name, component) | labels,
        }
        return {"apiVersion": version, "kind": kind, "metadata": metadata} | body


def finished(context: Context, manifest: Manifest) -> Manifest:
    """With its owner, without what is empty, and with a hash of all that.

    Empty lists are left out: each apply of one counts as a change.
    """
    lake = context.lake
    metadata = manifest["metadata"]
    owner = {
        "apiVersion": api.API_VERSION,
        "kind": api.KIND,
        "name": lake.metadata.name,
        "uid": lake.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    whole = cast("Manifest", without_empty(manifest | {"metadata": metadata | {"ownerReferences": [owner]}}))
    annotations = whole["metadata"].get("annotations", {}) | {ANNOTATION_RENDERED: hash_of(whole)}
    return whole | {"metadata": whole["metadata"] | {"annotations": annotations}}


def hash_of(value: object) -> str:
    """Of what a value holds, whatever the order of its keys."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]


def without_empty(value: object) -> object:
    """Without None and empty lists, at any depth. Empty objects mean something (`emptyDir: {}`) and stay."""
    if isinstance(value, dict):
        pairs = {key: without_empty(inner) for key, inner in cast("dict[str, object]", value).items()}
        return {key: inner for key, inner in pairs.items() if inner is not None and inner != []}
    if isinstance(value, list | tuple):
        return [without_empty(inner) for inner in cast("list[object]", value)]
    return value
