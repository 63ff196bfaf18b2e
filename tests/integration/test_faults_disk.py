"""A real full disk, no inodes left, the power cut, rights lost: the collector goes on, and tells what it cost."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.lake import reserve
from support.collecting import QUICK, SYMBOLS, Collecting
from support.loopdisk import fill, fill_inodes, loop_disk, memory_disk

KINDS = [
    "tmpfs",
    "inodes",
    pytest.param("ext4", marks=pytest.mark.faults),
    pytest.param("xfs", marks=pytest.mark.faults),
]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """A file system of its own as the data directory."""
    with ExitStack() as stack:

        def mount(kind: str) -> Any:
            at = tmp_path / "data"
            if kind in ("tmpfs", "inodes"):
                stack.enter_context(memory_disk(at, 48, inodes=300 if kind == "inodes" else 0))
                return None
            return stack.enter_context(loop_disk(tmp_path, at, kind, 320 if kind == "xfs" else 64))

        yield mount


@pytest.fixture
def collect(simulate: Callable[..., Any], lake_on: Callable[..., Any]) -> Iterator[Callable[..., Collecting]]:
    running: list[Collecting] = []

    def start(*, activity: str = "3", **settings: str) -> Collecting:
        simulator = simulate("--seed", "7", "--symbols", ",".join(SYMBOLS), "--activity", activity)
        running.append(Collecting(simulator, lake_on(simulator, **(QUICK | settings))))
        running[-1].wait_acknowledging()
        return running[-1]

    yield start
    for collecting in running:
        if collecting.process.poll() is None:
            collecting.kill()


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk(mounted: Callable[[str], Any], collect: Callable[..., Collecting], kind: str) -> None:
    mounted(kind)
    running = collect(collector_queue_bytes="200000", collector_flush_bytes="20000")
    connections = {c["name"] for c in running.snapshot()["connections"]}
    assert reserve.held_bytes(running.layout) == reserve.RESERVE_BYTES
    assert running.get("/readyz")[0] == 200

    fillers = fill_inodes(running.lake.data) if kind == "inodes" else fill(running.lake.data)
    running.until(lambda: running.snapshot()["writer"]["lost_messages"], "messages that had no room")
    code, says = running.get("/readyz")
    assert (code, "the disk is full" in says) == (503, True), says
    assert running.get("/healthz")[0] == 200
    # Of inodes the reserve's own is enough to make it again, and it is given up again at the next write.
    full = running.until(
        lambda: w if (w := running.snapshot()["writer"])["reserve_bytes"] == 0 else None,
        "the reserve to be given up",
    )
    assert full["trouble"] == "disk_full"
    assert "No space left" in full["last_error"]
    assert full["queue_bytes"] < 400_000, "memory is bounded"
    if kind != "inodes":  # there the reserve's inode is tried again and again
        assert reserve.held_bytes(running.layout) == 0
        space = os.statvfs(running.lake.data)
        assert space.f_bavail * space.f_frsize > 15 * 1024 * 1024, "the reserve's room is not raw's"
    assert "crypto_lake_writer_in_trouble 1.0" in running.get("/metrics")[1]

    for filler in fillers:
        filler.unlink()
    running.until(lambda: running.get("/readyz")[0] == 200, "a collector that writes again")
    running.wait_acknowledging()
    told = running.snapshot()
    assert told["writer"]["reserve_bytes"] == reserve.RESERVE_BYTES
    assert {c["name"] for c in told["connections"]} == connections, "no connection was lost for it"
    assert (told["reconnects"], told["writer"]["trouble"]) == (0, "")
    time.sleep(0.5)  # past the grace of the last hole
    assert running.stop() == 0
    causes = running.assert_exact()
    assert any(causes.values())
    assert {cause for found in causes.values() for cause in found} == {"disk_full"}
    lost = {s["symbol"]: s["lost_messages"] for s in told["streams"] if s["kind"] == "trade"}
    for symbol in SYMBOLS:
        assert sum(map(len, running.told(symbol).open_holes)) == lost[symbol]


@pytest.mark.root
def test_a_stop_and_a_start_on_a_full_disk(
    mounted: Callable[[str], Any], collect: Callable[..., Collecting]
) -> None:
    """At the stop the reserve's room takes what is held; a start finds no room at all and waits for some."""
    mounted("tmpfs")
    running = collect()
    fill(running.lake.data)
    running.until(lambda: running.snapshot()["writer"]["trouble"] == "disk_full", "a full disk")
    assert running.stop() == 0, "all that was received is written"
    assert running.assert_exact() == {symbol: [] for symbol in SYMBOLS}
    (running.lake.data / "filler_2").write_bytes(b"")
    [filler] = fill(running.lake.data / "")
    running.start()
    time.sleep(3)
    assert running.process.poll() is None
    filler.unlink()
    running.wait_acknowledging()
    time.sleep(0.5)
    assert running.stop() == 0
    assert all(running.assert_exact().values()), "the time between stop and start is a hole"


