"""`crypto-lake query` and `crypto-lake sql`, as a user calls them."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake import Lake
from crypto_lake.access.columns import NAMES
from crypto_lake.cli.main import main
from support.bar_rows import Second, write_days
from support.lakes import command

PROGRAM = (sys.executable, "-m", "crypto_lake.cli.main")
START = int(datetime(2024, 8, 8, tzinfo=UTC).timestamp())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lake")
    for symbol, price in (("BTCUSDT", 6_183_700_000_000), ("ETHUSDT", 265_000_000_000)):
        rows = [Second(START + n, price + n, ((n, price + n, 10**6, n % 2 == 0),)) for n in range(3600)]
        write_days(folder, symbol, rows)
    return str(folder)


def test_a_pipe_gets_plain_rows_that_are_the_bars(data: str) -> None:
    done = command("query", "BTCUSDT", "--every", "5m", "--data", data)
    assert (done.returncode, done.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    bars = Lake(data).bars("BTCUSDT", every="5m").collect()
    assert list(rows[0]) == list(NAMES)
    assert [row["open"] for row in rows] == [str(value) for value in bars["open"]]
    assert rows[0]["window_start"] == "2024-08-08 00:00:00Z"


def test_json_and_parquet_are_exact(data: str, tmp_path: Path) -> None:
    asked = (
        "query",
        "BTCUSDT,ETHUSDT",
        "--every",
        "1h",
        "--data",
        data,
        "--columns",
        "symbol,close,trade_count",
    )
    document: dict[str, Any] = json.loads(command(*asked, "-o", "json").stdout)
    assert document == {
        "schema": 1,
        "columns": ["symbol", "close", "trade_count"],
        "rows": [
            {"symbol": "BTCUSDT", "close": "61837.00003599", "trade_count": 3600},
            {"symbol": "ETHUSDT", "close": "2650.00003599", "trade_count": 3600},
        ],
    }
    out = tmp_path / "bars.parquet"
    done = command(*asked, "--out", str(out))
    assert (done.returncode, done.stdout) == (0, "")
    bars = Lake(data).bars(["BTCUSDT", "ETHUSDT"], every="1h", columns=["symbol", "close", "trade_count"])
    assert pl.read_parquet(out).equals(bars.collect())
    assert [path.name for path in tmp_path.iterdir()] == ["bars.parquet"]


def on_a_terminal(*arguments: str, columns: int) -> str:
    """What a terminal of so many columns shows."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "crypto_lake.cli.main", *arguments],
        stdout=secondary,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": str(columns), "LINES": "24"},
    )
    os.close(secondary)
    shown = bytearray()
    try:
        while block := os.read(primary, 65536):
            shown += block
    except OSError:  # the other end was closed
        pass
    os.close(primary)
    assert process.wait(60) == 0
    return shown.decode()


def test_a_table_fits_the_terminal(data: str) -> None:
    shown = on_a_terminal("query", "BTCUSDT", "--data", data, columns=60).splitlines()
    assert max(len(line) for line in shown[1:-2]) <= 60
    assert shown[0].split() == ["window_start", "open", "high"]
    assert shown[1].split()[:3] == ["2024-08-08", "00:00:00Z", "61837"]
    assert "… 20 more rows; -o csv or --out FILE has all" in shown
    assert shown[-2] == "… and the columns low, close, volume_base, trade_count, state"
    assert shown[-1] == "60 rows"


def test_sql_has_the_views_and_says_what_is_wrong(data: str) -> None:
    done = command(
        "sql", "SELECT symbol, sum(trade_count) FROM bars_1h GROUP BY symbol ORDER BY symbol", "--data", data
    )
    assert done.stdout.splitlines()[1:] == ["BTCUSDT,3600", "ETHUSDT,3600"]
    piped = command("sql", "--data", data, "-o", "json", input="SELECT 1 AS a; SELECT 2 AS b")
    assert json.loads(piped.stdout)["rows"] == [{"b": 2}]
    wrong = command("sql", "SELECT nothing FROM bars_1m", "--data", data)
    assert wrong.returncode == 2
    assert "nothing" in wrong.stderr
    assert wrong.stdout == ""


def test_sql_writes_nothing(data: str, tmp_path: Path) -> None:
    done = command("sql", f"COPY (FROM bars_1m) TO '{tmp_path}/x.csv'", "--data", data)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())


def test_what_show_prints_runs_elsewhere(data: str) -> None:
    import duckdb

    shown = command(
        "sql", "--show", "bars_5m", "--symbol", "ETHUSDT", "--from", "2024-08-08T00:30", "--data", data
    )
    with duckdb.connect() as connection:
        rows = connection.sql(shown.stdout.rstrip().removesuffix(";")).fetchall()
    assert len(rows) == 6


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("query", "BTCUSD"), 2, "did you mean BTCUSDT?"),
        (("query", "BTCUSDT", "--every", "1x"), 2, "is no interval"),
        (("query", "BTCUSDT", "--from", "2020-01-01", "--to", "2020-01-02"), 1, "BTCUSDT: 2024-08-08"),
        (("query", "BTCUSDT", "--out", "bars.xls"), 2, "end the name in .csv, .json or .parquet"),
        (("query", "BTCUSDT", "--out", "/proc/x.csv"), 2, "--out /proc/x.csv: "),
        (
            ("sql", "SELECT 1", "--out", "nowhere/x.csv"),
            2,
            "--out nowhere/x.csv: No such file or directory; name a",
        ),
        (("sql", "--show", "macro", "--every", "5m"), 2, "macro takes nothing"),
        (("sql", "--show", "bars_9m"), 2, "no view or macro 'bars_9m'"),
        (("sql", "SELECT 1", "--every", "5m"), 2, "only with --show"),
    ],
)
def test_errors_are_one_line_and_a_code(
    data: str, arguments: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--data", data]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_a_lake_that_is_not_there(tmp_path: Path) -> None:
    assert main(["query", "BTCUSDT", "--data", str(tmp_path / "no")]) == 4


@pytest.mark.parametrize("shape", ["csv", "parquet"])
def test_a_reader_that_has_enough_is_no_error(data: str, shape: str) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "query", "BTCUSDT", "--every", "1s", "-o", shape, "--data", data],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()  # before there is anything to read
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, b"")


def test_ctrl_c_stops_at_once_and_leaves_no_half_file(data: str, tmp_path: Path) -> None:
    endless = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range % 7 = 3"
    # A child does not inherit a handler, but would inherit that the signal is ignored, as it is in a background job.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "crypto_lake.cli.main",
            "sql",
            endless,
            "--data",
            data,
            "--out",
            str(tmp_path / "x.csv"),
        ],
        stderr=subprocess.PIPE,
    )
    signal.signal(signal.SIGINT, before)
    try:
        # It counts when it has taken more time of the cores than it takes to start.
        ticks = os.sysconf("SC_CLK_TCK")
        while cpu_ticks(process.pid) < 4 * ticks:
            assert process.poll() is None
            time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert time.monotonic() - began < 20  # of a machine that does much else; the query itself takes days
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    assert not list(tmp_path.iterdir())


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
