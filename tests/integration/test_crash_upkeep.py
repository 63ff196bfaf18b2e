"""SIGKILL at every system call of an upload's bookkeeping and of a clean-up that changes a file.

After each: what is gone here is in the bucket, byte for byte, and recorded; the next run completes; the end is that of
an undisturbed run.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crypto_lake.lake.deletions import deleted_paths
from crypto_lake.lake.layout import Layout
from crypto_lake.store import open_store
from crypto_lake.upkeep.upload import upload
from support.crash import Report, enumerate_crash_points, need_strace
from support.kept_lakes import DAY_NS, NOW, bars_files, make_kept_lake, raw_names
from support.lakes import At, leftovers

PROGRAM = f"""
import sys
from pathlib import Path
from crypto_lake.lake.layout import Layout
from crypto_lake.store import open_store
class At:
    speed = 0.0
    def now_ns(self): return {NOW}
root = Path(sys.argv[2])
layout, store = Layout(root / "data"), open_store(f"file://{{root}}/bucket")
if sys.argv[1] == "upload":
    from crypto_lake.upkeep import upload as rim, upload_raw
    # One thread: system calls are counted in each by itself, and must come in one order.
    class Pool:
        def __init__(self, *_, **__): pass
        def __enter__(self): return self
        def __exit__(self, *_): pass
        def map(self, *a): return map(*a)
    def one_by_one(store, jobs, **_):
        for job in jobs:
            yield job, store.put(job.path, job.name, job.declared, metadata=job.metadata)
    rim.ThreadPoolExecutor, upload_raw.put_many = Pool, one_by_one
    report = rim.upload(layout, store, clock=At())
else:
    from crypto_lake.upkeep.cleanup import Retention, cleanup
    from crypto_lake.upkeep.disk_budget import Usage
    usage = Usage(100, 50)
    for _ in range(2):  # control records go once no raw is left
        report = cleanup(layout, store, retention=Retention({DAY_NS}), clock=At(), usage=usage)
sys.exit(1 if report.problem else 0)
"""
# Task reports and locks are not what is promised; they are made by other modules and may be lost.
WATCH = ("data/raw", "data/parquet", "data/state/uploads", "data/state/deletions", "data/state/uploading")


def _age(folder: Path) -> None:
    """Make files an hour older: a program may do more, or less, as long as one is so young that its time proves nothing."""
    for path in folder.rglob("*"):
        if path.is_file():
            seen = path.stat()
            os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns - 3600 * 10**9))


def ready(root: Path) -> None:
    """One symbol, ready to be uploaded."""
    make_kept_lake(root / "data", symbols=("BTCUSDT",), trades=3)
    _age(root / "data")
    (root / "bucket").mkdir()


def uploaded(root: Path) -> None:
    ready(root)
    # By the path at which it will be: a record is of a bucket by its URL.
    state = root.parent / "state"
    shutil.copytree(root, state)
    assert not upload(Layout(state / "data"), open_store(f"file://{state}/bucket"), clock=At(NOW)).problem
    shutil.rmtree(root)
    _age(state / "data")
    state.rename(root)


def objects(root: Path) -> dict[str, bytes]:
    bucket = root / "bucket"
    found = {str(p.relative_to(bucket)): p.read_bytes() for p in bucket.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(".store/")}


def records(layout: Layout) -> set[tuple[str, str, str]]:
    """(name, sha256, path) of every upload record, as any reader of JSON lines finds them."""
    found: set[tuple[str, str, str]] = set()
    for path in (layout.state / "uploads").rglob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            record = json.loads(line)
            found.add((record["name"], record["sha256"], record["path"]))
    return found


def run(command: str, make: Callable[[Path], None], folder: Path, share: int | None) -> Report:
    need_strace()
    argv = [sys.executable, "-c", PROGRAM, command, "{root}"]
    folder.mkdir(exist_ok=True)
    first = folder / "first" / "made"
    first.mkdir(parents=True)
    make(first)
    before = {name: (first / "data" / name).read_bytes() for name in raw_names(Layout(first / "data"))}
    bars = bars_files(Layout(first / "data"))

    def killed(root: Path) -> None:
        layout = Layout(root / "data")
        there = objects(root)
        left = raw_names(layout)
        for name, data in before.items():
            if name in left:
                assert (layout.root / name).read_bytes() == data
            else:
                assert there[name.replace("/hour", "/c-test/hour")] == data
                assert name in deleted_paths(layout)
        for name in there:
            if name.startswith("manifests/raw"):
                assert name.removeprefix("manifests/").removesuffix(".json") in there
        assert bars_files(layout) == bars

    def check(root: Path) -> None:
        killed(root)
        layout = Layout(root / "data")
        names = {name for name, _, _ in records(layout)}
        assert names == objects(root).keys()
        assert raw_names(layout) == (before.keys() if command == "upload" else set())
        assert not [path for path in leftovers(layout) if path.parent.name != "uploading"]

    return enumerate_crash_points(
        argv, make, check, folder=folder / "points", killed=killed, watch=WATCH, share=share
    )


def test_a_share_of_an_uploads_crash_points(tmp_path: Path) -> None:
    assert run("upload", ready, tmp_path / "all", 3).fired == 3


def test_a_share_of_a_clean_ups_crash_points(tmp_path: Path) -> None:
    assert run("cleanup", uploaded, tmp_path / "all", 4).fired == 4


@pytest.mark.faults
def test_every_crash_point_of_an_upload(tmp_path: Path) -> None:
    report = run("upload", ready, tmp_path / "all", None)
    print(report)
    assert report.fired == report.points >= 60


@pytest.mark.faults
def test_every_crash_point_of_a_clean_up(tmp_path: Path) -> None:
    report = run("cleanup", uploaded, tmp_path / "all", None)
    print(report)
    assert report.fired == report.points >= 20
