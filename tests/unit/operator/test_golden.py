"""Children of a dozen lakes, as they were looked at once; a change of them is to be looked at again.

`pytest tests/unit/operator --update-golden` writes them anew.
"""

from __future__ import annotations

import pytest
import yaml
from tests.support.operator_lakes import GOLDEN, GOLDEN_NAMES, SETTINGS, golden, golden_observed

from crypto_lake_operator.cli import written
from crypto_lake_operator.render import render
from crypto_lake_operator.validate import read_lake


@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_children_are_as_they_were_looked_at(name: str, request: pytest.FixtureRequest) -> None:
    made = written(render(read_lake(golden(name)), SETTINGS, golden_observed(name)), "yaml")
    file = GOLDEN / name / "children.yaml"
    if request.config.getoption("--update-golden", default=False):
        file.write_text(made)
    assert list(yaml.safe_load_all(file.read_text())) == list(yaml.safe_load_all(made))
