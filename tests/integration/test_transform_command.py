"""`crypto-lake transform` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from crypto_lake.lake import envelope, locks
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import PartWriter
from crypto_lake.model.clock import Hour

BASE = 1_723_200_000


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "crypto_lake.cli.main", "transform", *arguments],
        capture_output=True,
        text=True,
    )


def store(root: Path, *, garbage: bool = False) -> Layout:
    layout = Layout(root)
    writer = PartWriter(layout.part("binance", "BTCUSDT", Hour.of_ns(BASE * 10**9), 1))
    lines = [
        envelope.encode(
            (BASE + n) * 10**9,
            "c-1",
            b'{"stream":"btcusdt@trade","data":{"e":"trade","E":%d,"s":"BTCUSDT","t":%d,"p":"61837.63000000",'
            b'"q":"0.02000000","T":%d,"m":true,"M":true}}' % ((BASE + n) * 1000, n, (BASE + n) * 1000),
        )
        for n in range(1, 11)
    ]
    writer.append(b"".join([*lines, b"garbage\n"] if garbage else lines), FrameCompressor())
    writer.close()
    return layout


def test_bars_are_made_and_told(tmp_path: Path) -> None:
    layout = store(tmp_path, garbage=True)
    done = run("--data", str(tmp_path), "-o", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (report,) = json.loads(done.stdout)
    assert (report["rows"], report["trades"], report["unreadable"], report["hours_made"]) == (10, 10, 1, 1)
    assert json.loads((layout.state / "transform.json").read_text()) == report
    again = run("--data", str(tmp_path))
    assert again.returncode == 0
    assert "0 hours made" in again.stdout


def test_only_what_was_named(tmp_path: Path) -> None:
    layout = store(tmp_path)
    assert run("--data", str(tmp_path), "--symbol", "ETHUSDT").returncode == 0
    assert not (layout.root / "parquet").exists()
    assert run("--data", str(tmp_path), "--day", "2024-08-08").returncode == 0
    assert not (layout.root / "parquet").exists()
    assert run("--data", str(tmp_path), "--day", "2024-08-09", "--symbol", "BTCUSDT").returncode == 0
    assert len(list((layout.root / "parquet").rglob("*.parquet"))) == 1


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    layout = store(tmp_path)
    for arguments, text in (
        (("--exchange", "nyse"), "known: binance"),
        (("--day", "9.8.2024"), "2024-08-08"),
        (("--symbol", "btcusdt"), "BTCUSDT"),
    ):
        done = run("--data", str(tmp_path), *arguments)
        assert done.returncode == 2
        assert text in done.stderr
    assert run("--data", str(tmp_path / "none")).returncode == 2
    with locks.hold(layout.locks, "transform"):
        done = run("--data", str(tmp_path))
    assert done.returncode == 4
    assert "transform" in done.stderr


def test_a_failure_is_a_failure(tmp_path: Path) -> None:
    store(tmp_path)
    (tmp_path / "parquet").write_text("a file where a folder should be")
    done = run("--data", str(tmp_path))
    assert done.returncode == 1
    assert "BTCUSDT" in done.stderr
