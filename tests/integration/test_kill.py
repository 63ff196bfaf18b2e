"""kill -9 at any moment: what was acknowledged stays, and what was missed is named, to the id.

`run` and all that it started are killed. The collector reports (symbol, id) after each fsync over a pipe that this
process holds; that is the truth. CRYPTO_LAKE_KILLS: how often the long test kills.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake.completeness.ledger import account, read
from crypto_lake.completeness.prove_disk import prove
from crypto_lake.lake.frames import Frame, read_frames
from crypto_lake.lake.layout import Layout
from crypto_lake.model.intervals import Interval, IntervalSet

SYMBOLS = ("BTCUSDT", "ETHUSDT", "DOTUSDT")
KILLS = int(os.environ.get("CRYPTO_LAKE_KILLS", "200"))


def ids_on_disk(layout: Layout, symbol: str) -> IntervalSet:
    """By plain reading, with nothing of what the ledger was made with."""
    ids = IntervalSet()
    for day in layout.raw_days("binance", symbol):
        for file in layout.raw_files("binance", symbol, day):
            assert not file.is_open
            for frame in read_frames(file.path):
                assert isinstance(frame, Frame)
                for line in frame.data.splitlines():
                    message = json.loads(line)["message"]
                    if message["stream"].endswith("@trade"):
                        ids.add(message["data"]["t"])
    return ids


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of `run` and of everything that it started: the collector first, so that none is asked to stop."""
    process.send_signal(signal.SIGSTOP)  # else it would start a new one
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    process.kill()
    assert children, "nothing ran that could be killed"
    assert process.wait(30) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_was_acknowledged_survives_and_what_was_missed_is_named(
    simulate: Callable[..., Any], lake_on: Callable[..., Any]
) -> None:
    run_and_kill(simulate, lake_on, 12)


@pytest.mark.faults
@pytest.mark.timeout(2400)
def test_the_same_many_times(simulate: Callable[..., Any], lake_on: Callable[..., Any]) -> None:
    run_and_kill(simulate, lake_on, KILLS)


def run_and_kill(simulate: Callable[..., Any], lake_on: Callable[..., Any], kills: int) -> None:
    chance = random.Random(2024)
    simulator = simulate("--seed", "5", "--symbols", ",".join(SYMBOLS), "--activity", "3")
    lake = lake_on(
        simulator,
        collector_symbols=",".join(SYMBOLS),
        collector_fsync_ms="50",
        collector_flush_ms="10",
        collector_rotate_seconds="2",
        collector_hole_grace_seconds="0.3",
        transform_every_minutes="0.05",
    )
    acknowledged: dict[str, IntervalSet] = defaultdict(IntervalSet)
    started = time.monotonic()
    for number in range(kills + 1):
        reader, writer = os.pipe()
        process = lake.popen("run", "--report-durable", str(writer), pass_fds=[writer])
        os.close(writer)
        try:
            # The first report says that it collects; from then on any moment may be the last.
            first = os.read(reader, 1 << 16)
            assert first, f"run {number} ended without a word, exit code {process.wait()}"
            if number < kills:
                time.sleep(chance.choice([chance.uniform(0, 0.2), chance.uniform(0, 1.5)]))
                kill_all(process)
            else:
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
            reports = drain_with(first, reader)
        finally:
            os.close(reader)
        for symbol, id_ in reports:
            acknowledged[symbol].add(id_)
    sent = newest_ids(simulator)

    layout = Layout(lake.data)
    assert list(layout.open_parts()) == []
    lake.run("transform")
    holes = missing = kept = 0
    for symbol in SYMBOLS:
        on_disk = ids_on_disk(layout, symbol)
        assert all(i.first in on_disk and i.last in on_disk for i in acknowledged[symbol])
        assert (on_disk.last or 0) <= sent[symbol], "none that was not sent"
        told = account(read(layout.ledger("binance", symbol)).lines)
        assert told.seen == on_disk
        assert list(told.open_holes) == on_disk.holes()
        proof = prove(layout, "binance", symbol)
        assert (proof.disagreements, proof.to_come) == ([], 0)
        holes += len(on_disk.holes())
        missing += sum(map(len, on_disk.holes()))
        kept += on_disk.count()
        assert_bars_hold(layout, symbol, on_disk, acknowledged[symbol])
    reported = sum(acknowledged[s].count() for s in SYMBOLS)
    print(
        f"{kills} kills in {time.monotonic() - started:.0f} s: {reported} ids reported as acknowledged, all kept; "
        f"{kept} trades kept, {missing} missed in {holes} holes, all named"
    )
    assert reported > kills
    assert holes >= kills // 2, "a kill makes a hole; if it makes none, nothing was tested"


def newest_ids(simulator: Any) -> dict[str, int]:
    """Of each symbol the last trade that the exchange has made; 0: none yet, as a quiet one may have in a short run."""
    trades = {s: simulator.get(f"/api/v3/trades?symbol={s}&limit=1") for s in SYMBOLS}
    return {symbol: rows[-1]["id"] if rows else 0 for symbol, rows in trades.items()}


def drain_with(first: bytes, descriptor: int) -> list[tuple[str, int]]:
    data = first
    while chunk := os.read(descriptor, 1 << 16):
        data += chunk
    # A kill can tear the report's last line; what it would have said is not acknowledged to anybody.
    reports = (json.loads(line) for line in data.split(b"\n")[:-1])
    return [(report["symbol"], report["id"]) for report in reports]


def assert_bars_hold(layout: Layout, symbol: str, on_disk: IntervalSet, acknowledged: IntervalSet) -> None:
    """Every trade on the disk is in the bars, none twice."""
    paths = sorted(Path(layout.root / "parquet" / "binance" / symbol).rglob("bars.parquet"))
    if not on_disk.count():  # it has not traded, or only while no run was connected
        assert not paths
        return
    bars = pl.concat([pl.read_parquet(path) for path in paths])
    assert bars["trade_count"].sum() == on_disk.count()
    with_trades = bars.filter(pl.col("trade_count") > 0)
    spans = [
        Interval(f, last) for f, last in with_trades.select("first_trade_id", "last_trade_id").iter_rows()
    ]
    for span, count in zip(spans, with_trades["trade_count"], strict=True):
        assert sum(map(len, on_disk.shared_with(span))) == count
    covered = IntervalSet(spans)
    assert all(i.first in covered and i.last in covered for i in acknowledged)
    holed = with_trades.filter(
        pl.col("last_trade_id") - pl.col("first_trade_id") + 1 != pl.col("trade_count")
    )
    assert set(holed["state"]) <= {"incomplete"}
