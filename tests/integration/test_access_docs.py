"""Every example in Python and SQL that the pages on reading show is run, on a lake as they have it."""

from __future__ import annotations

import ast
import asyncio
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from crypto_lake import Lake
from crypto_lake.lake.layout import Layout
from crypto_lake.simulator.faults import Swallow
from support.bar_rows import Second, write_days
from support.ledger_world import STREAM, World
from support.macro import Scripted, ask, trading_days

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?P<language>python|sql)\n(?P<body>.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = ("reading.md", "sql.md")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two symbols over midnight, with a gap of five minutes and five of ids; and two macro series that were known by then."""
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
    days = trading_days(date(2024, 8, 1), date(2024, 8, 7))
    ask(
        Scripted({"^GSPC": days, "^VIX": days}),
        date(2024, 8, 8),
        "^GSPC",
        "^VIX",
        layout=Layout(tmp_path / "data"),
    )
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
        assert "2024-08-07" in shown.rpartition("^VIX date")[2], "known at noon of the next day"


@pytest.mark.parametrize("page", ["README.md", "docs/bars.md"])
def test_the_first_query_is_for_any_duckdb(page: str, data: Path) -> None:
    """On a lake with other symbols and macro series beside it."""
    (query,) = [match["body"] for match in BLOCK.finditer((ROOT / page).read_text())]
    with duckdb.connect() as connection:
        rows = connection.sql(query).fetchall()
        bars = connection.sql(
            f"SELECT * FROM ({query.rstrip().rstrip(';')}) ORDER BY window_start"
        ).fetchall()
    wanted = (
        Lake(data)
        .bars("BTCUSDT", every="1s")
        .select("window_start", "open", "high", "low", "close", "volume_base")
    )
    assert len(rows) in (5, 6900)
    assert bars == wanted.tail(len(rows)).collect().rows()


def test_the_example_of_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path / "data", 0)
    world.trades(5)
    world.faults.add(Swallow(STREAM, 2))
    world.trades(5)
    world.cut()
    world.passes(60.0)
    world.stop()
    monkeypatch.chdir(tmp_path)
    exec(python_of("ledger.md"), {})
    assert re.fullmatch(r"\d+ trades seen; \[\(\d+, \d+\)\] missing\n", capsys.readouterr().out)


def test_the_example_of_the_simulator() -> None:
    names: dict[str, Any] = {}
    asyncio.run(eval(python_of("simulator.md", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names))
    assert names["simulator"].faults()["swallow"] == {"fired": 0}


def python_of(page: str, flags: int = 0) -> Any:
    (body,) = [match["body"] for match in BLOCK.finditer((ROOT / "docs" / page).read_text())]
    return compile(body, page, "exec", flags)


def test_every_example_has_a_test_that_runs_it() -> None:
    """Pages with a block of Python or SQL; tests that are not here find theirs by the page's name."""
    here = {"README.md", "bars.md", "ledger.md", "simulator.md", *PAGES}
    elsewhere = {"macro.md": "test_macro_commands.py", "bigquery.md": "test_bigquery_statements.py"}
    with_examples = {
        path.name
        for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
        if re.search(r"^ *```(python|sql)", path.read_text(), re.MULTILINE)
    }
    assert with_examples == here | set(elsewhere)
    for page, test in elsewhere.items():
        (path,) = (ROOT / "tests").rglob(test)
        assert f'"docs" / "{page}"' in path.read_text()


def test_pages_name_every_view_macro_and_column() -> None:
    from crypto_lake.access.columns import NAMES
    from crypto_lake.access.macro import views
    from crypto_lake.access.macros import MACROS
    from crypto_lake.access.statements import VIEWS

    reading, sql = ((ROOT / "docs" / page).read_text() for page in PAGES)
    table = reading.partition("## Columns")[2].partition("\n## ")[0]
    assert [name for name in NAMES if not re.search(rf"\b{name}\b", table)] == []
    named = (*VIEWS, *views("files"), *(f"{macro}(" for macro in MACROS))
    assert [name for name in named if f"`{name}" not in sql] == []
