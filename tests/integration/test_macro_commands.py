"""`crypto-lake macro` on a server that answers as Yahoo does: what is printed, what is kept, which exit code."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
from yfinance.data import SingletonMeta

from crypto_lake.cli.main import main
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.macro_files import name_of
from crypto_lake.lake.macro_schema import MACRO_SCHEMA
from crypto_lake.model import task_outcome
from crypto_lake.model.series import DEFAULT_SERIES
from crypto_lake.model.task_outcome import TaskOutcome
from crypto_lake.watch.disk import DiskScanner
from support.yahoo import FakeYahoo, Fault, Market, Row, rows, weekdays

FIRST, LAST = date(2024, 3, 1), date(2024, 4, 5)
GOOD_FRIDAY = date(2024, 3, 29)
SPAN = ("--from", FIRST.isoformat(), "--to", LAST.isoformat())
LIMITED = Fault(429, b"Too Many Requests")


def market(*without: date) -> dict[date, Row]:
    return {day: row for day, row in rows(weekdays(FIRST, LAST), 5000.0).items() if day not in without}


@dataclass
class Lake:
    """`crypto-lake macro …` in this process, in a folder of its own."""

    server: FakeYahoo
    folder: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.capture.readouterr()
        code = main(["macro", *arguments])
        out, err = self.capture.readouterr()
        return code, out, err

    def json(self, *arguments: str) -> tuple[int, Any]:
        code, out, _ = self(*arguments, "-o", "json")
        return code, json.loads(out)

    @property
    def data(self) -> Path:
        return self.folder / "data"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeYahoo]:
    SingletonMeta._instances.clear()  # yfinance keeps cookie and crumb for as long as the process lives
    for name in list(os.environ):
        if name.startswith("CRYPTO_LAKE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("crypto_lake.macro.run.PAUSE_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    with FakeYahoo(tmp_path) as running:
        for name, value in {
            "PROXY": running.proxy,
            "CA_FILE": str(running.ca_file),
            "PATIENCE_SECONDS": "0",
            "SERIES": "^GSPC,GC=F",
        }.items():
            monkeypatch.setenv(f"CRYPTO_LAKE_MACRO_{name}", value)
        running.markets["^GSPC"] = Market(market(GOOD_FRIDAY))
        running.markets["GC=F"] = Market(market(GOOD_FRIDAY))
        yield running


@pytest.fixture
def lake(server: FakeYahoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lake:
    return Lake(server, tmp_path, capsys)


def kept(root: Path, series: str) -> pl.DataFrame:
    return pl.read_parquet(root / name_of(series, 2024))


def test_a_history_is_asked_for_kept_and_told(lake: Lake) -> None:
    code, out, err = lake("backfill", *SPAN)
    assert (code, err) == (0, "")
    assert (
        "^GSPC      25 new, 0 revised, 25 days from 2024-03-01 to 2024-04-05, latest 2024-04-05, 1 holiday"
        in out
    )
    assert "2 of 2 series in data;" in out
    for series in ("^GSPC", "GC=F"):
        table = kept(lake.data, series)
        expected = lake.server.markets[series].days
        assert dict(zip(table["date"], table["close"], strict=True)) == {
            day: row[3] for day, row in expected.items()
        }
        assert abs(table["known_at"][0] - datetime.now(UTC)) < timedelta(minutes=5)
    code, out, _ = lake("backfill", *SPAN)
    assert (code, out.count("nothing new")) == (0, 2)


def test_the_document_of_json(lake: Lake) -> None:
    lake("backfill", *SPAN)
    lake.server.markets["^GSPC"].days[date(2024, 3, 5)] = (1.0, 2.0, 0.5, 1.5, 3)
    code, report = lake.json("backfill", *SPAN)
    assert code == 0
    assert (report["schema"], report["task"], report["provider"]) == (1, "backfill", "yahoo")
    assert {one["series"]: one["outcome"] for one in report["series"]} == {
        "^GSPC": "updated",
        "GC=F": "unchanged",
    }
    one = report["series"][0]
    assert (one["revised_days"], one["revised"][0]["day"], one["revised"][0]["close"]) == (
        1,
        "2024-03-05",
        1.5,
    )
    assert (one["holidays"], one["gaps"], one["latest"]) == (1, 0, "2024-04-05")
    assert report["series"][1]["files"] == []


def test_an_update_goes_on_from_the_latest_day(lake: Lake) -> None:
    lake("backfill", *SPAN)
    lake.server.asked.clear()
    today = datetime.now(UTC).date()
    lake.server.markets["GC=F"].days[today - timedelta(days=3)] = (1.0, 1.0, 1.0, 1.0, 1)
    code, report = lake.json("update")
    assert code == 0
    question = lake.server.questions("GC=F")[0]
    assert datetime.fromtimestamp(int(question["period1"]), UTC).date() == LAST - timedelta(days=14)
    assert [one["new_days"] for one in report["series"]] == [0, 1]


def test_today_is_not_kept_before_it_is_over(lake: Lake) -> None:
    # where a day begins first of all, it is not over in New York at any hour
    today = datetime.now(ZoneInfo("Pacific/Kiritimati")).date()
    lake.server.markets["^GSPC"].days[today] = (1.0, 1.0, 1.0, 1.0, 1)
    code, report = lake.json("update", "--series", "^GSPC", "--set", "macro.start=2024-03-01")
    assert code == 0
    assert report["series"][0]["unfinished"] == [today.isoformat()]
    assert report["series"][0]["latest"] == LAST.isoformat()


def test_gaps_are_found_by_check(lake: Lake) -> None:
    lost, shared = date(2024, 3, 13), date(2024, 3, 20)
    lake.server.markets["^GSPC"] = Market(market(GOOD_FRIDAY, lost, shared))
    lake.server.markets["GC=F"] = Market(market(GOOD_FRIDAY, shared))
    assert lake("backfill", *SPAN)[0] == 0
    code, out, _ = lake("check")
    assert code == 3
    assert "1 holiday, 1 gap, 1 unconfirmed" in out
    assert "2024-03-13 gap: GC=F had a trading day" in out
    assert "2024-03-20 unconfirmed" in out
    assert lake("check", "--series", "GC=F")[0] == 0


def test_a_series_that_is_not_there_is_a_failure_and_the_others_are_kept(lake: Lake) -> None:
    code, out, err = lake("backfill", *SPAN, "--series", "^NOPE", "--series", "^GSPC")
    assert code == 1
    assert "crypto-lake: ^NOPE: Yahoo does not have it (HTTP 404)" in err
    assert "1 of 2 series in data" in out
    assert len(kept(lake.data, "^GSPC")) == 25


def test_a_limit_is_waited_for_told_and_given_up(lake: Lake) -> None:
    lake.server.faults.extend([LIMITED] * 2)
    code, out, err = lake("backfill", *SPAN)
    assert code == 4
    assert lake.server.fired == [LIMITED] * 2
    assert "^GSPC: Yahoo limits how often it may be asked (HTTP 429)" in err
    assert "GC=F: not asked for: the provider limits how often it may be asked (it was met at ^GSPC)" in err
    assert lake.server.questions("GC=F") == []
    assert "0 of 2 series" in out


def test_a_limit_that_passes_is_told_and_costs_nothing_but_time(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crypto_lake.macro.plan.FIRST_WAIT_WHEN_LIMITED_SECONDS", 0.02)
    fault = Fault(429, b"Too Many Requests", {"Retry-After": "0.1"})
    lake.server.faults.extend([fault] * 2)
    code, out, err = lake("backfill", *SPAN, "--set", "macro.patience_seconds=5")
    assert (code, lake.server.fired) == (0, [fault] * 2)
    assert err == "crypto-lake: ^GSPC: Yahoo limits how often it may be asked (HTTP 429); next try in 0 s\n"
    assert "2 of 2 series" in out


def test_a_server_in_trouble_is_no_failure_for_good(lake: Lake) -> None:
    lake.server.faults.extend([Fault(503, b"{}")] * 2)
    code, _, err = lake("backfill", *SPAN)
    assert code == 4
    assert "Yahoo answers with HTTP 503" in err
    assert len(kept(lake.data, "GC=F")) == 25, "the next series is asked for"


def test_a_bucket_needs_no_directory(lake: Lake) -> None:
    bucket = lake.folder / "bucket"
    bucket.mkdir()
    to = ("--set", f"gcs.url=file://{bucket}")
    code, report = lake.json("update", "--set", "macro.start=2024-03-01", *to)
    assert (code, report["data"], report["url"]) == (0, "", f"file://{bucket}")
    assert not lake.data.exists()
    assert len(kept(bucket, "^GSPC")) == 25
    assert lake.json("update", *to)[1]["series"][0]["outcome"] == "unchanged"
    assert lake("check", *to)[0] == 0


def test_a_file_of_somebody_else_is_an_alert(lake: Lake) -> None:
    path = lake.data / name_of("^GSPC", 2024)
    path.parent.mkdir(parents=True)
    pl.DataFrame({"close": [1.0]}).write_parquet(path)
    before = path.read_bytes()
    code, _, err = lake("backfill", *SPAN)
    assert code == 3
    assert "was not written by this program" in err
    assert path.read_bytes() == before
    assert lake("check")[0] == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("backfill", "--from", "2024-3-1"), "--from 2024-3-1: expected a day"),
        (("backfill", "--from", "2024-03-02", "--to", "2024-03-01"), "no day at all"),
        (("update", "--series", "gc=f"), "must be in upper case: GC=F"),
        (("update", "--set", "macro.series=A/B"), "may hold A to Z"),
        (("update", "--set", "macro.series=GC=F,GC=F"), "names a series twice"),
        (("update", "--set", "macro.start=soon"), "macro.start: expected a day such as 2024-08-08: 'soon'"),
        (("update", "--set", "macro.ca_file=nowhere.pem"), "macro.ca_file nowhere.pem: No such file"),
        (("check",), "data does not exist"),
        (("update", "--dry-run"), "data does not exist"),
        (("update", "--data", "gone", "--set", "gcs.url=file:///"), "there is no such directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_can_never_work_is_refused(lake: Lake, arguments: tuple[str, ...], text: str) -> None:
    code, _, err = lake(*arguments)
    assert (code, lake.server.asked) == (2, [])
    assert text in err


def test_the_proxy_is_a_secret(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTO_LAKE_MACRO_PROXY", "http://me:hush@proxy.example:3128")
    lake.capture.readouterr()
    assert main(["config", "show"]) == 0
    assert "hush" not in lake.capture.readouterr().out


def test_a_process_of_its_own_prints_nothing_else(lake: Lake) -> None:
    """Warnings of libraries, tracebacks at exit, caches in the user's home: none of them."""
    home = lake.folder / "home"
    home.mkdir()
    environment = os.environ | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    environment["PYTHONTZPATH"] = ""  # a machine without time zones of its own, as slim images are
    done = subprocess.run(
        [sys.executable, "-m", "crypto_lake.cli.main", "macro", "backfill", *SPAN, "--series", "^GSPC"],
        env=environment,
        cwd=lake.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 2
    assert list(home.rglob("*")) == []


def test_an_update_leaves_what_became_of_it(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    left = lake.folder / "termination-log"
    monkeypatch.setenv("TASK_OUTCOME", str(left))
    assert lake("update")[0] == 0
    assert task_outcome.decode(left.read_bytes()) == TaskOutcome(task="macro", ok=True)
    # Two kinds of trouble: a series that is not there for good, and a limit.
    left.unlink()
    assert lake("update", "--series", "GC=F", "--series", "^NOPE")[0] == 1
    found = task_outcome.decode(left.read_bytes())
    assert found is not None
    assert (found.task, found.ok) == ("macro", False)
    assert found.problem.startswith("^NOPE: Yahoo does not have it (HTTP 404)")
    lake.server.faults.extend([LIMITED] * 2)
    assert lake("update")[0] == 4
    assert lake.server.fired == [LIMITED] * 2
    found = task_outcome.decode(left.read_bytes())
    assert found is not None
    assert found.problem.startswith("2 of 2 series; ^GSPC: Yahoo limits")
    # A history that a person asks for is no task; what was stopped has no outcome; nor has what can never work.
    left.unlink()
    assert lake("backfill", *SPAN)[0] == 0
    monkeypatch.setattr("crypto_lake.cli.macro.stopping", stopped)
    assert lake("update")[0] == 130
    assert lake("update", "--series", "gc=f")[0] == 2
    assert not left.exists()


@contextmanager
def stopped() -> Iterator[threading.Event]:
    event = threading.Event()
    event.set()
    yield event


# --- docs/macro.md ---------------------------------------------------------------------------------------------------

DOCUMENT = (Path(__file__).parents[2] / "docs" / "macro.md").read_text(encoding="utf-8")


def commands_that_ask() -> list[list[str]]:
    blocks = re.findall(r"^```console no-test\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line) for line in lines]


def test_the_commands_of_the_document_that_ask_yahoo(lake: Lake) -> None:
    asked = commands_that_ask()
    assert len(asked) == 5
    for program, group, *arguments in asked:
        assert (program, group) == ("crypto-lake", "macro")
        code, out, err = lake(*arguments)
        assert (code, err) == (0, ""), (arguments, out)
        assert out


def test_the_examples_of_the_document(lake: Lake) -> None:
    assert lake("backfill", *SPAN)[0] == 0
    (python,) = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(python, "docs/macro.md", "exec"), names)
    shown = lake.capture.readouterr().out
    assert "^GSPC date" in shown
    assert names["closes"].collect().height == 2 * 20
    joined, latest = re.findall(r"^```sql\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    with names["lake"].connect(read_only=True) as connection:
        assert connection.sql(joined).fetchall()[0][1:] == (None, None), "it was fetched later"
    assert len(duckdb.sql(latest).fetchall()) == 2 * 25


def test_the_series_of_the_document_are_the_usual_ones() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| [^|]+ \| [^|]+ \| United States' (?:exchanges|bond market) \|$",
        DOCUMENT.split("| series | what | exchange | calendar |")[1].split("\n\n")[0],
        re.MULTILINE,
    )
    assert tuple(rows) == DEFAULT_SERIES


def test_the_columns_of_the_document_are_those_of_the_files() -> None:
    table = DOCUMENT.split("| column | type | meaning |")[1].split("\n\n")[0]
    named = [
        name
        for row in table.splitlines()
        for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")
    ]
    assert named == list(MACRO_SCHEMA)


# --- beside the other tasks ------------------------------------------------------------------------------------------


def test_what_looks_after_bars_leaves_series_alone(lake: Lake) -> None:
    bucket = lake.folder / "bucket"
    bucket.mkdir()
    lake.data.mkdir()
    url = f"file://{bucket}"
    assert lake("backfill", *SPAN, "--set", f"gcs.url={url}")[0] == 0
    for arguments in (["verify", "--data", str(lake.data)], ["verify", "--bucket", url]):
        lake.capture.readouterr()
        assert main([*arguments, "-o", "json"]) == 0
        report = json.loads(lake.capture.readouterr().out)
        assert (report["unknown"], report["differences"]) == ([], [])
    figures = DiskScanner(Layout(lake.data)).scan()
    assert (figures.parquet_files, figures.parquet_files_uncounted, figures.last_bars_ns) == (0, 0, 0)
    before = sorted(bucket.rglob("*.parquet"))
    assert main(["publish", "--set", f"gcs.url={url}"]) == 0
    assert main(["cleanup", "--set", f"gcs.url={url}", "--set", "retention.raw=1s"]) == 0
    assert sorted(bucket.rglob("*.parquet")) == before
    assert lake("check", "--set", f"gcs.url={url}")[0] == 0
