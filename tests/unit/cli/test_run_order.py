"""In which order `run` starts and stops its parts, with programs that only write down when they ran."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crypto_lake.cli import run, run_parts
from crypto_lake.cli.main import main
from crypto_lake.watch import logs

PART = """
import json, os, signal, sys, time
name, arguments = sys.argv[1], sys.argv[2:]
def note(what):
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{name} {what}\\n")
note("starts")
if name == "transform":
    time.sleep(0.05)
    note("ends")
    sys.exit(int(os.environ.get("TRANSFORM_EXIT", "0")))
if name == "simulate":
    if os.environ.get("SIMULATOR_DIES"):
        sys.exit(7)
    print(json.dumps({"websocket": "ws://127.0.0.1:7", "rest": "http://127.0.0.1:7", "ca_file": None}), flush=True)
if name == "collect":
    note("with " + " ".join(a for a in arguments if "endpoint" in a))
def stop(*_):
    note("ends")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
while True: time.sleep(60)
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    program = tmp_path / "part.py"
    program.write_text(PART)
    monkeypatch.setattr(run_parts, "PROGRAM_ARGV", (sys.executable, str(program)))
    monkeypatch.setattr(run, "FIRST_MESSAGE_SECONDS", 0.0)  # none ever comes here
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CRYPTO_LAKE_") or name == "LOG_LEVEL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    yield tmp_path / "notes"
    logs.shut_down()


def test_the_collector_ends_before_the_last_transformation_and_the_simulator_after_it(
    notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--simulate", "--for", "1s"]) == 1  # it ran; there are no bars to show
    assert notes.read_text().splitlines() == [
        "simulate starts",
        "collect starts",
        "collect with collector.endpoint.websocket=ws://127.0.0.1:7 collector.endpoint.rest=http://127.0.0.1:7",
        "collect ends",
        "transform starts",
        "transform ends",
        "simulate ends",
    ]
    out, err = capsys.readouterr()
    assert "No bars in data/parquet" in out
    assert "collecting 13 symbols from a simulated exchange into data, for 1 s" in err


def test_transformations_come_again_and_again(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_parts, "TEST_TRANSFORM_SECONDS", 0.2)
    main(["run", "--for", "2s"])
    told = notes.read_text().splitlines()
    assert told.index("transform starts") < told.index("collect ends")
    assert told.count("transform starts") >= 3
    assert told[-1] == "transform ends"


def test_a_last_transformation_that_fails_fails_the_run(
    notes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRANSFORM_EXIT", "1")
    assert main(["run", "--for", "1s"]) == 1
    assert "the last transformation failed (exit code 1)" in capsys.readouterr().err


def test_a_simulator_that_dies_ends_the_run(
    notes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SIMULATOR_DIES", "1")
    assert main(["run", "--simulate", "--for", "60s"]) == 1
    assert notes.read_text().splitlines() == ["simulate starts"]
    assert "simulator ended (exit code 7)" in capsys.readouterr().err


def test_a_simulated_market_is_not_put_into_a_real_lake(
    notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/raw/binance/BTCUSDT/2024-08-08").mkdir(parents=True)
    assert main(["run", "--simulate", "--for", "60s"]) == 2
    assert "holds a real market" in capsys.readouterr().err
    assert not notes.exists()
