"""docs/configuration.md names every key with its default, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from crypto_lake.config.tree import leaves

TEXT = (Path(__file__).parents[3] / "docs/configuration.md").read_text()


def test_every_key_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| ([^|]*) \|", TEXT, re.MULTILINE))
    assert rows.keys() == leaves().keys()
    for path, leaf in leaves().items():
        shown = rows[path].strip()
        if leaf.default == "":
            assert shown == "none", path
        elif not leaf.is_list:
            assert shown == f"`{leaf.default}`", path
