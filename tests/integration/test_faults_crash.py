"""The collector's own files and the day file, killed at every call that changes them, and with every call failing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake.completeness.ledger import account, read
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import read_bars_manifest, sha256_of
from crypto_lake.model.clock import Hour
from crypto_lake.model.intervals import IntervalSet
from support.crash import CALLS, KILL, Report, enumerate_crash_points, need_strace
from support.lakes import EXCHANGE, lines_of, market, write_part

PROGRAM = Path(__file__).parents[1] / "support" / "capture_program.py"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
HOUR = Hour("2024-08-08", 13)


def ids_in(layout: Layout, symbol: str) -> IntervalSet:
    """Of all closed parts, by plain reading. A torn frame, or a line that is none, fails."""
    ids = IntervalSet()
    for day in layout.raw_days(EXCHANGE, symbol):
        for file in layout.raw_files(EXCHANGE, symbol, day):
            if not file.is_open:
                for line in lines_of(file.path):
                    ids.add(json.loads(line)["message"]["data"]["t"])
    return ids


class Killed:
    """What the program reported before it was killed, and what must hold after its next run."""

    def __init__(self, folder: Path) -> None:
        self.reports = folder / "reports"
        self.survived = 0
        self._acknowledged: dict[str, IntervalSet] = {}

    def make_state(self, root: Path) -> None:
        """Of a run before: a closed part, and one that a crash left open with half a frame behind."""
        layout = Layout(root)
        for symbol in SYMBOLS:
            lines = [line for line in market(symbol, HOUR, 1, 6, end=0.5) if b"@trade" in line]
            write_part(layout, symbol, HOUR, 1, lines[:3])
            write_part(layout, symbol, HOUR, 2, lines[3:], closed=False, tail=b"(\xb5/\xfd half a frame")

    def run(self, number: int) -> list[str]:
        return [sys.executable, str(PROGRAM), "{root}", str(self.reports), str(number)]

    def next_run(self, root: Path) -> None:
        argv = [piece.replace("{root}", str(root)) for piece in self.run(2)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def killed(self, root: Path) -> None:
        told = [json.loads(line) for line in self.reports.read_text().splitlines()]
        self._acknowledged = {symbol: IntervalSet() for symbol in SYMBOLS}
        for line in told:
            if "symbol" in line:
                self._acknowledged[line["symbol"]].add(line["id"])
        layout = Layout(root)
        for symbol in SYMBOLS:
            ids_in(layout, symbol)  # no torn final file, ever
            ledger = layout.ledger(EXCHANGE, symbol)
            if ledger.exists():  # what the ledger claims, raw holds: closed, or open and fsynced
                open_too = set(ids_in(layout, symbol))
                for path in layout.open_parts():
                    if path.parents[1].name == symbol:
                        open_too |= set(_ids_of_open(path))
                assert all(
                    id_ in _union(open_too)
                    for interval in account(read(ledger).lines).seen
                    for id_ in range(interval.first, interval.last + 1)
                )

    def survived_it(self, root: Path) -> None:
        """After a call that failed: the same run went on to its end, and all of it is there."""
        told = [json.loads(line) for line in self.reports.read_text().splitlines()]
        if {"started": 1} in told:  # else it could not even take its lock or its name, and said so
            assert {"done": 1} in told, "it started, and did not survive"
            self.survived += 1
        self.killed(root)

    def check(self, root: Path) -> None:
        layout = Layout(root)
        assert list(layout.open_parts()) == []
        for symbol in SYMBOLS:
            ids = ids_in(layout, symbol)
            assert all(interval.first in ids for interval in self._acknowledged[symbol])
            told = account(read(layout.ledger(EXCHANGE, symbol)).lines)
            assert told.seen == ids
            assert list(told.open_holes) == ids.holes()


def _union(ids: set[Any]) -> IntervalSet:
    return IntervalSet(ids)


def _ids_of_open(path: Path) -> IntervalSet:
    from crypto_lake.lake.frames import Frame, read_frames

    ids = IntervalSet()
    for frame in read_frames(path):
        if isinstance(frame, Frame):
            for line in frame.data.splitlines():
                ids.add(json.loads(line)["message"]["data"]["t"])
    return ids


def run_capture(
    folder: Path, *, fault: str = KILL, calls: tuple[str, ...] = (), share: int | None
) -> tuple[Report, Killed]:
    need_strace()
    killed = Killed(folder)
    options: dict[str, Any] = {"calls": calls} if calls else {}
    report = enumerate_crash_points(
        killed.run(1),
        killed.make_state,
        killed.check,
        folder=folder / "runs",
        resume=killed.next_run,
        killed=killed.killed if fault == KILL else killed.survived_it,
        fault=fault,
        share=share,
        **options,
    )
    return report, killed


def test_a_seeded_share_of_the_collectors_crash_points(tmp_path: Path) -> None:
    report, _ = run_capture(tmp_path, share=8)
    assert report.points > 60
    assert report.fired == 8


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_every_crash_point_of_the_collector(tmp_path: Path) -> None:
    report, _ = run_capture(tmp_path, share=None)
    print(f"collector: {report}")
    assert report.fired == report.points


FAULTS = [
    ("error=ENOSPC", ("write", "openat", "rename", "mkdir", "fsync", "fdatasync")),
    ("error=EIO", ("fsync", "fdatasync", "write", "ftruncate")),
]


@pytest.mark.parametrize(("fault", "calls"), FAULTS)
def test_a_seeded_share_of_a_disks_failures(tmp_path: Path, fault: str, calls: tuple[str, ...]) -> None:
    report, killed = run_capture(tmp_path, fault=fault, calls=calls, share=5)
    assert report.fired == 5
    assert killed.survived


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("fault", "calls"), FAULTS)
def test_every_failure_of_a_disk(tmp_path: Path, fault: str, calls: tuple[str, ...]) -> None:
    report, killed = run_capture(tmp_path, fault=fault, calls=calls, share=None)
    print(f"collector, {fault}: {report}, survived {killed.survived}")
    assert killed.survived >= report.points - 12, "only the taking of the lock and of the name may end it"


# The day file


def make_raw(root: Path) -> None:
    layout = Layout(root)
    for number, (first, trades) in enumerate([(1, 40), (45, 30)], start=1):
        write_part(
            layout,
            "BTCUSDT",
            HOUR,
            number,
            market("BTCUSDT", HOUR, first, trades, start=0.3 * number, end=0.3 * number + 0.2),
        )
    write_part(
        layout, "BTCUSDT", HOUR.next(), 3, market("BTCUSDT", HOUR.next(), 75, 5), closed=False, tail=b"torn"
    )


def bars_of(root: Path) -> tuple[int, str] | None:
    """Trades in the day's file and its checksum; None: it is not there. Whole, and as its manifest says, it must be."""
    layout = Layout(root)
    path = layout.bars(EXCHANGE, "BTCUSDT", HOUR.day)
    if not path.exists():
        return None
    return int(pl.read_parquet(path)["trade_count"].sum()), sha256_of(path)


