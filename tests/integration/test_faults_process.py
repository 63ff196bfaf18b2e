"""The process is stopped, starved, doubled, and meets files that are not its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from support.collecting import QUICK, SYMBOLS, Collecting
from support.lakes import market, write_part
from support.loopdisk import need_root


@pytest.fixture
def collect(simulate: Callable[..., Any], lake_on: Callable[..., Any]) -> Iterator[Callable[..., Collecting]]:
    running: list[Collecting] = []

    def start(**settings: str) -> Collecting:
        simulator = simulate("--seed", "11", "--symbols", ",".join(SYMBOLS), "--activity", "3")
        running.append(Collecting(simulator, lake_on(simulator, **(QUICK | settings))))
        running[-1].wait_acknowledging()
        return running[-1]

    yield start
    for collecting in running:
        if collecting.process.poll() is None:
            collecting.kill()


@pytest.mark.parametrize("seconds", [4, pytest.param(120, marks=pytest.mark.faults)])
def test_a_process_that_stands_still_for_a_while(collect: Callable[..., Collecting], seconds: int) -> None:
    """Whatever the exchange did with its connections meanwhile: what is missing is named, exactly."""
    running = collect(collector_silence_seconds=f"{seconds / 2}")
    running.process.send_signal(signal.SIGSTOP)
    time.sleep(0.5)  # what it said before comes through
    stopped_at = running.reported_at
    time.sleep(seconds)
    assert running.reported_at == stopped_at, "it stood still"
    running.simulator.post("/control/faults", {"kind": "drop_connections"})
    running.process.send_signal(signal.SIGCONT)
    # What the kernel and the exchange kept for it comes first.
    running.until(lambda: running.snapshot()["reconnects"], "new connections", 120)
    running.wait_acknowledging()
    time.sleep(1)
    assert running.stop() == 0
    causes = running.assert_exact()
    assert any(causes.values()), "the connections were dropped before it went on"
    assert {cause for found in causes.values() for cause in found} == {"disconnect"}


@contextmanager
def memory_group(limit_mb: int) -> Iterator[tuple[Path, Callable[[], int]]]:
    """A group of processes with so much memory (version 2, else 1): its folder, and how many it has killed."""
    need_root()
    name = f"crypto-lake-test-{os.getpid()}"
    for root, limit, told in (  # noqa: B007  # used by killed()
        (Path("/sys/fs/cgroup"), "memory.max", "memory.events"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.oom_control"),
    ):
        group = root / name
        with suppress(OSError):
            group.mkdir()
            if not (group / limit).exists():
                group.rmdir()
                continue
            (group / limit).write_text(str(limit_mb * 1024 * 1024))
            break
    else:
        pytest.skip("no cgroup with a memory controller can be made here")

    def killed() -> int:
        found = re.search(r"^oom_kill (\d+)$", (group / told).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    try:
        yield group, killed
    finally:
        end = time.monotonic() + 10
        while group.exists() and time.monotonic() < end:
            with suppress(OSError):
                group.rmdir()
            time.sleep(0.05)


@pytest.mark.root
def test_memory_runs_out(collect: Callable[..., Collecting]) -> None:
    running = collect()
    with memory_group(250) as (group, killed):
        (group / "cgroup.procs").write_text(str(running.process.pid))
        Path(f"/proc/{running.process.pid}/oom_score_adj").write_text("1000")
        # Memory that was taken before counts elsewhere: something else in its group takes all of it.
        hog = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; sys.stdin.read(1); b = [bytearray(b'x' * 2**20) for _ in range(400)]",
            ],
            stdin=subprocess.PIPE,
        )
        (group / "cgroup.procs").write_text(str(hog.pid))
        hog.communicate(b"x", timeout=60)
        assert killed() >= 1
        assert running.process.wait(30) == -signal.SIGKILL
        running._ended()
    running.start()
    running.wait_acknowledging()
    time.sleep(0.5)
    assert running.stop() == 0
    causes = running.assert_exact()
    assert all("restart" in found for found in causes.values())


def test_everything_twice_and_beside_the_rest(collect: Callable[..., Collecting]) -> None:
    running = collect()
    second = running.lake.popen("collect", stderr=subprocess.PIPE)
    tasks = [
        running.lake.popen(*argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for argv in (["transform"], ["transform"], ["compact"], ["transform", "--rebuild"], ["compact"])
    ]
    _, says = second.communicate(timeout=60)
    assert second.returncode == 4
    assert "holds the lock 'capture'" in says.decode()
    codes: list[int] = []
    for task in tasks:
        _, says = task.communicate(timeout=120)
        codes.append(task.returncode)
        assert task.returncode == 0 or (task.returncode == 4 and b"holds the lock" in says), says
    assert 0 in codes
    running.wait_acknowledging()
    time.sleep(0.5)
    assert running.stop() == 0
    assert running.assert_exact() == {symbol: [] for symbol in SYMBOLS}
    running.lake.run("transform")
    for symbol in SYMBOLS:
        files = list((running.lake.data / "parquet" / "binance" / symbol).rglob("*.parquet"))
        assert (
            sum(int(pl.read_parquet(f)["trade_count"].sum()) for f in files)
            == running.on_disk(symbol).count()
        )


HOUR = Hour.of_ns(time.time_ns() - 2 * 3600 * 10**9)
PART = f"part_{HOUR.hour:02d}"


def strange_files(layout: Layout) -> None:
    """All that a bad disk, a restore or a person may leave."""
    symbol = layout.raw_root() / "binance" / "BTCUSDT"
    day = layout.raw_day("binance", "BTCUSDT", HOUR.day)
    # Not from its first moment: a trade happened before it was received, and the hour may be the first of its day.
    good = market("BTCUSDT", HOUR, 1, 9, start=0.1, end=0.2)
    write_part(layout, "BTCUSDT", HOUR, 1, good)
    damaged = write_part(
        layout, "BTCUSDT", HOUR, 2, market("BTCUSDT", HOUR, 10, 9, start=0.2, end=0.4), frames=3
    )
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    (day / f"{PART}_0003.jsonl.zst.open").write_bytes(bytes(4096))
    (day / f"{PART}_0004.jsonl.zst.open").write_bytes(b"")
    write_part(
        layout,
        "BTCUSDT",
        HOUR,
        5,
        market("BTCUSDT", HOUR, 19, 9, start=0.4, end=0.6),
        closed=False,
        tail=b"(\xb5/\xfdtorn",
    )
    (day / f"{PART}_0006.jsonl.zst.open").mkdir()
    (day / "part_99_0001.jsonl.zst.open").write_bytes(b"no such hour")
    (day / f"{PART}_0007.jsonl.zst").write_bytes(bytes(1000))
    (day / f"{PART}_0008.jsonl.zst").write_bytes(b"")
    (day / f"{PART}_0009 (copy).jsonl.zst").write_bytes(b"renamed")
    (day / "README.txt").write_text("a note")
    (symbol / "yesterday").mkdir()
    (symbol / "2024-13-45x").mkdir()
    (layout.raw_root() / "binance" / "a file").write_text("where folders are")
    (layout.raw_root() / "nowhere").mkdir()
    (layout.state / "ledger" / "binance").mkdir(parents=True)
    (layout.state / "ledger" / "binance" / "BTCUSDT.json").write_bytes(bytes(100))
    (layout.state / "runs").write_bytes(b"\xff\xff")
    ledger = layout.ledger("binance", "BTCUSDT")
    ledger.parent.mkdir(parents=True)
    ledger.write_bytes(bytes(500) + b"\n")
    layout.quarantine.mkdir()
    (layout.quarantine / "index.jsonl").write_bytes(b"\x00 torn")


def test_files_that_are_damaged_or_not_ours(
    simulate: Callable[..., Any], lake_on: Callable[..., Any]
) -> None:
    simulator = simulate("--seed", "11", "--symbols", ",".join(SYMBOLS), "--activity", "3")
    lake = lake_on(simulator, **(QUICK | {"logging_console": "WARNING"}))
    layout = Layout(lake.data)
    strange_files(layout)
    running = Collecting(simulator, lake, stderr=subprocess.PIPE)
    running.wait_acknowledging()
    time.sleep(0.5)
    running.process.send_signal(signal.SIGTERM)
    _, said = running.process.communicate(timeout=60)
    assert running.process.returncode == 0
    told = said.decode()
    for name in (f"{PART}_0006.jsonl.zst.open", "part_99_0001.jsonl.zst.open"):
        assert re.search(rf"{re.escape(name)}: it is no part of ours, and left as it is", told), told
    assert "ledger" in told
    assert (
        layout.raw_day("binance", "BTCUSDT", HOUR.day) / f"{PART}_0009 (copy).jsonl.zst"
    ).read_bytes() == b"renamed"
    assert 27 in running.told("BTCUSDT").seen, "the torn part's trades, in the ledger that is derived anew"
    assert list(layout.quarantine.glob("ledger-binance-BTCUSDT*")), "the old ledger is kept"
    done = lake.run("transform")
    assert "unreadable put into quarantine" in done.stdout.decode()
    bars = pl.read_parquet(layout.bars("binance", "BTCUSDT", HOUR.day))
    old = bars.filter((pl.col("trade_count") > 0) & (pl.col("last_trade_id") <= 27))
    # Of nine trades in three frames the flipped bit costs one frame: three of them.
    assert int(old["trade_count"].sum()) == 27 - 3
    index = (layout.quarantine / "index.jsonl").read_text(errors="replace")
    assert "no frame decodes" in index
    assert "cut after the last whole frame" in index
