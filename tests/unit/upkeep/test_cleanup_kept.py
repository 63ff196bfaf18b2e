"""Bars that are kept for good: a clean-up reads nothing of them, and tells the same as one that reads all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crypto_lake.lake import deletions, uploads
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import Input, read_bars_manifest, write_bars_manifest
from crypto_lake.store import Store, open_store
from crypto_lake.upkeep import cleanup as run
from crypto_lake.upkeep import cleanup_cases as rim
from crypto_lake.upkeep.cleanup import Retention, cleanup
from crypto_lake.upkeep.cleanup_plan import Case, decide
from crypto_lake.upkeep.cleanup_report import CleanupReport
from crypto_lake.upkeep.publish import publish
from crypto_lake.upkeep.scan import SymbolDay
from crypto_lake.upkeep.scan_judged import judged_paths
from crypto_lake.upkeep.upload import upload
from support.kept_lakes import DAY_NS, NEXT_DAY, NOW, make_kept_lake, raw_names
from support.lakes import DAY, EXCHANGE, At

SYMBOL = "BTCUSDT"
LATER = NOW + 9 * DAY_NS
FOR_GOOD = Retention(DAY_NS)
A_WEEK = Retention(DAY_NS, 7 * DAY_NS)


def clean(
    layout: Layout,
    store: Store | None,
    retention: Retention = FOR_GOOD,
    *,
    now_ns: int = LATER,
    **options: Any,
) -> CleanupReport:
    return cleanup(layout, store, retention=retention, clock=At(now_ns), **options)


def grow_old(layout: Layout) -> None:
    for folder in ("parquet", "manifests", "state", "verdicts", "reports"):
        for path in (layout.root / folder).rglob("*.*"):
            os.utime(path, ns=(1, 1))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published, judged, uploaded; its raw is gone."""
    root = tmp_path_factory.mktemp("cleanup-kept")
    (root / "bucket").mkdir()
    layout = make_kept_lake(root / "data", symbols=(SYMBOL,), trades=4)
    for day in (DAY, NEXT_DAY):
        for n, path in enumerate(judged_paths(layout, SymbolDay(EXCHANGE, SYMBOL, day))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"judged %d" % n)
            os.utime(path, ns=(1, 1))
    store = open_store(f"file://{root}/bucket")
    assert not upload(layout, store, clock=At(NOW)).problem
    assert not publish(store, layout=layout, clock=At(NOW)).problem
    for _ in range(2):  # control records go after raw
        assert not clean(layout, store, now_ns=NOW).problem
    assert raw_names(layout) == set()
    return root