def run_transform(folder: Path, *, share: int | None) -> Report:
    need_strace()
    whole: set[tuple[int, str] | None] = set()

    def check(root: Path) -> None:
        layout = Layout(root)
        assert list(layout.open_parts()) == []
        found = bars_of(root)
        assert found is not None
        assert found[0] == 75
        manifest = read_bars_manifest(layout, layout.bars(EXCHANGE, "BTCUSDT", HOUR.day))
        assert manifest is not None
        assert (manifest.sha256, manifest.trades) == (found[1], 75)
        whole.add(found)

    report = enumerate_crash_points(
        [sys.executable, "-m", "crypto_lake.cli.main", "transform", "--data", "{root}"],
        make_raw,
        check,
        folder=folder,
        killed=bars_of_either,
        # Polars opens and writes its temporary file in threads of its own, where calls can't be counted. What they
        # leave is what a kill at the calls before and after them leaves.
        calls=[call for call in CALLS if call not in ("openat", "write")],
        environment={"POLARS_MAX_THREADS": "1"},
        share=share,
    )
    assert len(whole) == 1, "the same raw gives the same bytes, wherever it was killed before"
    return report


def bars_of_either(root: Path) -> None:
    """Right after the kill the day's file is whole or absent."""
    found = bars_of(root)
    assert found is None or found[0] in (70, 75)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_every_crash_point_of_the_day_file(tmp_path: Path) -> None:
    report = run_transform(tmp_path, share=None)
    print(f"transform: {report}")
    assert report.fired == report.points


def test_a_seeded_share_of_the_day_files_crash_points(tmp_path: Path) -> None:
    assert run_transform(tmp_path, share=2).fired == 2
