"""The generated part of docs/cryptolake.md: every field of spec and status, with type, default and meaning."""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from crypto_lake_operator import crd
from crypto_lake_operator.reasons import BLOCKING, Reason

BEGIN: Final = "<!-- generated: begin (pytest tests/unit/operator --update-golden) -->"
END: Final = "<!-- generated: end -->"


def page(text: str) -> str:
    """The page with its generated part made anew. ValueError where the marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected {BEGIN} and {END} on lines of their own")
    return f"{before}{BEGIN}\n\n{generated()}\n{END}{after}"


def generated() -> str:
    root = crd.root_schema()["properties"]
    lines = ["## spec", "", *_table(root["spec"], "", defaults=True), "", "Rules beside these:", ""]
    lines += [f"- `{path or 'spec'}`: {message}." for path, message in _rules(root["spec"], "")]
    lines += [
        "",
        "## status",
        "",
        *_table(root["status"], "", defaults=False),
        "",
        "Reasons of conditions:",
        "",
    ]
    lines.append(", ".join(f"`{reason}`" for reason in Reason) + ".")
    blocking = ", ".join(f"`{reason}`" for reason in Reason if reason in BLOCKING)
    lines += ["", f"With {blocking} a lake is not Ready, whatever it collects.", ""]
    return "\n".join(lines)


def _table(schema: dict[str, Any], prefix: str, *, defaults: bool) -> list[str]:
    head = (
        ["| field | type | default | meaning |", "|---|---|---|---|"]
        if defaults
        else ["| field | type | meaning |", "|---|---|---|"]
    )
    return head + [
        _row(path, one, required, defaults=defaults) for path, one, required in _fields(schema, prefix)
    ]


def _fields(schema: dict[str, Any], prefix: str) -> list[tuple[str, dict[str, Any], bool]]:
    found: list[tuple[str, dict[str, Any], bool]] = []
    for name, one in cast("dict[str, dict[str, Any]]", schema["properties"]).items():
        path = prefix + name
        found.append((path, one, name in schema.get("required", ())))
        if "properties" in one:
            found += _fields(one, path + ".")
        elif "properties" in one.get("items", {}):
            found += _fields(one["items"], path + "[].")
    return found


def _row(path: str, schema: dict[str, Any], required: bool, *, defaults: bool) -> str:
    cells = [f"`{path}`", _type(schema)]
    if defaults:
        default = schema.get("default")
        shown = "" if default in (None, {}) else f"`{msgspec.json.encode(default).decode()}`"
        cells.append("required" if required else shown)
    return "| " + " | ".join([*cells, schema.get("description", "").replace("|", "\\|")]) + " |"


def _type(schema: dict[str, Any]) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    match schema["type"]:
        case "array":
            return f"list of {_type(schema['items'])}"
        case "object" if "additionalProperties" in schema:
            return f"map to {_type(schema['additionalProperties'])}"
        case "integer" if "minimum" in schema and "maximum" in schema:
            return f"{schema['minimum']} to {schema['maximum']}"
        case "string" if schema.get("format") == "date-time":
            return "time"
        case _:
            plain: str = schema["type"]
            return {"string": "text", "integer": "number", "boolean": "true or false"}.get(plain, plain)


def _rules(schema: dict[str, Any], path: str) -> list[tuple[str, str]]:
    found = [(path, rule["message"]) for rule in schema.get("x-kubernetes-validations", ())]
    for name, one in cast("dict[str, dict[str, Any]]", schema.get("properties", {})).items():
        found += _rules(one, f"{path}.{name}" if path else name)
    if "items" in schema:
        found += _rules(schema["items"], f"{path}[]")
    return found
