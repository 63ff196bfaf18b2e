"""What `diff` asks the API server: the patch of an apply, by who applied before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.operator_lakes import document

from crypto_lake_operator import applied

_keys = st.sampled_from("abc")
_leaves = st.sampled_from([None, 1, 2, [1], []])
_objects = st.recursive(
    st.dictionaries(_keys, _leaves, max_size=3),
    lambda inner: st.dictionaries(_keys, st.one_of(_leaves, inner), max_size=3),
    max_leaves=12,
)
_stored = st.recursive(
    st.dictionaries(_keys, st.sampled_from([1, 2, [1]]), max_size=3),
    lambda inner: st.dictionaries(_keys, st.one_of(st.just(1), inner), max_size=3),
    max_leaves=12,
)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def leaves(value: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict):
            found |= leaves(inner, (*path, key))
        else:
            found[(*path, key)] = inner
    return found


@given(_objects, _objects, _stored)
def test_what_is_said_now_stands_and_what_an_apply_of_before_said_alone_is_gone(
    before: dict[str, Any], now: dict[str, Any], live: dict[str, Any]
) -> None:
    result = merged(live, applied.three_way(before, now))
    after, said = leaves(result), leaves(now)
    for path, value in said.items():
        if value is not None:
            assert after[path] == value
    for key in before:
        if key not in now:
            assert key not in result
    for key in live:
        if key not in before and key not in now:
            assert result[key] == live[key]


def test_a_null_takes_out_once_and_then_leaves_what_another_wrote() -> None:
    assert applied.three_way({}, {"upload": None}) == {"upload": None}
    assert applied.three_way({"upload": None}, {"upload": None}) == {}


def _managed(manager: str, operation: str, subresource: str = "", field: str = "f:symbols") -> dict[str, Any]:
    entry = {"manager": manager, "operation": operation, "fieldsV1": {"f:spec": {field: {}}}}
    return entry | ({"subresource": subresource} if subresource else {})


@pytest.mark.parametrize(
    ("managed", "manager"),
    [
        ([], ""),
        ([_managed("helm", "Update")], ""),
        ([_managed("operator", "Apply", "status")], ""),
        ([_managed("pauser", "Apply", field="f:suspend")], ""),
        ([_managed("pauser", "Apply", field="f:suspend"), _managed("argocd-controller", "Apply")],
         "argocd-controller"),
    ],
)  # fmt: skip
def test_a_server_side_apply_is_asked_for_as_the_manager_that_owns_the_symbols(
    managed: list[dict[str, Any]], manager: str
) -> None:
    question = applied.question(document({}, managedFields=managed), document({"symbols": ["A"]}))
    assert question.query.startswith("dryRun=All&")
    if manager:
        assert question.content_type == applied.APPLY
        assert f"fieldManager={manager}" in question.query.split("&")
    else:
        assert question.content_type == applied.MERGE
        assert "fieldManager" not in question.query


@pytest.mark.parametrize("noted", ["", "{", "[]", "null", '{"spec": 1, "metadata": null}'])
def test_a_note_that_can_not_be_read_takes_nothing_out(noted: str) -> None:
    live = document({}, annotations={"kubectl.kubernetes.io/last-applied-configuration": noted})
    body = applied.question(live, document({"symbols": ["A"]})).body
    assert body["spec"] == {"symbols": ["A"]}
    assert body["metadata"]["annotations"] == {}


def test_a_file_that_was_read_from_the_api_server_is_asked_for_without_what_that_alone_writes() -> None:
    note = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": {"bucket": "b"}})}
    live = document({}, annotations=note | {"mine": "1"}, managedFields=[], resourceVersion="7")
    body = applied.question(live, live | {"status": {"symbols": 1}}).body
    assert body["metadata"] == {
        "name": "lake",
        "namespace": "lakes",
        "labels": {},
        "annotations": {"mine": "1"},
    }
    assert body["spec"] == {"bucket": None}
    assert "status" not in body
