"""`crypto-lake check` as a task: what it leaves where it was told to, and for how long it waits."""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgspec
import pytest

from crypto_lake.cli.main import main
from crypto_lake.completeness.budget import Spent
from crypto_lake.lake import durable, tasks
from crypto_lake.lake.layout import Layout
from support.kept_lakes import make_kept_lake
from support.lakes import DAY

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return make_kept_lake(tmp_path_factory.mktemp("checked") / "data", symbols=("BTCUSDT",), trades=10)


def check(layout: Layout, day: str | None = DAY) -> int:
    rest = ("--set", f"collector.endpoint.rest={NOBODY}")
    days = () if day is None else ("--day", day)
    return main(["check", "--data", str(layout.root), *days, "--no-reports", *rest])


def test_it_leaves_its_outcome_where_the_variable_says(
    template: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "termination-log"
    monkeypatch.setenv("TASK_OUTCOME", str(path))
    assert check(template) == 4
    left = json.loads(path.read_bytes())
    assert (left["task"], left["ok"]) == ("check", False)
    assert NOBODY in left["problem"]
    # A look at one day neither raises an alert nor clears one: that is for a run over all.
    assert "check" not in tasks.read(template)
    assert check(template, day=None) == 0
    assert tasks.read(template)["check"].problem == ""


def test_it_waits_for_weight_no_longer_than_it_is_told(
    template: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exchange has closed the address for a minute and a half, for which it would wait by default."""
    spent = Spent(blocked_until=time.time() + 90, blocked_by=418)
    durable.write(template.state / "weight" / "binance.json", msgspec.json.encode(spent))
    monkeypatch.setenv("CHECK_PATIENCE", "0.5")
    began = time.monotonic()
    assert check(template) == 4
    assert "closed for" in capsys.readouterr().err
    assert time.monotonic() - began < 85
