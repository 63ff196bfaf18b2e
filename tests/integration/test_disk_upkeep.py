"""A disk that fills up, for real: a small file system of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from crypto_lake.lake import reserve, tasks
from crypto_lake.lake.control import CONTROL
from crypto_lake.lake.deletions import deleted_paths
from crypto_lake.lake.layout import Layout
from crypto_lake.store import open_store
from crypto_lake.upkeep import disk_budget
from crypto_lake.upkeep.cleanup import Retention, cleanup
from crypto_lake.upkeep.disk_budget import Limits
from crypto_lake.upkeep.upload import upload
from support.kept_lakes import NOW, bars_files, make_kept_lake, raw_names
from support.lakes import At, command

DISK_BYTES = 6 * 2**20
YEAR_NS = 365 * 86400 * 10**9


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"tmpfs can't be mounted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path, percent: float) -> None:
    """A file of somebody else's, up to so much of the disk."""
    space = os.statvfs(disk)
    free = space.f_bavail * space.f_frsize - int(DISK_BYTES * (1 - percent / 100))
    with (disk / "ballast").open("ab") as file:
        file.write(b"\1" * max(0, free))


def used_percent(disk: Path) -> float:
    return disk_budget.used_percent(disk_budget.look(disk, Limits()), Limits())


def ready(disk: Path, tmp_path: Path) -> tuple[Layout, str]:
    layout = make_kept_lake(disk / "data", symbols=("BTCUSDT",), trades=4000)
    (tmp_path / "bucket").mkdir()
    url = f"file://{tmp_path}/bucket"
    assert not upload(layout, open_store(url), clock=At(NOW)).problem
    return layout, url


def test_the_oldest_verified_files_go_early_and_no_more_of_them_than_needed(
    disk: Path, tmp_path: Path
) -> None:
    layout, url = ready(disk, tmp_path)
    fill(disk, 90.5)
    assert 90 <= used_percent(disk) < 91
    market = sorted(name for name in raw_names(layout) if CONTROL not in name)
    # One of them is not in the bucket: it stays, however full the disk is.
    unverified = market[1]
    (tmp_path / "bucket" / unverified.replace("/hour", "/c-test/hour")).unlink()
    report = cleanup(layout, open_store(url), retention=Retention(YEAR_NS), clock=At(NOW), explain=True)
    assert report.level == "shed"
    assert report.deleted.keys() == {"disk_full"}
    gone = [name for name in market if name not in raw_names(layout)]
    assert gone
    assert unverified not in gone
    assert gone == [name for name in market if name != unverified][: len(gone)], "the oldest first"
    assert used_percent(disk) <= 86
    left = [name for name in market if name not in gone and name != unverified]
    assert left, "no more than was needed"
    assert [told.path for told in report.problems] == [unverified]
    # There is room again: nothing else goes.
    assert not cleanup(layout, open_store(url), retention=Retention(YEAR_NS), clock=At(NOW)).deleted


def test_above_the_second_limit_no_bars_are_made_and_what_is_there_stands(disk: Path, tmp_path: Path) -> None:
    layout, _ = ready(disk, tmp_path)
    bars = bars_files(layout)
    fill(disk, 97)
    refused = command("transform", "--data", str(layout.root), "--rebuild", "-o", "json", cwd=tmp_path)
    assert refused.returncode == 4, refused.stderr
    assert "no bars are made" in refused.stderr
    assert "cleanup --explain" in refused.stderr
    assert json.loads(refused.stdout) == []
    assert "full" in tasks.read(layout)["transform"].problem
    assert bars_files(layout) == bars
    higher = ["--set", "disk.stop_derived_percent=100"]
    assert command("transform", "--data", str(layout.root), *higher, cwd=tmp_path).returncode == 0


def test_on_a_disk_without_a_free_byte_files_still_go_with_a_record_of_each(
    disk: Path, tmp_path: Path
) -> None:
    layout, url = ready(disk, tmp_path)
    assert reserve.make(layout, 2**18)
    before = raw_names(layout)
    fill(disk, 100)
    with pytest.raises(OSError, match="No space left"):
        (disk / "more").write_bytes(b"x" * 10_000)
    (disk / "more").unlink(missing_ok=True)
    fill(disk, 100)
    report = cleanup(layout, open_store(url), retention=Retention(YEAR_NS), clock=At(NOW))
    assert report.problem == ""
    assert report.level == "stop_derived"
    assert reserve.held_bytes(layout) == 0, "the reserve was given up for the records"
    gone = before - raw_names(layout)
    assert gone
    assert deleted_paths(layout) == gone
    assert used_percent(disk) < 95
