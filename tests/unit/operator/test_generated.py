"""Files that are made of the typed model are as it would make them; examples are valid and whole.

`pytest tests/unit/operator --update-golden` writes the generated ones anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.support.operator_lakes import NOW, SETTINGS

from crypto_lake.exchanges import EXCHANGES
from crypto_lake.model.series import DEFAULT_SERIES, MAX_SERIES_LENGTH, InvalidSeriesError, validate_series
from crypto_lake.model.symbols import MAX_SYMBOL_LENGTH
from crypto_lake_operator import crd, patterns, reference
from crypto_lake_operator.cli import lakes_in, written
from crypto_lake_operator.observed import Observed
from crypto_lake_operator.render import render
from crypto_lake_operator.validate import read_lake

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("*.yaml"))


def same_or_updated(path: Path, made: str, request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden", default=False):
        path.write_text(made)
    assert path.read_text() == made


def test_the_definition_in_manifests_is_the_models(request: pytest.FixtureRequest) -> None:
    same_or_updated(ROOT / "manifests" / "crd.yaml", written([crd.crd()], "yaml"), request)


def test_the_reference_page_is_the_models(request: pytest.FixtureRequest) -> None:
    page = ROOT / "docs" / "cryptolake.md"
    same_or_updated(page, reference.page(page.read_text()), request)


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="expected <!-- generated"):
        reference.page("nothing")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_and_renders(path: Path) -> None:
    (document,) = lakes_in([path], "default")
    assert render(read_lake(document), SETTINGS, Observed(taken_at=NOW))


def test_the_full_example_has_every_field() -> None:
    (document,) = lakes_in([ROOT / "manifests" / "examples" / "full.yaml"], "default")

    def unset(schema: dict[str, Any], values: list[Any], path: str) -> list[str]:
        found: list[str] = []
        for name, one in schema["properties"].items():
            given = [value[name] for value in values if name in value]
            if not given:
                found.append(f"{path}{name}")
            elif "properties" in one:
                found += unset(one, given, f"{path}{name}.")
            elif "properties" in one.get("items", {}):
                found += unset(one["items"], [item for items in given for item in items], f"{path}{name}[].")
        return found

    # Those two exclude another one that is there.
    assert unset(crd.spec_schema(), [document["spec"]], "") == [
        "pod.serviceAccountName",
        "pod.env[].valueFrom.secretKeyRef",
    ]


def test_the_schema_is_structural_and_bounded() -> None:
    def walk(schema: dict[str, Any], path: str) -> None:
        assert "$ref" not in schema
        assert (
            path in ("", ".spec", ".status", ".metadata", ".apiVersion", ".kind")
            or "description" in schema
            or path.endswith(("[]", "{}"))
        )
        if schema.get("x-kubernetes-int-or-string"):
            assert "type" not in schema
            assert schema["maxLength"]
            return
        match schema["type"]:
            case "object" if "additionalProperties" in schema:
                assert schema["maxProperties"], path
                walk(schema["additionalProperties"], path + "{}")
            case "object":
                for name, one in schema.get("properties", {}).items():
                    walk(one, f"{path}.{name}")
            case "array":
                assert schema["maxItems"], path
                assert schema.get("x-kubernetes-list-type") in ("set", "map", "atomic"), path
                walk(schema["items"], path + "[]")
            case "string" if path.startswith((".spec", ".status")):
                assert "maxLength" in schema or "enum" in schema or "format" in schema, path

    walk(crd.root_schema(), "")


@given(st.one_of(st.text("^GCX=.-&_~ a1\n", max_size=30), st.from_regex(patterns.SERIES)))
def test_the_schema_takes_the_series_that_the_data_plane_takes(name: str) -> None:
    try:
        taken = bool(validate_series(name))
    except InvalidSeriesError:
        taken = False
    by_schema = (
        re.search(patterns.SERIES, name) and not name.endswith("\n") and len(name) <= MAX_SERIES_LENGTH
    )
    assert taken == bool(by_schema)


def test_the_schema_knows_the_data_planes_exchanges_and_symbols() -> None:
    properties = crd.spec_schema()["properties"]
    assert properties["exchange"]["enum"] == sorted(EXCHANGES)
    assert properties["symbols"]["items"]["maxLength"] == MAX_SYMBOL_LENGTH
    series = properties["macro"]["properties"]["series"]
    assert series["default"] == list(DEFAULT_SERIES)
    assert all(re.search(series["items"]["pattern"], name) for name in DEFAULT_SERIES)
    assert series["items"]["maxLength"] == MAX_SERIES_LENGTH
    assert yaml.safe_load((ROOT / "manifests" / "crd.yaml").read_text())["metadata"]["name"] == crd.CRD_NAME