@pytest.fixture
def layout(template: Path, tmp_path: Path) -> Layout:
    shutil.copytree(template / "data", tmp_path / "data")
    made = Layout(tmp_path / "data")
    grow_old(made)
    return made


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Store:
    """The bucket whose records the lake has."""
    return open_store(f"file://{template}/bucket")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of days: records of uploads, manifests of bars."""
    found: list[str] = []

    def told(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            found.append(name)
            return real(*arguments)

        return call

    monkeypatch.setattr(rim, "read_bars_manifest", told("manifest", read_bars_manifest))
    monkeypatch.setattr(uploads, "read", told("records", uploads.read))
    return found


def counts(report: CleanupReport) -> object:
    return report.kept, report.overdue, report.deleted, report.problems


@pytest.mark.parametrize("has_bucket", [True, False])
def test_of_bars_that_are_kept_nothing_is_read_again(
    layout: Layout, store: Store, read: list[str], has_bucket: bool
) -> None:
    place = store if has_bucket else None
    first = clean(layout, place)
    assert read.count("manifest") == 2
    read.clear()
    again = clean(layout, place)
    assert read == []
    assert counts(again) == counts(first)
    code = "kept_for_good" if has_bucket else "not_published"
    assert {kept: total.files for kept, total in again.kept.items()} == {code: 2, "bars_here": 6}


def test_it_is_looked_at_where_all_is_to_be_told_or_bars_may_go(
    layout: Layout, store: Store, read: list[str]
) -> None:
    clean(layout, store)
    for retention, options in ((FOR_GOOD, {"explain": True, "dry_run": True}), (A_WEEK, {"dry_run": True})):
        read.clear()
        report = clean(layout, store, retention, **options)
        assert read.count("manifest") == 2
        assert read.count("records") == 4
        assert len(report.files) == (8 if "explain" in options else 0)


def test_a_dry_run_notes_nothing(layout: Layout, store: Store) -> None:
    clean(layout, store, dry_run=True)
    assert not (layout.state / "kept").exists()


def nothing(layout: Layout) -> None:
    pass


def records_are_lost(layout: Layout) -> None:
    uploads.path_of(layout, EXCHANGE, SYMBOL, DAY).unlink()


def records_say_otherwise(layout: Layout) -> None:
    path = uploads.path_of(layout, EXCHANGE, SYMBOL, DAY)
    path.write_bytes(path.read_bytes().replace(b"parquet/binance", b"parquet/xinance"))


def bars_grow(layout: Layout) -> None:
    with layout.bars(EXCHANGE, SYMBOL, DAY).open("ab") as file:
        file.write(b"x")


def bars_are_lost(layout: Layout) -> None:
    layout.bars(EXCHANGE, SYMBOL, DAY).unlink()


def a_manifest_is_lost(layout: Layout) -> None:
    layout.manifest(layout.bars(EXCHANGE, SYMBOL, NEXT_DAY)).unlink()


def a_day_is_no_longer_final(layout: Layout) -> None:
    path = layout.bars(EXCHANGE, SYMBOL, DAY)
    manifest = read_bars_manifest(layout, path)
    assert manifest is not None
    write_bars_manifest(layout, path, msgspec.structs.replace(manifest, final=False))


def raw_comes_again(layout: Layout) -> None:
    folder = layout.raw_day(EXCHANGE, SYMBOL, DAY)
    folder.mkdir(parents=True)
    (folder / "healed_21_5-6.jsonl.zst").write_bytes(b"x")


def what_it_was_made_of_comes_again(layout: Layout) -> None:
    (record,) = (r for r in deletions.read(layout, EXCHANGE, SYMBOL, DAY).values() if "hour_21" in r.path)
    path = layout.root / record.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")


def what_is_noted_is_damaged(layout: Layout) -> None:
    for path in (layout.state / "kept").rglob("*.json"):
        path.write_bytes(path.read_bytes()[:-3])


def what_is_noted_is_of_another_program(layout: Layout) -> None:
    for path in (layout.state / "kept").rglob("*.json"):
        noted = msgspec.json.decode(path.read_bytes())
        noted["days"] = {day: f"{text.split()[0]} because" for day, text in noted["days"].items()}
        path.write_bytes(msgspec.json.encode(noted))


HARMS = [
    nothing,
    records_are_lost,
    records_say_otherwise,
    bars_grow,
    bars_are_lost,
    a_manifest_is_lost,
    a_day_is_no_longer_final,
    raw_comes_again,
    what_it_was_made_of_comes_again,
    what_is_noted_is_damaged,
    what_is_noted_is_of_another_program,
]


@pytest.mark.parametrize("retention", [FOR_GOOD, A_WEEK], ids=["for good", "a week"])
@pytest.mark.parametrize("harm", HARMS)
def test_what_is_told_is_what_a_look_at_each_file_tells(
    layout: Layout, store: Store, harm: Callable[[Layout], None], retention: Retention
) -> None:
    clean(layout, store)
    assert (layout.state / "kept").exists()
    harm(layout)
    of_each = clean(layout, store, retention, dry_run=True, explain=True)
    assert counts(clean(layout, store, retention, dry_run=True)) == counts(of_each)
    if retention is FOR_GOOD:
        assert clean(layout, store).kept == of_each.kept
        assert counts(clean(layout, store)) == counts(of_each)


def test_a_note_of_another_bucket_is_none(layout: Layout, store: Store, tmp_path: Path) -> None:
    clean(layout, store)
    (tmp_path / "other").mkdir()
    other = open_store(f"file://{tmp_path}/other")
    assert clean(layout, other).kept["not_published"].files == 2
    assert clean(layout, store).kept["kept_for_good"].files == 2


def test_what_changed_just_now_is_not_noted(layout: Layout, store: Store, read: list[str]) -> None:
    uploads.path_of(layout, EXCHANGE, SYMBOL, DAY).touch()
    for _ in range(2):
        read.clear()
        clean(layout, store)
    assert read.count("manifest") == 1


def test_where_it_can_not_be_noted_the_clean_up_goes_well(layout: Layout, store: Store) -> None:
    (layout.state / "kept").write_bytes(b"in the way")
    assert not clean(layout, store).problem
    assert (layout.state / "kept").read_bytes() == b"in the way"


def test_what_stays_in_any_case_is_not_held(
    layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def told(cases: Iterable[Case], *arguments: Any) -> Any:
        known = list(cases)
        held.append(len(known))
        return decide(known, *arguments)

    monkeypatch.setattr(run, "decide", told)
    for retention, now_ns in ((FOR_GOOD, LATER), (A_WEEK, NOW)):
        held.clear()
        assert clean(layout, store, retention, now_ns=now_ns).kept["bars_here"].files == 6
        assert held == [0]
    assert len(clean(layout, store, explain=True, dry_run=True).files) == 8
    assert held == [0, 8]


def test_whether_raw_of_a_day_is_here_is_asked_of_its_folders_first(
    layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day that was made every few minutes is made of more than a thousand parts."""
    path = layout.bars(EXCHANGE, SYMBOL, DAY)
    manifest = read_bars_manifest(layout, path)
    assert manifest is not None
    parts = tuple(
        Input(f"raw/{EXCHANGE}/{SYMBOL}/{DAY}/part_00_{n:04d}.jsonl.zst", 1, "") for n in range(1440)
    )
    write_bars_manifest(layout, path, msgspec.structs.replace(manifest, inputs=parts))
    asked: list[Path] = []
    exists = Path.exists

    def told(path: Path) -> bool:
        if "raw" in path.parts:
            asked.append(path)
        return exists(path)

    monkeypatch.setattr(Path, "exists", told)
    assert clean(layout, store).kept["kept_for_good"].files == 2
    assert 0 < len(asked) < 10
    layout.raw_day(EXCHANGE, SYMBOL, DAY).mkdir(parents=True)
    (layout.root / parts[-1].path).write_bytes(b"x")
    assert clean(layout, store).kept["raw_here"].files == 1