POWER = [
    pytest.param("xfs", 1),
    pytest.param("xfs", 6, marks=pytest.mark.faults),
    pytest.param("ext4", 6, marks=pytest.mark.faults),
]


@pytest.mark.root
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "cuts"), POWER)
def test_the_power_is_cut(
    mounted: Callable[[str], Any], collect: Callable[..., Collecting], kind: str, cuts: int
) -> None:
    """Cut under load: what was acknowledged is there, files are whole or absent, and the rest is named."""
    disk = mounted(kind)
    running = collect()
    for cut in range(cuts):
        time.sleep(0.3 + 0.7 * cut)
        running.without_power = True
        disk.cut_power()
        at = time.monotonic()
        running.until(lambda: running.snapshot()["writer"]["write_errors"], "a write that fails")
        assert running.reported_at <= at + 0.2, "nothing is acknowledged without a disk"
        running.kill()
        running.without_power = False
        disk.again()
        running.start()
        running.wait_acknowledging()
    time.sleep(0.5)
    assert running.stop() == 0
    causes = running.assert_exact()
    late = {s: [i for i in ids if i.last not in running.on_disk(s)] for s, ids in running.unheard.items()}
    print(f"{kind}: {cuts} cuts; reported after the cut, and not there: {late}")
    assert sum(map(len, causes.values())) >= cuts, "a cut makes a hole; if it makes none, nothing was tested"
    for path in running.layout.root.rglob("*.json"):
        assert path.read_bytes().endswith((b"}", b"}\n", b"]", b"]\n")) or "state" in path.parts


def _without_power_over_files() -> None:
    """Called in the child: root, too, has only the rights that a file gives."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if libc.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
                raise OSError(ctypes.get_errno(), "prctl")


def test_rights_are_lost_while_it_runs_and_come_back(
    simulate: Callable[..., Any], lake_on: Callable[..., Any]
) -> None:
    options: dict[str, Any] = {"preexec_fn": _without_power_over_files}
    simulator = simulate("--seed", "7", "--symbols", ",".join(SYMBOLS), "--activity", "3")
    # Half of the queue is the others', who must find room there for as long as a busy machine lets them wait.
    lake = lake_on(simulator, **QUICK, collector_queue_bytes="2000000", collector_flush_bytes="20000")
    lake.data.mkdir(mode=0o500)
    # Not ours to write: a clear error, before anything is received.
    refused = lake.popen("collect", stderr=subprocess.PIPE, **options)
    _, says = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert f"{lake.data} can't be written" in says.decode()
    assert "give it to this user" in says.decode()

    lake.data.chmod(0o700)
    running = Collecting(simulator, lake, **options)
    try:
        running.wait_acknowledging()
        folder = running.layout.raw_root() / "binance" / "ETHUSDT"
        days = list(folder.iterdir())
        for day in days:
            day.chmod(0o500)
        running.until(
            lambda: running.snapshot()["writer"]["trouble"] == "write_error", "a part that can't be made"
        )
        before = running.acknowledged["BTCUSDT"].count()
        running.until(lambda: running.acknowledged["BTCUSDT"].count() > before + 2, "the other symbols go on")
        running.until(
            lambda: sum(
                s["lost_messages"] for s in running.snapshot()["streams"] if s["symbol"] == "ETHUSDT"
            ),
            "messages of the one symbol that are let go",
        )
        for day in days:
            day.chmod(0o700)
        running.until(lambda: running.get("/readyz")[0] == 200, "a collector that writes again")
        running.wait_acknowledging()
        time.sleep(0.5)
        assert running.stop() == 0
    finally:
        if running.process.poll() is None:
            running.kill()
    causes = running.assert_exact()
    assert set(causes["ETHUSDT"]) == {"write_error"}
    assert causes["BTCUSDT"] == causes["SOLUSDT"] == []


def test_a_data_directory_that_is_none(simulate: Callable[..., Any], lake_on: Callable[..., Any]) -> None:
    simulator = simulate("--seed", "7", "--symbols", ",".join(SYMBOLS))
    lake = lake_on(simulator, **QUICK)
    lake.data.write_text("a file")
    refused = lake.popen("collect", stderr=subprocess.PIPE)
    _, says = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "can't be written" in says.decode()
    assert lake.data.read_text() == "a file"
