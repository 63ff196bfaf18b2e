"""The schema's rules in Python: for a lake that came past an older schema."""

from __future__ import annotations

import pytest
from hypothesis import given
from tests.support.bad_lakes import BAD_LAKES, BadLake, spec
from tests.support.operator_lakes import document, documents

from crypto_lake_operator import crd
from crypto_lake_operator.validate import SpecError, holds, read_lake


@pytest.mark.parametrize("bad", [bad for bad in BAD_LAKES if bad.before is None], ids=str)
def test_a_bad_lake_is_refused_in_the_same_words(bad: BadLake) -> None:
    with pytest.raises(SpecError) as caught:
        read_lake(document(bad.spec))
    # The field's path where the schema tells one, without the number of the item.
    expected = bad.message.split("[")[0] if bad.of_schema else bad.message
    assert expected in str(caught.value)
    read_lake(document(bad.good))


def test_every_rule_but_those_about_a_change_has_its_twin() -> None:
    def rules(schema: dict) -> list[dict]:
        below = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
        return schema.get("x-kubernetes-validations", []) + [rule for inner in below for rule in rules(inner)]

    for rule in rules(crd.spec_schema()):
        assert (holds(rule["message"]) is None) == ("oldSelf" in rule["rule"]), rule


@given(documents)
def test_any_valid_lake_is_read_and_has_no_field_that_the_schema_does_not_know(lake: dict) -> None:
    read_lake(lake)
    assert crd.unknown_fields(lake["spec"], crd.spec_schema()) == []


def test_what_is_not_known_is_named_with_its_path() -> None:
    unknown = spec(simbols=1, pod={"env": [{"name": "A", "valeu": "x"}]}, retention={"row": "7d"})
    assert crd.unknown_fields(unknown, crd.spec_schema(), "spec") == [
        "spec.simbols",
        "spec.pod.env[0].valeu",
        "spec.retention.row",
    ]


def test_a_schedule_that_ends_before_it_begins_is_refused_though_the_schema_can_not_tell() -> None:
    with pytest.raises(SpecError, match="ends before it begins"):
        read_lake(document(spec(schedules={"upload": "30-10 * * * *"})))
