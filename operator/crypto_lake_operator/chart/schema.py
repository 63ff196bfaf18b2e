"""values.schema.json: of the values' defaults and comments, what is said here of some, and the CRD for `lake.spec`."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from crypto_lake_operator import crd
from crypto_lake_operator.chart.values import Value
from crypto_lake_operator.config import OperatorSettings

Schema = dict[str, Any]
_TEXTS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}}
_DNS_LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SECONDS: Final[Schema] = {"type": "number", "exclusiveMinimum": 0}
_PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}
_PORTS: Final[Schema] = {"type": "array", "minItems": 1, "items": _PORT}
_RESOURCES: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"requests": {"type": "object"}, "limits": {"type": "object"}},
}
_VARIABLES: Final[Schema] = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"},
            "value": {"type": "string"},
            "valueFrom": {"type": "object"},
        },
    },
}
_SETTINGS: Final = cast(
    "Schema", msgspec.json.schema(OperatorSettings)["$defs"]["OperatorSettings"]["properties"]
)
# Where a default does not tell what may stand there.
_FURTHER: Final[dict[str, Schema]] = {
    "nameOverride": {"type": "string", "pattern": f"^({_DNS_LABEL})?$"},
    "fullnameOverride": {"type": "string", "pattern": f"^({_DNS_LABEL})?$"},
    "commonLabels": _TEXTS,
    "image.repository": {"type": "string", "minLength": 1},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {"name": {"type": "string"}},
        },
    },
    "replicas": {"type": "integer", "enum": [1, 2]},
    "watch.namespaces": {
        "type": "array",
        "uniqueItems": True,
        "items": {"type": "string", "pattern": f"^{_DNS_LABEL}$"},
    },
    "operator.logLevel": {"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]},
    "operator.workers": {key: value for key, value in _SETTINGS["workers"].items() if key != "default"},
    "operator.resyncSeconds": _SECONDS,
    "operator.pollSeconds": _SECONDS,
    "operator.statusSeconds": {"type": "number", "minimum": 0},
    "operator.env": _VARIABLES,
    "resources": _RESOURCES,
    "podLabels": _TEXTS,
    "podAnnotations": _TEXTS,
    "nodeSelector": _TEXTS,
    "tolerations": _OBJECTS,
    "affinity": {"type": "object"},
    "serviceAccount.annotations": _TEXTS,
    "networkPolicy.egressPorts": _PORTS,
    "prometheus.podLabels": {
        "type": "array",
        "items": {"type": "string", "pattern": r"^[A-Za-z0-9./_-]+=[A-Za-z0-9._-]*$"},
    },
    "serviceMonitor.labels": _TEXTS,
    "serviceMonitor.interval": {"type": "string", "pattern": "^[1-9][0-9]*(ms|s|m|h)$"},
    "prometheusRule.labels": _TEXTS,
    "runbookUrl": {"type": "string", "pattern": r"^(https?://\S+)?$"},
    "dashboards.labels": _TEXTS,
    "dashboards.annotations": _TEXTS,
    "dashboard.data": {"type": "string", "pattern": r"^(gs://[a-z0-9][a-z0-9._-]+(/\S*)?)?$"},
    "dashboard.exchange": {"type": "string", "pattern": "^[a-z0-9-]*$"},
    "dashboard.status": {"type": "array", "items": {"type": "string", "pattern": r"^https?://\S+$"}},
    "dashboard.staleAfter": {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|[smhdw]))*$"},
    "dashboard.port": _PORT,
    "dashboard.env": _VARIABLES,
    "dashboard.resources": _RESOURCES,
    "dashboard.podLabels": _TEXTS,
    "dashboard.podAnnotations": _TEXTS,
    "dashboard.nodeSelector": _TEXTS,
    "dashboard.tolerations": _OBJECTS,
    "dashboard.affinity": {"type": "object"},
    "dashboard.serviceAccount.annotations": _TEXTS,
    "dashboard.networkPolicy.from": _OBJECTS,
    "dashboard.networkPolicy.egressPorts": _PORTS,
    "lake.name": {"type": "string", "pattern": r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$"},
    "lake.labels": _TEXTS,
    "lake.annotations": _TEXTS,
}
_BY_DEFAULT: Final[dict[type, Schema]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
}


def schema(values: list[Value]) -> str:
    """The file's text. Keys that are not known are refused at every level. TypeError where a value has no type."""
    unknown = sorted(set(_FURTHER) - {value.name for value in values})
    if unknown:
        raise TypeError(f"not among the values: {', '.join(unknown)}")
    root = _level()
    root["$schema"] = "http://json-schema.org/draft-07/schema#"
    root["properties"]["global"] = {"type": "object", "description": "Of a chart above this one; not used."}
    for value in values:
        level = root
        for key in value.path[:-1]:
            level = level["properties"].setdefault(key, _level())
        level["properties"][value.path[-1]] = {"description": value.text} | _of(value)
    # Without a lake its spec may stay empty.
    root["if"] = {
        "required": ["lake"],
        "properties": {"lake": {"required": ["enabled"], "properties": {"enabled": {"const": True}}}},
    }
    root["then"] = {
        "properties": {"lake": {"properties": {"spec": {"required": crd.spec_schema()["required"]}}}}
    }
    return msgspec.json.format(msgspec.json.encode(root), indent=2).decode() + "\n"


def _level() -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _of(value: Value) -> Schema:
    if value.name == "lake.spec":
        spec = plain(crd.spec_schema())
        del spec["required"]
        return spec
    if value.name in _FURTHER:
        return _FURTHER[value.name]
    found = _BY_DEFAULT.get(type(cast("object", value.default)))
    if found is None:
        raise TypeError(f"{value.name}: say what it may be in chart/schema.py")
    return found


def plain(structural: Schema) -> Schema:
    """A structural schema as JSON schema: without Kubernetes' own words, and closed."""
    kept: Schema = {
        key: value
        for key, value in structural.items()
        if not key.startswith("x-kubernetes-") and key not in ("format", "nullable", "properties", "items")
    }
    if structural.get("x-kubernetes-int-or-string"):
        kept["type"] = ["integer", "string"]
    if structural.get("nullable"):
        kept["type"] = [structural["type"], "null"]
    if "properties" in structural:
        kept["properties"] = {key: plain(inner) for key, inner in structural["properties"].items()}
        kept["additionalProperties"] = False
    if isinstance(structural.get("additionalProperties"), dict):
        kept["additionalProperties"] = plain(structural["additionalProperties"])
    if "items" in structural:
        kept["items"] = plain(structural["items"])
    if structural.get("x-kubernetes-list-type") == "set":
        kept["uniqueItems"] = True
    return kept
