"""The analysis notebook runs from top to bottom, and is copied as it should be."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import random
import sys
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from crypto_lake import Lake
from crypto_lake.cli import notebook
from crypto_lake.cli.main import main
from crypto_lake.lake.layout import Layout
from support.bar_rows import Second, write_days
from support.macro import Scripted, ask, trading_days

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "notebooks" / "analysis_template.ipynb"
START = int(datetime(2024, 8, 8, 13, tzinfo=UTC).timestamp())


def make_market(root: Path, symbols: tuple[str, ...], *, quotes: bool = True) -> None:
    """Half an hour that moves, with five minutes missing, some seconds without a trade and some healed."""
    for symbol in symbols:
        chance = random.Random(symbol)
        price, id_, rows = 6_000_000_000_000, 1, list[Second]()
        for second in range(START, START + 1800):
            price = int(price * (1 + chance.gauss(0, 1) * 1e-4))
            trades = tuple(
                (
                    id_ + n,
                    price + chance.randint(-(10**8), 10**8),
                    chance.randint(1, 10**8),
                    chance.random() < 0.5,
                )
                for n in range(chance.choice((0, 1, 2)) if rows else 1)
            )
            id_ += len(trades)
            if START + 600 <= second < START + 900:
                continue
            close = trades[-1][1] if trades else rows[-1].close
            state = "healed" if second > START + 1500 else "complete"
            quote = (price - 10**8, 10**8, price + 10**8, 10**8) if quotes else None
            rows.append(Second(second, close, trades, state, quote, (2 * 10**8,) if quotes else ()))
        write_days(root, symbol, rows)


def keep_series(root: Path) -> None:
    """A macro series that was fetched long after its days, and one of which nothing was known when the market was."""
    days = {
        "^GSPC": trading_days(date(2024, 8, 1), date(2024, 8, 9)),
        "^VIX": trading_days(date(2024, 8, 9), date(2024, 8, 9)),
    }
    ask(Scripted(days), date(2024, 9, 1), *days, layout=Layout(root))


def run(path: Path) -> Any:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("matplotlib")
    pytest.importorskip("ipykernel")
    book = nbformat.read(path, 4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    code[0].source += "\nimport warnings\nwarnings.simplefilter('error')"
    nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    return book


def pictures(book: Any) -> int:
    found = [
        base64.b64decode(output["data"]["image/png"])
        for cell in book.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert all(data.startswith(b"\x89PNG") and len(data) > 5000 for data in found)
    return len(found)


def told(book: Any) -> str:
    return "".join(
        output.get("text", "")
        for cell in book.cells
        for output in cell.get("outputs", [])
        if "text" in output
    )


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own client; the kernel holds the notebook to `error`
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a process that has Streamlit loaded: without a word of the notebook's own there would be no pictures.
    monkeypatch.setenv("MPLBACKEND", "Agg")
    make_market(tmp_path / "lake", ("BTCUSDT", "ETHUSDT"))
    keep_series(tmp_path / "lake")
    assert main(["notebook", str(tmp_path / "here"), "--no-open", "--data", str(tmp_path / "lake")]) == 0
    book = run(tmp_path / "here" / "analysis.ipynb")
    # Coverage, two of candles, imbalance, spread, volatility, correlation, volume profile, macro series.
    assert pictures(book) == 9
    assert "BTCUSDT, ETHUSDT, 2024-08-08 13:00 to 2024-08-08 13:30 UTC" in told(book)
    assert "^VIX: no value was known by then" in told(book)
    assert "^GSPC: no value" not in told(book)


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("symbols", "quotes"), [(("BTCUSDT",), False), (("A1", "B2", "C3", "D4", "E5", "F6", "G7"), True)]
)
def test_it_runs_on_one_symbol_and_on_many(tmp_path: Path, symbols: tuple[str, ...], quotes: bool) -> None:
    make_market(tmp_path / "data", symbols, quotes=quotes)
    assert main(["notebook", str(tmp_path), "--no-open", "--data", str(tmp_path / "data")]) == 0
    book = run(tmp_path / "analysis.ipynb")
    assert pictures(book) == (8 if len(symbols) > 1 else 7)
    assert ("no quotes in this range" in told(book)) is not quotes
    assert "this lake has no macro series" in told(book)


def test_on_a_lake_without_bars_it_says_so(tmp_path: Path) -> None:
    (connect,) = [
        "".join(cell["source"])
        for cell in json.loads(TEMPLATE.read_text())["cells"]
        if "lake = Lake(LAKE)" in "".join(cell["source"])
    ]
    with pytest.raises(ValueError, match="has no bars yet; crypto-lake run collects"):
        exec(connect, {"Lake": Lake, "LAKE": tmp_path, "SYMBOLS": []})


def test_it_is_kept_without_outputs() -> None:
    book = json.loads(TEMPLATE.read_text())
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert code[0]["source"][0].startswith('LAKE = "data"')
    assert set(book["metadata"]) == {"kernelspec", "language_info"}


def test_a_file_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "analysis.ipynb").write_text("mine")
    assert main(["notebook", str(tmp_path), "--no-open"]) == 2
    assert "is there already and stays as it is" in capsys.readouterr().err
    assert (tmp_path / "analysis.ipynb").read_text() == "mine"


def test_the_copy_names_the_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, data, said in (
        ("a", "gs://my-lake/prod", "LAKE = 'gs://my-lake/prod'"),
        ("b", 'it\'s "data"', "LAKE = '/"),
    ):
        assert main(["notebook", folder, "--no-open", "--data", data]) == 0
        book = json.loads((tmp_path / folder / "analysis.ipynb").read_text())
        first = next(cell for cell in book["cells"] if cell["cell_type"] == "code")["source"]
        line = "".join(first).splitlines()[0]
        assert line.startswith(said)
        names: dict[str, Any] = {}
        exec(line, names)
        assert names["LAKE"] == (data if "://" in data else str(tmp_path / data))


def test_it_opens_jupyter_on_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jupyterlab")
    ran: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: ran.append(arguments))
    main(["notebook", str(tmp_path)])
    assert ran == [[sys.executable, "-m", "jupyterlab", str(tmp_path / "analysis.ipynb")]]
    (tmp_path / "analysis.ipynb").write_text("mine")
    main(["notebook", str(tmp_path)])  # the one that is there
    assert len(ran) == 2
    assert (tmp_path / "analysis.ipynb").read_text() == "mine"
    assert importlib.util.find_spec("jupyterlab.__main__")  # what is started there exists


def test_without_the_extra_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook, "_installed", lambda name: name != "jupyterlab")
    assert main(["notebook", str(tmp_path)]) == 2
    assert "jupyterlab is not installed; run pip install 'crypto-lake[notebook]'" in capsys.readouterr().err
    assert (tmp_path / "analysis.ipynb").exists()


def test_a_wheel_has_it(tmp_path: Path) -> None:
    hatchling = pytest.importorskip("hatchling.builders.wheel")
    (name,) = list(hatchling.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(name) as wheel:
        assert json.loads(wheel.read("crypto_lake/cli/analysis_template.ipynb")) == json.loads(
            TEMPLATE.read_text()
        )
