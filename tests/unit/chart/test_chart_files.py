"""What is made of types and comments is as it would be made; what is not documented is refused."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.support.helm import PROGRAMS, why_not

from crypto_lake_operator import access, crd
from crypto_lake_operator.chart import dashboard, files, panels, schema, troubles, values
from crypto_lake_operator.reasons import BLOCKING, Reason

ROOT = Path(__file__).resolve().parents[3]
VALUES = (ROOT / files.CHART / "values.yaml").read_text()
BOARDS = files.BOARDS


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tool_chart", ROOT / "tools" / "chart.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tool_chart"] = module
    spec.loader.exec_module(module)
    return module


def test_the_files_that_are_made_are_as_they_would_be_made() -> None:
    different = [
        path
        for path, text in files.made(lambda path: (ROOT / path).read_text()).items()
        if (ROOT / path).read_text() != text
    ]
    assert different == [], "run `make chart`"


@pytest.mark.parametrize("major", [3, 4])
def test_the_plain_install_is_the_chart_with_its_defaults(major: int) -> None:
    if reason := why_not(major):
        pytest.skip(reason)
    made = tool().install(PROGRAMS[major])
    assert (ROOT / "manifests" / "install.yaml").read_text() == made, "run `make chart`"
    kinds = [document["kind"] for document in yaml.safe_load_all(made)]
    assert kinds[:2] == ["Namespace", "CustomResourceDefinition"]
    assert "Job" not in kinds
    assert "Pod" not in kinds


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((ROOT / files.CHART / "Chart.yaml").read_text())
    definition = crd.crd()
    assert (
        chart["appVersion"]
        == chart["version"]
        == definition["metadata"]["annotations"][crd.ANNOTATION_VERSION]
    )


def leaves(value: Any, path: tuple[str, ...], documented: set[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Paths of values that have no documentation at or above them."""
    if path in documented:
        return []
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key), documented)]
    return [path]


def test_every_value_is_documented() -> None:
    found = {value.path for value in values.read(VALUES)}
    assert leaves(yaml.safe_load(VALUES), (), found) == []
    assert len(found) > 40


# `no` and `on` are none: YAML reads them as booleans.
names = st.from_regex(r"[a-z][A-Za-z0-9]{0,8}", fullmatch=True).filter(
    lambda name: isinstance(yaml.safe_load(name), str)
)
words = st.from_regex(r"[A-Za-z`.,:;|]([A-Za-z0-9 `.,:;|-]{0,30}[A-Za-z0-9.])?", fullmatch=True)
defaults = st.one_of(
    st.booleans(),
    st.integers(-5, 5),
    st.just(""),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(names, st.integers(0, 9), max_size=3),
)
trees = st.recursive(
    st.tuples(words, defaults),
    lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(names, trees, min_size=1, max_size=4))
def test_what_is_written_as_values_is_read_back(tree: dict[str, Any]) -> None:
    lines: list[str] = []
    expected: list[values.Value] = []

    def write(tree: dict[str, Any], path: tuple[str, ...]) -> None:
        indent = "  " * len(path)
        for key, inner in tree.items():
            if isinstance(inner, dict):
                lines.append(f"{indent}{key}:")
                write(inner, (*path, key))
            else:
                text, default = inner
                lines.extend([f"{indent}# -- {text}", f"{indent}{key}: {json.dumps(default)}"])
                expected.append(values.Value((*path, key), default, text))

    write(tree, ())
    assert values.read("\n".join(lines)) == expected


def test_a_value_without_a_comment_is_refused() -> None:
    with pytest.raises(values.UndocumentedError, match=r"a\.b: no comment"):
        values.read("a:\n  b: 1\n")


def test_a_value_whose_type_can_not_be_told_is_refused() -> None:
    with pytest.raises(TypeError, match=r"x: say what it may be"):
        schema.schema([*values.read(VALUES), values.Value(("x",), {}, "")])


def test_the_schema_of_lakes_knows_each_field_of_the_definition_and_no_other() -> None:
    spec = json.loads(schema.schema(values.read(VALUES)))["properties"]["lake"]["properties"]["spec"]

    def compare(made: dict[str, Any], structural: dict[str, Any], path: str) -> int:
        assert set(made.get("properties", {})) == set(structural.get("properties", {})), path
        assert not [key for key in made if key.startswith("x-kubernetes")], path
        for key in (
            "enum",
            "pattern",
            "minimum",
            "maximum",
            "minItems",
            "maxItems",
            "default",
            "description",
        ):
            assert made.get(key) == structural.get(key), (path, key)
        if structural.get("properties"):
            assert made["additionalProperties"] is False, path
        count = 1
        for key, inner in structural.get("properties", {}).items():
            count += compare(made["properties"][key], inner, f"{path}.{key}")
        if "items" in structural:
            count += compare(made["items"], structural["items"], f"{path}[]")
        return count

    del spec["description"]  # of the value, not of the definition
    assert compare(spec, crd.spec_schema(), "spec") > 60


def test_roles_hold_the_rules_of_the_code() -> None:
    text = yaml.safe_load(files.rules_of_roles())
    for key, rules in (("lakes", access.IN_NAMESPACE), ("own", access.IN_OWN), ("cluster", access.CLUSTER)):
        assert text[key] == [rule.as_rbac() for rule in rules]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_panels_stand_side_by_side_and_say_what_they_mean(board: panels.Board) -> None:
    document = json.loads(dashboard.text(board))
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in document["panels"]]
    assert len(set(ids)) == len(ids)
    shown = [panel for row in board.rows for panel in row.panels]
    assert len({panel.title for panel in shown}) == len(shown)
    for panel in shown:
        assert panel.meaning.endswith("."), panel.title
        assert panel.queries
        # Each legend names a label that the query leaves.
        for query in panel.queries:
            for label in re.findall(r"\{\{(\w+)\}\}", query.legend):
                assert re.search(rf"by \([^)]*\b{label}\b", query.expression), (panel.title, label)


def test_what_grafana_needs_of_a_dashboard_is_there() -> None:
    for board in BOARDS:
        document = json.loads(dashboard.text(board))
        assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(document)
        assert len(document["uid"]) <= 40
        variables = [variable["name"] for variable in document["templating"]["list"]]
        assert variables == ["datasource", "namespace", "service"]
        for panel in document["panels"]:
            for target in panel.get("targets", ()):
                assert target["datasource"]["uid"] == "${datasource}"
                used = set(re.findall(r"\$(\w+)", target["expr"]))
                assert used <= {*variables, "__rate_interval"}, panel["title"]


DESCRIBED = {
    name
    for page in ("metrics.md", "dashboards.md")
    for name in re.findall(r"^\| `(crypto_lake_\w+)`", (ROOT / "docs" / page).read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_panels_ask_for_metrics_that_are_described(board: panels.Board) -> None:
    for row in board.rows:
        for panel in row.panels:
            for query in panel.queries:
                for name in re.findall(r"crypto_lake_\w+", query.expression):
                    assert name in DESCRIBED or re.sub(r"_(bucket|sum|count)$", "", name) in DESCRIBED, name


def test_each_reason_says_what_to_do() -> None:
    assert set(troubles.ALL) == set(Reason)
    for reason, trouble in troubles.ALL.items():
        assert trouble.conditions, reason
        if reason in BLOCKING:
            assert not trouble.do.startswith("Nothing"), reason
