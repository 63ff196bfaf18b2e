"""Worker processes: the same bars however many there are, and one that dies costs its symbol alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from crypto_lake.bars.report import Setup
from crypto_lake.bars.transform import Progress, transform
from crypto_lake.bars.workers import share
from crypto_lake.lake import envelope
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.parts import PartWriter
from crypto_lake.model.clock import Hour

HOUR = Hour("2024-08-08", 13)
SYMBOLS = ("ADAUSDT", "BTCUSDT", "ETHUSDT")


def store(root: Path) -> Layout:
    layout = Layout(root)
    for number, symbol in enumerate(SYMBOLS, start=1):
        writer = PartWriter(layout.part("binance", symbol, HOUR, 1))
        lines = []
        for n in range(1, 50 * number):
            ms = HOUR.start_ns // 10**6 + 100 * n
            message = (
                b'{"stream":"%s@trade","data":{"e":"trade","E":%d,"s":"%s","t":%d,"p":"%d.10000000","q":"0.02000000",'
                b'"T":%d,"m":true,"M":true}}'
                % (symbol.lower().encode(), ms, symbol.encode(), n, 100 + n % 7, ms)
            )
            lines.append(envelope.encode(ms * 10**6, "c-1", message))
        writer.append(b"".join(lines), FrameCompressor())
        writer.close()
    return layout


def bars_of(layout: Layout) -> dict[str, bytes]:
    return {symbol: layout.bars("binance", symbol, HOUR.day).read_bytes() for symbol in SYMBOLS}


def test_the_bars_are_the_same_however_many_work(tmp_path: Path) -> None:
    alone, shared = store(tmp_path / "alone"), store(tmp_path / "shared")
    told: list[Progress] = []
    one = transform(alone, "binance", workers=1)
    two = transform(shared, "binance", workers=2, progress=told.append)
    assert bars_of(alone) == bars_of(shared)
    assert (one.rows, one.trades, one.files_read) == (two.rows, two.trades, two.files_read)
    assert one.trades == sum(50 * number - 1 for number in (1, 2, 3))
    assert told[-1].symbols_done == 3
    assert told[-1].bytes_read == two.bytes_read > 0


def test_a_worker_that_dies_costs_the_symbol_it_was_at(tmp_path: Path) -> None:
    """An exchange that it does not know is a fault of the caller's, and kills it: a real process, really dead."""
    store(tmp_path)
    setup = Setup(str(tmp_path), "nowhere", None, False, HOUR.end_ns)
    done: list[str] = []
    results = share(setup, SYMBOLS, 2, lambda *_: None, done.append)
    assert sorted(done) == sorted(result.symbol for result in results) == list(SYMBOLS)
    assert all(result.failed is not None and "its worker ended with 1" in result.failed for result in results)


def test_a_worker_without_its_parent_does_nothing(tmp_path: Path) -> None:
    layout = store(tmp_path)
    not_its_parent = str(os.getppid())
    done = subprocess.run(
        [sys.executable, "-m", "crypto_lake.bars.workers", not_its_parent],
        input=b"{}\n",
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert not layout.bars("binance", "BTCUSDT", HOUR.day).exists()
