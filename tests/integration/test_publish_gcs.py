"""Publishing into Cloud Storage (a strict fake of it) under faults, killed for good, and by several at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crypto_lake.model.clock import ClockSetting
from crypto_lake.store import Store, open_store
from support import publishing as p
from support.crash import CALLS, enumerate_crash_points, need_strace
from support.fake_gcs import FakeGcs
from support.gcs import impatient_store, watched_gcs
from support.publishing import DAY, DAY_NS, END_NS, HOUR_NS, SECOND_NS, Line, Machine

NOON_NS = DAY_NS + 12 * HOUR_NS
SOON_NS = END_NS + 2 * HOUR_NS
BARS = "parquet/binance/BTCUSDT/year=2024/month=08/day=08/bars.parquet"
MANIFEST = f"manifests/{BARS}.json"


def market() -> list[Line]:
    """A day of few trades, and the first of the next one."""
    lines = [p.trade(n, NOON_NS + n * SECOND_NS) for n in range(1, 30)]
    lines += [p.trade(n, END_NS + (n - 35) * SECOND_NS) for n in range(30, 40)]
    return lines + [p.quote(n, NOON_NS + n * SECOND_NS + 7) for n in range(1, 40)]


def filled(store: Store, folder: Path) -> Machine:
    machine = Machine(folder / "data", "a")
    machine.receive(market())
    machine.send(store, SOON_NS)
    return machine


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with watched_gcs(monkeypatch) as running:
        yield running


@pytest.fixture
def store(server: FakeGcs) -> Iterator[Store]:
    with impatient_store("gs://lake/prod") as opened:
        yield opened


def check_whole(store: Store, machine: Machine, tmp: Path) -> None:
    """The day is the one that it must be, its manifest tells of it, and nothing is left to be done."""
    assert p.published(store, tmp) == p.bars_of(machine, SOON_NS)
    stored, data = store.read(MANIFEST)
    told, bars = json.loads(data), store.stat(BARS)
    assert bars is not None
    assert (told["generation"], told["sha256"], told["coming"]) == (bars.generation, bars.sha256, [])
    report = p.run(store, SOON_NS, days=[DAY])
    assert (report.problem, report.up_to_date, report.days) == ("", 1, [])
    assert store.stat(MANIFEST) == stored


def _shared(kinds: list[str], always: set[tuple[int, str]]) -> list[Any]:
    """Each kind at each write; all but a few of them run with `make faults`."""
    every = [(put, kind) for put in (1, 2, 3) for kind in kinds]
    return [pytest.param(*one, marks=() if one in always else pytest.mark.faults) for one in every]


PASSING = ["429", "503", "reset_before", "reset_after", "stall", "stall_after", "flip_up", "flip_down"]


@pytest.mark.parametrize(("put", "kind"), _shared(PASSING, {(1, "503"), (2, "flip_up"), (3, "stall_after")}))
def test_a_fault_of_any_of_the_three_writes_passes(
    server: FakeGcs, store: Store, tmp_path: Path, kind: str, put: int
) -> None:
    machine = filled(store, tmp_path)
    fault = server.fail("multipart", kind, after=put - 1)
    report = p.run(store, SOON_NS, days=[DAY])
    assert fault.fired == 1
    if report.problem:  # such as a bit that was flipped: not retried for good, and told
        assert p.outcomes(p.run(store, SOON_NS, days=[DAY])).get(DAY) in ("published", "completed", None)
    check_whole(store, machine, tmp_path)


@pytest.mark.parametrize(
    "step",
    ["multipart", "media", *(pytest.param(one, marks=pytest.mark.faults) for one in ("get", "list"))],
)
def test_a_store_that_stays_away_is_told_and_the_next_run_goes_on(
    server: FakeGcs, store: Store, tmp_path: Path, step: str
) -> None:
    machine = filled(store, tmp_path)
    fault = server.fail(step, "503", times=10**6)
    report = p.run(store, SOON_NS, days=[DAY])
    assert fault.fired > 1
    assert report.error_is_transient
    assert "Try again" in report.problem
    server.faults.planned.clear()
    assert p.outcomes(p.run(store, SOON_NS, days=[DAY]))[DAY] == "published"
    check_whole(store, machine, tmp_path)


def test_raw_that_arrives_garbled_is_fetched_again_or_not_used(
    server: FakeGcs, store: Store, tmp_path: Path
) -> None:
    machine = filled(store, tmp_path)
    fault = server.fail("media", "flip_down", times=4)
    for _ in range(4):
        p.run(store, SOON_NS, days=[DAY])
    assert fault.fired == 4
    check_whole(store, machine, tmp_path)


def test_many_publishers_at_once(server: FakeGcs, store: Store, tmp_path: Path) -> None:
    machine = filled(store, tmp_path)
    reports: list[Any] = []
    start = threading.Barrier(3)

    def publisher() -> None:
        own = open_store("gs://lake/prod")
        start.wait()
        reports.append(p.run(own, SOON_NS, days=[DAY]))
        own.close()

    threads = [threading.Thread(target=publisher) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 3
    assert not any(report.problem for report in reports), reports
    p.run(store, SOON_NS, days=[DAY])
    check_whole(store, machine, tmp_path)


# Killed for good


def command(machine: Machine, url: str) -> list[str]:
    """`crypto-lake publish` at the lake's own time."""
    setting = ClockSetting(SOON_NS, time.time_ns(), 0.0)
    machine.layout.clock.write_bytes(msgspec.json.encode(setting))
    return [
        *(sys.executable, "-m", "crypto_lake.cli.main", "publish", "--data", str(machine.root)),
        *("--day", DAY, "--set", f"gcs.url={url}", "-o", "json"),
    ]


