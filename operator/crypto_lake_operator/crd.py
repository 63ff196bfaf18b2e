"""The CustomResourceDefinition, and the reference page, of the typed model."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec
from msgspec import inspect

from crypto_lake import __version__
from crypto_lake_operator import api
from crypto_lake_operator.api import CryptoLakeSpec
from crypto_lake_operator.api_base import Part, Rule
from crypto_lake_operator.api_status import Status

CRD_NAME: Final = f"{api.PLURAL}.{api.GROUP}"
# By it `apply-crd` sees that a definition is a newer version's.
ANNOTATION_VERSION: Final = f"{api.GROUP}/version"
COLUMNS: Final = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether all is as spec wants it."),
    ("Symbols", "integer", ".status.symbols", "Symbols whose streams are live."),
    ("Lag", "string", ".status.lag", "Receipt minus exchange time."),
    ("Gaps", "integer", ".status.gapsOpen", "Gaps that are known and not filled."),
    ("Unuploaded", "string", ".status.notUploaded", "What is not in the bucket yet."),
    ("Collectors", "string", ".status.collectors", "Collectors that are live, and wanted."),
    ("Published", "string", ".status.lastPublishedDay", "Up to this day bars are final in the bucket."),
    ("Age", "date", ".metadata.creationTimestamp", "Since when there is this lake."),
)
WIDE: Final = frozenset({"Collectors", "Published"})  # with `-o wide` alone
Schema = dict[str, Any]


def crd() -> Schema:
    """The CustomResourceDefinition as it is applied."""
    columns = [
        {"name": name, "type": type_, "jsonPath": path, "description": text}
        | ({"priority": 1} if name in WIDE else {})
        for name, type_, path, text in COLUMNS
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": CRD_NAME,
            "labels": {"app.kubernetes.io/name": "crypto-lake"},
            "annotations": {ANNOTATION_VERSION: __version__},
        },
        "spec": {
            "group": api.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": api.KIND,
                "listKind": f"{api.KIND}List",
                "plural": api.PLURAL,
                "singular": "cryptolake",
                "shortNames": ["cl"],
            },
            "versions": [
                {
                    "name": api.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": root_schema()},
                }
            ],
        },
    }


def root_schema() -> Schema:
    """The structural schema of a whole CryptoLake."""
    return {
        "type": "object",
        "description": "A market-data lake: collectors, their volumes, and the tasks that work on them.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec_schema(),
            "status": schema_of(Status, defaults=False),
        },
    }


def spec_schema() -> Schema:
    """Of spec alone; the chart's values.schema.json holds it as lake.spec."""
    return schema_of(CryptoLakeSpec, defaults=True)


def schema_of(struct: type[msgspec.Struct], *, defaults: bool) -> Schema:
    return _schema(inspect.type_info(struct), defaults)


def _schema(type_: inspect.Type, defaults: bool) -> Schema:
    match type_:
        case inspect.Metadata():
            return _schema(type_.type, defaults) | cast("Schema", type_.extra_json_schema or {})  # pyright: ignore[reportUnknownMemberType]
        case inspect.StructType():
            return _object(type_, defaults)
        case inspect.StrType():
            return _bounded({"type": "string"}, type_.min_length, type_.max_length, "Length") | (
                {"pattern": type_.pattern} if type_.pattern else {}
            )
        case inspect.IntType():
            schema: Schema = {"type": "integer", "format": "int64"}
            return schema | {
                key: value
                for key, value in (("minimum", type_.ge), ("maximum", type_.le))
                if value is not None
            }
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.LiteralType():
            return {"type": "string", "enum": list(type_.values)}
        case inspect.EnumType():
            return {"type": "string", "enum": [member.value for member in type_.cls]}
        case inspect.VarTupleType():
            schema = {"type": "array", "items": _schema(type_.item_type, defaults)}
            return _bounded(schema, type_.min_length, type_.max_length, "Items")
        case inspect.DictType():
            schema = {"type": "object", "additionalProperties": _schema(type_.value_type, defaults)}
            return _bounded(schema, type_.min_length, type_.max_length, "Properties")
        case inspect.UnionType():
            return _union(type_, defaults)
        case _:
            raise TypeError(f"no schema for {type_}")


def _union(type_: inspect.UnionType, defaults: bool) -> Schema:
    members = [member for member in type_.types if not isinstance(member, inspect.NoneType)]
    if len(members) == 1:
        return _schema(members[0], defaults)
    text = next(member for member in members if isinstance(member, inspect.StrType))
    # A number or a text: the API server takes no `type` beside this.
    return {"x-kubernetes-int-or-string": True, "pattern": text.pattern, "maxLength": text.max_length}


def _bounded(schema: Schema, least: int | None, most: int | None, what: str) -> Schema:
    bounds = ((f"min{what}", least), (f"max{what}", most))
    return schema | {key: value for key, value in bounds if value is not None}


def _object(type_: inspect.StructType, defaults: bool) -> Schema:
    properties: dict[str, Schema] = {}
    for field in type_.fields:
        schema = _schema(field.type, defaults)
        if defaults and not field.required and (default := _default(field)) is not None:
            schema = schema | {"default": default}
        properties[field.encode_name] = schema
    rules = type_.cls.RULES if issubclass(type_.cls, Part) else ()
    for rule in rules:
        if rule.on:
            properties[rule.on] = _with_rule(properties[rule.on], rule)
    schema: Schema = {"type": "object", "properties": properties}
    required = [field.encode_name for field in type_.fields if field.required]
    if required:
        schema["required"] = required
    for rule in rules:
        if not rule.on:
            schema = _with_rule(schema, rule)
    return schema


def _with_rule(schema: Schema, rule: Rule) -> Schema:
    stated = schema.get("x-kubernetes-validations", [])
    return schema | {"x-kubernetes-validations": [*stated, {"rule": rule.cel, "message": rule.message}]}


def _default(field: inspect.Field) -> object:
    """The default in plain types. Of a level it is {}: the API server then fills in what is below it."""
    if field.default is msgspec.NODEFAULT or field.default is None or field.default == ():
        return None
    if isinstance(field.default, Part):
        return {}
    return msgspec.json.decode(msgspec.json.encode(field.default))  # lists, not tuples


def unknown_fields(value: object, schema: Schema, path: str = "") -> list[str]:
    """Paths of what the schema does not know: what the API server would refuse or drop."""
    if isinstance(value, dict):
        found: list[str] = []
        known, rest = schema.get("properties"), schema.get("additionalProperties")
        for key, inner in cast("dict[str, object]", value).items():
            at = f"{path}.{key}" if path else key
            below = known.get(key) if known is not None else rest
            if below is None and known is not None:
                found.append(at)
            elif below is not None:
                found += unknown_fields(inner, below, at)
        return found
    if isinstance(value, list) and "items" in schema:
        items = cast("list[object]", value)
        return [
            problem
            for number, item in enumerate(items)
            for problem in unknown_fields(item, schema["items"], f"{path}[{number}]")
        ]
    return []
