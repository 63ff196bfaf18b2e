"""A data directory and a bucket, empty; and no pause between series."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto_lake.lake.layout import Layout
from crypto_lake.store import Store, open_store


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crypto_lake.macro.run.PAUSE_SECONDS", 0.0)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "data").mkdir()
    return Layout(tmp_path / "data")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "bucket").mkdir()
    return open_store(f"file://{tmp_path}/bucket")