@pytest.mark.parametrize(("put", "kind"), _shared(["stall", "stall_after"], {(2, "stall_after")}))
def test_sigkill_at_each_write(
    server: FakeGcs, store: Store, tmp_path: Path, wait_for: Callable[..., Any], kind: str, put: int
) -> None:
    """The write is not answered, and not even taken (`stall`), or it is (`stall_after`); then the process is killed."""
    machine = filled(store, tmp_path)
    fault = server.fail("multipart", kind, after=put - 1)
    process = subprocess.Popen(command(machine, store.url), stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: fault.fired or process.poll() is not None, 60, "the write")
        assert fault.fired == 1
    finally:
        process.kill()
        assert process.wait() == -9
    there = store.stat(BARS) is not None
    assert there is (put == 3 or (put == 2 and kind == "stall_after"))
    if there:  # whoever reads meets a whole day
        assert p.published(store, tmp_path) == p.bars_of(machine, SOON_NS)
    done = subprocess.run(command(machine, store.url), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    check_whole(store, machine, tmp_path)


PROGRAM = f"""
import sys
from concurrent.futures import Future
from pathlib import Path
from crypto_lake.store import open_store
from crypto_lake.upkeep import publish_look, publish_stage
from crypto_lake.upkeep.publish import Selection, publish
class At:
    speed = 0.0
    def now_ns(self): return {SOON_NS}
class Inline:
    # Calls are counted for each thread alone, so all that touches files is to be in one.
    def __init__(self, *_, **__): pass
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def map(self, get, *items): return [get(*one) for one in zip(*items)]
    def submit(self, do, *given):
        done = Future()
        done.set_result(do(*given))
        return done
publish_stage.ThreadPoolExecutor = publish_look.ThreadPoolExecutor = Inline
root = Path(sys.argv[1])
report = publish(open_store(f"file://{{root}}/bucket"), staging=root / "staging", clock=At(), selection=Selection(days=["{DAY}"]))
sys.exit(1 if report.problem else 0)
"""


@pytest.mark.faults
@pytest.mark.slow
def test_sigkill_at_every_system_call_that_changes_the_bucket(tmp_path: Path) -> None:
    need_strace()

    def make_state(root: Path) -> None:
        store = p.bucket(root / "bucket")
        filled(store, root)

    def whole(root: Path) -> bytes | None:
        (root / "tmp").mkdir(exist_ok=True)
        return p.published(p.bucket(root / "bucket"), root / "tmp")

    wanted: list[bytes] = []

    def check(root: Path) -> None:
        if not wanted:
            found = p.bars_of(Machine(root / "data", "a"), SOON_NS)
            assert found is not None
            wanted.append(found)
        assert whole(root) == wanted[0]
        store = p.bucket(root / "bucket")
        told, bars = json.loads(store.read(MANIFEST)[1]), store.stat(BARS)
        assert bars is not None
        assert (told["generation"], told["coming"], told["version"]) == (bars.generation, [], 1)

    def killed(root: Path) -> None:
        assert whole(root) in (None, *wanted)

    report = enumerate_crash_points(
        [sys.executable, "-c", PROGRAM, "{root}"],
        make_state,
        check,
        folder=tmp_path / "crash",
        killed=killed,
        watch=(
            "bucket/parquet",
            "bucket/manifests/parquet",
            "bucket/.store/records",
            "bucket/.store/arriving",
        ),
        calls=[call for call in CALLS if call != "write"],  # the threads of polars wake each other by it
        environment={"POLARS_MAX_THREADS": "1"},
    )
    print(report)


def test_the_command_needs_no_data_directory(server: FakeGcs, store: Store, tmp_path: Path) -> None:
    machine = filled(store, tmp_path)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CRYPTO_LAKE_")}

    def publish(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*(sys.executable, "-m", "crypto_lake.cli.main", "publish"), *more],
            cwd=machine.root / "state",  # there is no folder `data` in it
            env=clean,
            capture_output=True,
            text=True,
        )

    url = ("--set", f"gcs.url={store.url}")
    assert publish(*url, "--dry-run").stdout.splitlines()[-1].startswith("2 planned")
    assert store.stat(BARS) is None
    done = publish(*url)  # by the machine's time, that day was long ago
    assert (done.returncode, done.stderr) == (0, "")
    assert "published: version 1, " in done.stdout
    check = publish(*url, "-o", "json")
    assert json.loads(check.stdout)["up_to_date"] == 2
    assert p.published(store, tmp_path) == p.bars_of(machine, SOON_NS)
    for arguments, code, text in (
        ((), 2, "no bucket is configured"),
        (("--data", "nowhere", *url), 2, "there is no such directory"),
        ((*url, "--day", "8.8.2024"), 2, "2024-08-08"),
        (("--set", "gcs.url=gs://no-such-bucket"), 1, "no-such-bucket"),
    ):
        done = publish(*arguments)
        assert (done.returncode, text in done.stderr) == (code, True), done
