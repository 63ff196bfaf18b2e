"""Every example in Python and SQL that the pages on reading show is run, on a lake as they have it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crypto_lake import Lake
from support.bar_rows import Second, write_days

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?P<language>python|sql)\n(?P<body>.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = ("reading.md", "sql.md")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two symbols over midnight, with a gap of five minutes and five of ids."""
    start = int(datetime(2024, 8, 8, 23, tzinfo=UTC).timestamp())
    seconds = [*range(1800), *range(2100, 7200)]
    for symbol in ("BTCUSDT", "ETHUSDT"):
        rows = [
            Second(
                start + n,
                100 + n,
                ((n, 100 + n, 10**8, n % 3 == 0),),
                quote=(99 + n, 1, 101 + n, 1),
                spreads=(2,),
            )
            for n in seconds
        ]
        write_days(tmp_path / "data", symbol, rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    blocks = [
        (match["language"], match["body"]) for match in BLOCK.finditer((ROOT / "docs" / page).read_text())
    ]
    assert {language for language, _ in blocks} >= {"python"}
    names: dict[str, Any] = {}
    with Lake(data).connect(read_only=True) as connection:
        for language, body in blocks:
            if language == "python":
                exec(compile(body, page, "exec"), names)
            else:
                assert connection.sql(body).fetchall(), body
    shown = capsys.readouterr().out
    if page == "reading.md":
        assert "did you mean BTCUSDT?" in shown
        assert "BTCUSDT: 2024-08-08 to 2024-08-09 (2 days)" in shown
        assert "missing" in shown


def test_pages_name_every_view_macro_and_column() -> None:
    from crypto_lake.access.columns import NAMES
    from crypto_lake.access.macros import MACROS
    from crypto_lake.access.statements import VIEWS

    reading, sql = ((ROOT / "docs" / page).read_text() for page in PAGES)
    table = reading.partition("## Columns")[2].partition("\n## ")[0]
    assert [name for name in NAMES if not re.search(rf"\b{name}\b", table)] == []
    assert [name for name in (*VIEWS, *(f"{macro}(" for macro in MACROS)) if f"`{name}" not in sql] == []
