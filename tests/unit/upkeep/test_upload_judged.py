"""Verdicts and reports in the bucket: of finished days, replaced when they are written anew, each collector's its own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lake.completeness import verdict_table
from crypto_lake.completeness.verdict import VERDICT_SCHEMA
from crypto_lake.completeness.verdict_table import CheckedHour
from crypto_lake.lake import uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.store import Store, measure, open_store
from crypto_lake.upkeep.bucket_verify import verify_bucket
from crypto_lake.upkeep.cleanup import Retention, cleanup
from crypto_lake.upkeep.day_report import write_report
from crypto_lake.upkeep.scan import SymbolDay
from crypto_lake.upkeep.scan_judged import FINISHED_AT_LATEST_NS, is_finished, judged_paths
from crypto_lake.upkeep.upload import upload
from crypto_lake.upkeep.upload_report import UploadReport
from support.fake_gcs import FakeGcs
from support.lakes import At

DAY = "2024-08-08"
END_NS = Hour(DAY, 23).end_ns
HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
LAST = END_NS // HOUR_NS - 1
AT = ("binance", "BTCUSDT", DAY)
FOLDER = "verdicts/binance/BTCUSDT/year=2024/month=08/day=08"
VERDICTS = f"{FOLDER}/c-test.parquet"
REPORTS = [f"reports/binance/BTCUSDT/{DAY}/c-test.{suffix}" for suffix in ("json", "md")]


def judge(layout: Layout, verdict: str = "verified", hours: int = 2, until: int = END_NS // 10**9) -> None:
    """The last hours of a day, a second each, and its report, all an hour ago."""
    row: dict[str, Any] = dict.fromkeys(VERDICT_SCHEMA)
    rows = [
        row
        | {
            "exchange": "binance",
            "symbol": "BTCUSDT",
            "window_start": datetime.fromtimestamp((LAST - n) * 3600, UTC),
            "verdict": verdict,
        }
        for n in reversed(range(hours))
    ]
    checked = {
        LAST - n: CheckedHour("ab", (LAST - n) * 3600, min(until, (LAST - n + 1) * 3600))
        for n in range(hours)
    }
    verdict_table.write(layout.verdicts(*AT), pl.DataFrame(rows, schema=VERDICT_SCHEMA), checked)
    write_report(layout, *AT)
    written_ns = time.time_ns() - HOUR_NS
    for path in judged_paths(layout, SymbolDay(*AT)):
        os.utime(path, ns=(written_ns, written_ns))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "data")
    made.state.mkdir(parents=True)
    (made.state / "collector").write_text("c-test\n")
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "bucket").mkdir()
    return open_store(f"file://{tmp_path}/bucket")


def put(layout: Layout, store: Store, now_ns: int = END_NS + HOUR_NS, **options: Any) -> UploadReport:
    return upload(layout, store, clock=At(now_ns), **options)


def objects(store: Store) -> dict[str, bytes]:
    return {stored.name: store.read(stored.name)[1] for stored in store.list()}


def here(layout: Layout) -> dict[str, bytes]:
    paths = (layout.verdicts(*AT), layout.report(*AT, "json"), layout.report(*AT, "md"))
    return {name: path.read_bytes() for name, path in zip((VERDICTS, *REPORTS), paths, strict=True)}


def test_a_finished_days_verdicts_and_report_are_in_the_bucket_under_the_collectors_name(
    layout: Layout, store: Store
) -> None:
    judge(layout)
    planned = put(layout, store, dry_run=True)
    assert sorted(planned.planned) == sorted([VERDICTS, *REPORTS])
    assert objects(store) == {}
    report = put(layout, store)
    assert (report.problem, report.created.files, report.pending.files) == ("", 3, 0)
    assert objects(store) == here(layout)
    again = put(layout, store)
    assert (again.problem, again.created.files, again.found.files) == ("", 0, 0)
    assert put(layout, store, dry_run=True).planned == []


def test_rows_of_verdicts_are_not_read_for_it_and_of_a_day_that_is_not_over_nothing(
    layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged file can end the process that reads it."""
    judge(layout)
    monkeypatch.setattr(pl, "read_parquet", None)
    with monkeypatch.context() as patched:
        patched.setattr(pl, "read_parquet_metadata", None)
        assert (put(layout, store, END_NS - 1).problem, objects(store)) == ("", {})
    report = put(layout, store)
    assert (report.problem, report.created.files) == ("", 3)
    assert objects(store) == here(layout)


