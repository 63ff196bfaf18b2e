"""`crypto-lake upload` and `cleanup` as a user meets them: against a folder, and against the strict fake of GCS."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.lake import tasks
from crypto_lake.lake.deletions import deleted_paths
from crypto_lake.lake.layout import Layout
from crypto_lake.store import StoreSettings, open_store
from crypto_lake.upkeep.cleanup import Retention, cleanup
from crypto_lake.upkeep.cleanup_report import CleanupReport
from crypto_lake.upkeep.upload import Settings, upload
from support.fake_gcs import FakeGcs, FakeObject
from support.fake_gcs.state import Digest
from support.kept_lakes import DAY_NS, NOW, bars_files, make_kept_lake, raw_names
from support.lakes import At, command
from support.shares import share

QUICK = StoreSettings(
    connect_timeout_seconds=2, read_timeout_seconds=5, deadline_seconds=3, first_wait_seconds=0.01
)
HOUR = "raw/binance/BTCUSDT/2024-08-08/hour_22.jsonl.zst"
OBJECT = "raw/binance/BTCUSDT/2024-08-08/c-test/hour_22.jsonl.zst"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_kept_lake(tmp_path_factory.mktemp("kept") / "data", symbols=("BTCUSDT",), trades=10).root


@pytest.fixture
def layout(template: Path, tmp_path: Path) -> Layout:
    return Layout(Path(shutil.copytree(template, tmp_path / "data")))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGcs]:
    with FakeGcs(buckets=("lake", "second")) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        yield server


def clean(layout: Layout, **changes: Any) -> CleanupReport:
    store = open_store("gs://lake/prod", settings=QUICK)
    try:
        return cleanup(layout, store, retention=Retention(DAY_NS), clock=At(NOW), explain=True, **changes)
    finally:
        store.close()


def put(layout: Layout, **settings: Any) -> Any:
    store = open_store("gs://lake/prod", settings=QUICK)
    try:
        return upload(layout, store, clock=At(NOW), settings=Settings(**settings))
    finally:
        store.close()


def run(name: str, layout: Layout, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    flags = ["--data", str(layout.root), "--set", f"gcs.url={url}"]
    return command(name, *flags, *arguments, cwd=layout.root.parent)


def made_of(data: bytes, like: FakeObject, generation: int) -> FakeObject:
    digest = Digest()
    digest.update(data)
    return replace(
        like, data=data, size=len(data), crc32c=digest.crc32c, md5=digest.md5, generation=generation
    )


def test_the_whole_way_over_the_commands(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    url = f"file://{tmp_path}/bucket"
    before, bars = raw_names(layout), bars_files(layout)
    planned = run("upload", layout, url, "--dry-run", "-o", "json")
    assert planned.returncode == 0, planned.stderr
    assert not list((tmp_path / "bucket").iterdir())
    report = json.loads(planned.stdout)
    told = run("cleanup", layout, url, "--explain")
    assert told.returncode == 0
    assert f"keep   {HOUR}  (not_uploaded)" in told.stdout
    assert raw_names(layout) == before

    done = run("upload", layout, url)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"{len(report['planned'])} objects uploaded" in done.stdout
    there = {str(p.relative_to(tmp_path / "bucket")) for p in (tmp_path / "bucket").rglob("*") if p.is_file()}
    assert {name for name in there if not name.startswith(".store/")} == set(report["planned"])
    assert "0 objects uploaded" in run("upload", layout, url).stdout
    figures = tasks.read(layout)["upload"].figures
    assert figures["bytes_pending"] == figures["files_pending"] == 0
    assert figures["last_verified_ns"] > 0

    # Raw of 2024 is long past its retention by the machine's clock; control records go once no raw is left.
    dry = run("cleanup", layout, url, "--dry-run", "-o", "json")
    assert json.loads(dry.stdout)["deleted"]["expired"]["files"] == 5
    assert raw_names(layout) == before
    assert "deleted 5 files" in run("cleanup", layout, url).stdout
    gone = run("cleanup", layout, url)
    assert gone.returncode == 0, gone.stderr
    assert raw_names(layout) == set()
    assert deleted_paths(layout) == before
    assert bars_files(layout) == bars
    assert tasks.read(layout)["cleanup"].figures["deleted_files"] == 5
    # What went is no loss to those who look: bars stand, and verify knows where the raw is.
    assert command("transform", "--data", str(layout.root)).returncode == 0
    assert bars_files(layout) == bars
    verified = command("verify", "--data", str(layout.root))
    assert verified.returncode == 0, verified.stdout
    assert "10 in the bucket alone" in verified.stdout


def test_without_a_bucket_upload_says_so_and_raw_goes_by_age_when_its_bars_are_final(layout: Layout) -> None:
    refused = command("upload", "--data", str(layout.root), cwd=layout.root.parent)
    assert refused.returncode == 2
    assert "no bucket is configured; set gcs.bucket_name" in refused.stderr
    bars = layout.bars("binance", "BTCUSDT", "2024-08-09")
    sound = bars.read_bytes()
    bars.write_bytes(sound[:-1] + b"\0")
    done = command("cleanup", "--data", str(layout.root), cwd=layout.root.parent)
    assert done.returncode == 3, done.stdout
    assert "bars of 2024-08-09 have sha256" in done.stdout
    left = {name for name in raw_names(layout) if "_control" not in name}
    # What has a trade in the later day stays with it.
    assert {name.rpartition("/")[2] for name in left} == {"hour_00.jsonl.zst", "hour_01.jsonl.zst"}
    bars.write_bytes(sound)
    for _ in range(2):
        done = command("cleanup", "--data", str(layout.root), cwd=layout.root.parent)
        assert done.returncode == 0, done.stderr
    assert raw_names(layout) == set()
    kept = make_kept_lake(layout.root.parent / "kept", symbols=("BTCUSDT",), trades=4)
    done = command(
        "cleanup", "--data", str(kept.root), "--set", "retention.raw=never", cwd=layout.root.parent
    )
    assert done.returncode == 0
    assert len(raw_names(kept)) == 10


@pytest.mark.parametrize(
    ("harm", "code", "says"),
    share(
        [
            ("deleted", "gone_from_bucket", "no longer in the bucket"),
            ("other crc", "differs_in_bucket", "crc32c"),
            ("other generation", "differs_in_bucket", "generation"),
            ("other size", "differs_in_bucket", "size"),
            ("manifest deleted", "gone_from_bucket", "manifests/raw"),
            ("ledger deleted", "gone_from_bucket", "ledger/binance/BTCUSDT/2024-08-08"),
            ("record lost", "not_uploaded", "not in the bucket yet"),
            ("local flipped", "local_changed", "sha256"),
            ("local manifest lost", "not_sealed", "no manifest"),
            ("bars' index lost", "bars_not_made", "has not read it"),
            ("ledger lost", "not_in_ledger", "its ledger does not know"),
        ],
        4,
        seed=3,
    ),
)
def test_what_is_not_as_it_is_recorded_stays_and_is_told(
    layout: Layout, server: FakeGcs, harm: str, code: str, says: str
) -> None:
    assert put(layout).problem == ""
    name = f"prod/{OBJECT}"
    path = layout.root / HOUR
    match harm:
        case "deleted":
            del server.objects[name]
        case "manifest deleted":
            del server.objects[f"prod/manifests/{OBJECT}.json"]
        case "ledger deleted":
            del server.objects["prod/ledger/binance/BTCUSDT/2024-08-08/c-test.jsonl"]
        case "other crc" | "other size" | "other generation":
            held = server.objects[name]
            assert held.data is not None
            data = held.data[:-1] + bytes([held.data[-1] ^ 1]) if harm == "other crc" else held.data
            data += b"x" * (harm == "other size")
            server.objects[name] = made_of(data, held, held.generation + (harm == "other generation"))
        case "record lost":
            (layout.state / "uploads/binance/BTCUSDT/2024-08-08.jsonl").unlink()
        case "local flipped":
            path.write_bytes(path.read_bytes()[:-1] + b"\0")
        case "local manifest lost":
            layout.manifest(path).unlink()
        case "bars' index lost":
            (layout.state / "bars/binance/BTCUSDT/2024-08-08.json").unlink()
        case _:
            layout.ledger("binance", "BTCUSDT").unlink()
    report = clean(layout)
    assert path.exists()
    (verdict,) = [told for told in report.files if told.path == HOUR]
    assert (verdict.action, verdict.code) == ("keep", code)
    assert says in verdict.text
    assert not server.sent("delete")
    assert not server.sent("media")
    # What the lake can mend by itself it mends: the next upload puts again what is gone.
    if "deleted" in harm or harm in ("other generation", "record lost"):
        assert put(layout).problem == ""
        clean(layout)
        assert not path.exists()


def test_an_object_with_other_bytes_is_never_overwritten_and_the_rest_goes_on(
    layout: Layout, server: FakeGcs
) -> None:
    other = FakeObject(f"prod/{OBJECT}", b"", 0, "", None, 1, {}, "2024-08-08T00:00:00Z")
    server.objects[other.name] = made_of(b"not ours", other, 1)
    report = put(layout)
    assert [refused.path for refused in report.conflicts] == [HOUR]
    assert server.objects[f"prod/{OBJECT}"].data == b"not ours"
    assert f"prod/manifests/{OBJECT}.json" not in server.objects, "a manifest promises its object"
    assert report.pending.files == 2
    assert tasks.read(layout)["upload"].problem
    assert len([name for name in server.objects if name.startswith("prod/raw/")]) == len(raw_names(layout))


def test_a_local_file_that_is_not_what_its_manifest_says_is_never_uploaded(
    layout: Layout, server: FakeGcs
) -> None:
    path = layout.root / HOUR
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    report = put(layout)
    assert [refused.path for refused in report.changed] == [HOUR]
    assert f"prod/{OBJECT}" not in server.objects
    assert f"prod/manifests/{OBJECT}.json" not in server.objects
    done = run("upload", layout, "gs://lake/prod")
    assert done.returncode == 3
    assert "crypto-lake verify" in done.stdout


@pytest.mark.parametrize(
    ("step", "kind", "exit_code", "says"),
    [
        ("multipart", "403", 1, "storage.objects.create"),
        ("multipart", "404", 1, "bucket"),
        ("multipart", "401", 1, "redential"),
    ],
)
def test_errors_of_the_store_end_the_run_with_what_to_do(
    layout: Layout, server: FakeGcs, step: str, kind: str, exit_code: int, says: str
) -> None:
    fault = server.fail(step, kind, times=100)
    done = run("upload", layout, "gs://lake/prod")
    assert fault.fired
    assert fault.fired <= 10, "the first that says so ends it"
    assert done.returncode == exit_code, done.stderr
    assert says in done.stderr
    assert tasks.read(layout)["upload"].failures == 1
    assert raw_names(layout)


@pytest.mark.parametrize("kind", ["503", "429", "reset_before", "reset_after", "flip_up"])
def test_what_passes_is_tried_again_until_it_is_there_once(
    layout: Layout, server: FakeGcs, kind: str
) -> None:
    fault = server.fail("multipart", kind, times=2)
    report = put(layout)
    assert fault.fired == 2
    assert report.problem == ""
    assert report.pending.files == 0
    for name in raw_names(layout):
        there = name.replace("/hour", "/c-test/hour")
        assert server.objects[f"prod/{there}"].data == (layout.root / name).read_bytes()


def test_a_store_that_does_not_answer_ends_the_run_as_unavailable_and_the_next_completes_it(
    layout: Layout, server: FakeGcs
) -> None:
    fault = server.fail("multipart", "503", times=10**6, after=7)
    report = put(layout, workers=2)
    assert fault.fired
    assert report.error_is_transient
    assert 0 < len(server.objects) < 10
    fault.times = 0
    again = put(layout)
    assert again.problem == ""
    assert again.created.files + report.created.files + again.found.files == len(server.objects)


def test_sigterm_ends_an_upload_within_seconds_and_the_next_goes_on(layout: Layout, server: FakeGcs) -> None:
    big = layout.root / HOUR
    # Slow enough to be met in the middle: 12 MB at 1 MB a second.
    manifest = json.loads(layout.manifest(big).read_bytes())
    data = os.urandom(12_000_000)
    grow(layout, big, manifest, data)
    argv = [
        sys.executable,
        "-m",
        "crypto_lake.cli.main",
        "upload",
        "--data",
        str(layout.root),
        "--bandwidth",
        "1",
    ]
    process = subprocess.Popen(
        [*argv, "--set", "gcs.url=gs://lake/prod"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not server.sent("start"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=90)
    assert time.monotonic() - began < 15
    assert process.returncode == 130, (out, err)
    assert f"prod/{OBJECT}" not in server.objects
    assert tasks.read(layout).get("upload") is not None
    assert tasks.read(layout)["upload"].failures == 0
    report = put(layout)
    assert report.problem == ""
    assert server.objects[f"prod/{OBJECT}"].data == data


def grow(layout: Layout, path: Path, manifest: dict[str, Any], data: bytes) -> None:
    """Other bytes with a manifest that tells of them: what an upload goes by is that alone."""
    from crypto_lake.model.checksums import measure_bytes

    path.write_bytes(data)
    sums = measure_bytes(data)
    manifest |= {"bytes": sums.bytes, "sha256": sums.sha256, "crc32c": sums.crc32c, "md5": sums.md5}
    layout.manifest(path).write_text(json.dumps(manifest))


def test_a_bandwidth_limit_holds(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    path = layout.root / HOUR
    grow(layout, path, json.loads(layout.manifest(path).read_bytes()), os.urandom(1_500_000))
    began = time.monotonic()
    done = run("upload", layout, f"file://{tmp_path}/bucket", "--bandwidth", "1")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began >= 1.0  # never faster, however slow the machine is


def test_another_bucket_gets_what_is_here_and_its_records_alone_count(
    layout: Layout, server: FakeGcs
) -> None:
    assert put(layout).problem == ""
    store = open_store("gs://second", settings=QUICK)
    report = cleanup(layout, store, retention=Retention(DAY_NS), clock=At(NOW), explain=True)
    (verdict,) = [told for told in report.files if told.path == HOUR]
    assert verdict.code == "other_bucket"
    assert "gs://lake/prod" in verdict.text
    assert raw_names(layout)
    assert upload(layout, store, clock=At(NOW)).created.files > 10
    for _ in range(2):
        cleanup(layout, store, retention=Retention(DAY_NS), clock=At(NOW))
    assert raw_names(layout) == set()
    store.close()


def test_two_at_a_time_are_told_apart(layout: Layout, tmp_path: Path) -> None:
    from crypto_lake.lake import locks

    (tmp_path / "bucket").mkdir()
    for name, lock in (("upload", "upload"), ("cleanup", "cleanup"), ("cleanup", "transform")):
        with locks.hold(layout.locks, lock):  # pyright: ignore[reportArgumentType]
            done = run(name, layout, f"file://{tmp_path}/bucket")
        assert done.returncode == 4
        assert "is in use" in done.stderr
    assert tasks.read(layout).get("upload") is None