def test_so_it_is_in_cloud_storage_whatever_was_lost(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGcs(buckets=("lake",)) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        bucket = open_store("gs://lake/prod")
        try:
            for harm in ("", "judged anew", "record lost", "object deleted"):
                match harm:
                    case "record lost":
                        uploads.path_of(layout, *AT).unlink()
                    case "object deleted":
                        del server.objects[f"prod/{VERDICTS}"]
                    case _:
                        pass
                judge(layout, harm or "verified")
                report = put(layout, bucket)
                assert (report.problem, report.pending.files) == ("", 0), harm
                assert objects(bucket) == here(layout), harm
        finally:
            bucket.close()
        assert not server.sent("delete")


@pytest.mark.parametrize("now_ns", [END_NS - 1, END_NS + HOUR_NS, END_NS + FINISHED_AT_LATEST_NS])
def test_a_day_that_is_not_finished_waits_but_not_for_ever(layout: Layout, store: Store, now_ns: int) -> None:
    judge(layout, until=END_NS // 10**9 - 5)  # its last seconds were not judged
    report = put(layout, store, now_ns)
    assert report.problem == ""
    assert report.created.files == (3 if now_ns == END_NS + FINISHED_AT_LATEST_NS else 0)


def test_what_was_judged_anew_replaces_what_was_there_and_nothing_else(layout: Layout, store: Store) -> None:
    judge(layout)
    put(layout, store)
    before = {stored.name: stored.generation for stored in store.list()}
    judge(layout, "mismatch")
    report = put(layout, store)
    assert (report.problem, report.conflicts) == ("", [])
    assert objects(store) == here(layout)
    after = {stored.name: stored.generation for stored in store.list()}
    assert after.keys() == before.keys()
    assert after[VERDICTS] != before[VERDICTS]
    # The report as text says the same as before only if it does: its object is then the same.
    recorded = uploads.read(layout, *AT, store.url)
    assert {name: record.generation for name, record in recorded.items()} == after


def test_a_file_that_was_only_touched_makes_no_new_version(layout: Layout, store: Store) -> None:
    judge(layout)
    put(layout, store)
    before = {stored.name: stored.generation for stored in store.list()}
    os.utime(layout.verdicts(*AT), ns=(1, 1))
    assert put(layout, store, dry_run=True).planned == []
    assert put(layout, store).created.files == 0
    assert {stored.name: stored.generation for stored in store.list()} == before
    assert uploads.read(layout, *AT, store.url)[VERDICTS].modified_ns == 1, "and need not be read again"


@pytest.mark.parametrize("runs", [0, 1, 2])
def test_what_is_written_anew_within_a_tick_of_the_clock_is_uploaded_as_well(
    layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    """`runs`: between the two, while it is still young. The file system's times are whole seconds."""
    tick_ns, late_ns = 1_700_000_000 * 10**9, END_NS + FINISHED_AT_LATEST_NS
    now_ns = tick_ns + 10**9 // 2
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    path, name = layout.report(*AT, "md"), REPORTS[1]
    path.parent.mkdir(parents=True)

    def write(data: bytes) -> None:
        path.write_bytes(data)
        os.utime(path, ns=(tick_ns, tick_ns))

    write(b"old!")
    assert put(layout, store, late_ns).created.files == 1
    for _ in range(runs):
        assert put(layout, store, late_ns, dry_run=True).planned == []
        again = put(layout, store, late_ns)
        assert (again.problem, again.created.files, again.found.files, again.pending.files) == ("", 0, 0, 0)
    write(b"new!")
    assert put(layout, store, late_ns, dry_run=True).planned == [name]
    assert put(layout, store, late_ns).created.files == 1
    assert objects(store) == {name: b"new!"}
    now_ns += 2 * 10**9
    assert put(layout, store, late_ns).created.files == 0
    assert uploads.read(layout, *AT, store.url)[name].modified_ns == tick_ns
    records = uploads.path_of(layout, *AT).read_bytes()
    assert put(layout, store, late_ns).created.files == 0
    assert uploads.path_of(layout, *AT).read_bytes() == records, "it is recorded once"


def block_report(layout: Layout) -> Path:
    """It can't be looked at, as where a disk or a network's file system fails."""
    path = layout.report(*AT, "md")
    path.unlink()
    path.symlink_to(path.name)
    return path


def block_records(layout: Layout) -> Path:
    path = uploads.path_of(layout, *AT)
    path.parent.mkdir(parents=True)
    path.symlink_to(path.name)
    return path


@pytest.mark.parametrize("block", [block_report, block_records])
def test_a_file_that_can_not_be_looked_at_keeps_its_day_alone_waiting(
    layout: Layout, store: Store, block: Callable[[Layout], Path]
) -> None:
    symbol_days = [(*AT[:2], day) for day in ("2024-08-07", DAY, "2024-08-09")]
    late_ns = END_NS + 2 * FINISHED_AT_LATEST_NS
    for of in symbol_days:
        path = layout.report(*of, "md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(of[-1])
        os.utime(path, ns=(1, 1))
    blocked = block(layout)
    others = [f"reports/binance/BTCUSDT/{of[-1]}/c-test.md" for of in symbol_days if of != AT]
    for dry_run, created, planned in (
        (True, 0, others),
        (False, 2, []),
        (False, 0, []),
        (True, 0, []),
    ):
        report = put(layout, store, late_ns, dry_run=dry_run)
        assert (report.created.files, report.planned) == (created, planned)
        assert report.pending.files == len(planned)
        assert [one.path for one in report.failed] == [str(layout.verdicts(*AT).relative_to(layout.root))]
        assert blocked.name in report.failed[0].problem
        assert report.failed[0].path in report.problem
    assert sorted(objects(store)) == others
    blocked.unlink()
    layout.report(*AT, "md").write_text(DAY)
    assert put(layout, store, late_ns).created.files == 1
    assert {*objects(store)} == {*others, REPORTS[1]}


def test_two_collectors_of_a_symbol_keep_each_its_own(layout: Layout, store: Store, tmp_path: Path) -> None:
    judge(layout)
    other = Layout(tmp_path / "other")
    other.state.mkdir(parents=True)
    (other.state / "collector").write_text("c-other\n")
    judge(other, "mismatch")
    for one in (layout, other, layout):
        assert put(one, store).problem == ""
    assert store.read(VERDICTS)[1] == layout.verdicts(*AT).read_bytes()
    assert store.read(f"{FOLDER}/c-other.parquet")[1] == other.verdicts(*AT).read_bytes()
    found = pl.read_parquet(
        f"{store.url.removeprefix('file://')}/verdicts/**/*.parquet", hive_partitioning=False
    )
    assert sorted(found["verdict"].to_list()) == ["mismatch", "mismatch", "verified", "verified"]


def lose_record(layout: Layout, store: Store) -> None:
    uploads.path_of(layout, *AT).unlink()


def lose_object(layout: Layout, store: Store) -> None:
    (Path(store.url.removeprefix("file://")) / VERDICTS).unlink()


@pytest.mark.parametrize("harm", [lose_record, lose_object])
def test_what_was_lost_in_between_is_made_good(
    layout: Layout, store: Store, harm: Callable[[Layout, Store], None]
) -> None:
    judge(layout)
    put(layout, store)
    harm(layout, store)
    judge(layout, "mismatch")
    report = put(layout, store)
    assert (report.problem, report.pending.files) == ("", 0)
    assert objects(store) == here(layout)


def test_an_object_of_somebody_else_is_left_as_it_is_and_told(
    layout: Layout, store: Store, tmp_path: Path
) -> None:
    judge(layout)
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"not ours")
    store.put(foreign, VERDICTS, measure(foreign), metadata={"collector": "c-other"})
    report = put(layout, store)
    assert [(one.path, one.name) for one in report.conflicts] == [
        (str(layout.verdicts(*AT).relative_to(layout.root)), VERDICTS)
    ]
    assert report.pending.files == 1
    assert store.read(VERDICTS)[1] == b"not ours"
    assert store.stat(REPORTS[0]) is not None, "the others go on"


def test_a_bucket_of_verdicts_verifies_and_what_differs_is_named(
    layout: Layout, store: Store, tmp_path: Path
) -> None:
    judge(layout)
    put(layout, store)
    for deep in (False, True):
        report = verify_bucket(store, deep=deep, again_seconds=0)
        assert (report.unknown, report.differences) == ([], [])
        assert report.by_kind == {"verdicts": 1, "reports": 2}
        assert (report.bytes_read > 0) == deep
    chosen = verify_bucket(store, symbols=["ETHUSDT"], again_seconds=0)
    assert chosen.objects == 0
    replace(store, VERDICTS, b"PAR1", tmp_path)
    told = json.loads(store.read(REPORTS[0])[1]) | {"day": "2024-08-09"}
    replace(store, REPORTS[0], msgspec.json.encode(told), tmp_path)
    assert verify_bucket(store, again_seconds=0).differences == []
    found = verify_bucket(store, deep=True, again_seconds=0).differences
    assert [one.path for one in found] == [REPORTS[0], VERDICTS]
    assert "is the report of binance BTCUSDT 2024-08-09" in found[0].problem
    assert "can't be read" in found[1].problem


def replace(store: Store, name: str, data: bytes, folder: Path) -> None:
    stored = store.stat(name)
    assert stored is not None
    (folder / "new").write_bytes(data)
    store.put(folder / "new", name, measure(folder / "new"), replaces=stored.generation)


def test_they_go_from_here_after_their_bars_when_the_bucket_is_proven_to_have_them(
    layout: Layout, store: Store
) -> None:
    judge(layout)
    bars = layout.bars(*AT)
    bars.parent.mkdir(parents=True)
    bars.touch()
    retention = Retention(DAY_NS, 7 * DAY_NS)

    def codes(now_ns: int) -> set[str]:
        report = cleanup(layout, store, retention=retention, clock=At(now_ns), explain=True)
        return {one.code for one in report.files if one.path.startswith(("verdicts/", "reports/"))}

    put(layout, store)
    assert codes(END_NS + 99 * DAY_NS) == {"bars_here"}
    bars.unlink()
    assert codes(END_NS + 2 * DAY_NS) == {"too_young"}
    (Path(store.url.removeprefix("file://")) / VERDICTS).unlink()
    assert codes(END_NS + 9 * DAY_NS) == {"gone_from_bucket", "expired"}
    assert layout.verdicts(*AT).exists()
    assert not layout.report(*AT, "json").exists()
    put(layout, store, END_NS + 9 * DAY_NS)  # the clean-up doubted it, so it is put again
    assert store.stat(VERDICTS) is not None
    judge(layout, "mismatch")  # and judged anew before it went
    assert "not_uploaded" in codes(END_NS + 99 * DAY_NS)
    put(layout, store, END_NS + 99 * DAY_NS)
    assert codes(END_NS + 199 * DAY_NS) == {"expired"}
    assert not layout.verdicts(*AT).exists()
    assert not layout.verdicts(*AT).parent.exists()
    assert store.stat(VERDICTS) is not None


@given(st.sets(st.integers(0, 23)), st.integers(-1, 3 * 24))
def test_a_day_is_finished_when_its_hours_are_judged_to_its_end(hours: set[int], after: int) -> None:
    first = END_NS // HOUR_NS - 24
    checked = {
        first + hour: CheckedHour("", (first + hour) * 3600, (first + hour + 1) * 3600) for hour in hours
    }
    now_ns = END_NS + after * HOUR_NS
    wanted = after >= 0 and (
        after >= 48 or (bool(hours) and max(hours) == 23 and hours == set(range(min(hours), 24)))
    )
    assert is_finished(DAY, checked, now_ns) == wanted
    assert is_finished(DAY, None, now_ns) == (after >= 48)


def test_a_ledger_that_can_not_be_read_fails_alone(layout: Layout, store: Store) -> None:
    judge(layout)
    ledger = layout.ledger("binance", "BTCUSDT")
    ledger.parent.mkdir(parents=True)
    ledger.symlink_to(ledger.name)
    report = put(layout, store, END_NS + 2 * FINISHED_AT_LATEST_NS)
    assert report.created.files == 3
    assert [one.path for one in report.failed] == ["ledger/binance/BTCUSDT.jsonl"]
