"""Bars that are published may go here where that is configured, and stay gone: nothing makes half of them anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from crypto_lake.bars.transform import transform
from crypto_lake.lake.layout import Layout
from crypto_lake.model.clock import Hour
from crypto_lake.store import Store, open_store
from crypto_lake.upkeep.cleanup import Retention, cleanup
from crypto_lake.upkeep.cleanup_report import CleanupReport
from crypto_lake.upkeep.names import BarsObject
from crypto_lake.upkeep.publish import publish
from crypto_lake.upkeep.upload import upload
from support.kept_lakes import DAY_NS, HOURS, NEXT_DAY, NOW, bars_files, make_kept_lake, raw_names, settle
from support.lakes import DAY, EXCHANGE, At, market, write_part

WEEK = Retention(DAY_NS, 7 * DAY_NS)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make_kept_lake(tmp_path / "data", symbols=("BTCUSDT",), trades=10)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "bucket").mkdir()
    return open_store(f"file://{tmp_path}/bucket")


def clean(layout: Layout, store: Store, now_ns: int, retention: Retention = WEEK) -> CleanupReport:
    for _ in range(2):
        report = cleanup(layout, store, retention=retention, clock=At(now_ns), explain=True)
    return report


def codes(report: CleanupReport) -> dict[str, str]:
    return {told.path: told.code for told in report.files if told.path.startswith("parquet")}


def test_published_bars_go_when_they_are_old_and_nothing_makes_them_anew(
    layout: Layout, store: Store
) -> None:
    before = bars_files(layout)
    assert not upload(layout, store, clock=At(NOW)).problem
    assert set(codes(clean(layout, store, NOW)).values()) == {"not_published"}
    assert raw_names(layout) == set()
    report: Any = publish(store, layout=layout, clock=At(NOW))
    assert not report.problem
    assert set(codes(clean(layout, store, NOW + 6 * DAY_NS)).values()) == {"too_young"}
    assert set(codes(clean(layout, store, NOW + 99 * DAY_NS, Retention(DAY_NS))).values()) == {
        "kept_for_good"
    }
    assert bars_files(layout) == before
    manifests = {p: p.read_bytes() for p in (layout.root / "manifests/parquet").rglob("*.json")}
    clean(layout, store, NOW + 8 * DAY_NS)
    assert bars_files(layout) == {}
    # All of it is in the bucket, in the same rows.
    for path, data in before.items():
        here = pl.read_parquet(data)
        there = pl.read_parquet(Path(store.url.removeprefix("file://")) / path)
        assert there.equals(here)
    for rebuild in (False, True):
        made = transform(layout, EXCHANGE, clock=At(NOW + 8 * DAY_NS), workers=1, rebuild=rebuild)
        assert not made.failed
        assert made.days == []
    assert bars_files(layout) == {}
    assert {p: p.read_bytes() for p in manifests} == manifests
    # The lake goes on with the days that come.
    later = Hour("2024-08-20", 5)
    write_part(layout, "BTCUSDT", later, 1, market("BTCUSDT", later, 9000, 5))
    settle(layout, later.end_ns + DAY_NS)
    assert [path.split("/")[-2] for path in bars_files(layout)] == ["day=20"]
    assert {p: p.read_bytes() for p in manifests} == manifests


def test_bars_stay_that_the_bucket_does_not_have_now(layout: Layout, store: Store) -> None:
    upload(layout, store, clock=At(NOW))
    assert not publish(store, layout=layout, clock=At(NOW)).problem
    clean(layout, store, NOW)
    (Path(store.url.removeprefix("file://")) / BarsObject(EXCHANGE, "BTCUSDT", DAY).name).unlink()
    bars = layout.bars(EXCHANGE, "BTCUSDT", NEXT_DAY)
    bars.write_bytes(bars.read_bytes()[:-1] + b"\0")
    report = clean(layout, store, NOW + 8 * DAY_NS)
    assert sorted(codes(report).values()) == ["gone_from_bucket", "local_changed"]
    assert len(bars_files(layout)) == 2


def test_bars_of_one_collector_go_when_those_of_all_hold_its_raw(tmp_path: Path, store: Store) -> None:
    """Two collectors see different halves; the published day is neither one's file, and made of both."""
    lakes: list[Layout] = []
    for name, first in (("one", 0), ("two", 1)):
        layout = Layout(tmp_path / name)
        layout.state.mkdir(parents=True)
        (layout.state / "collector").write_text(f"c-{name}\n")
        for hour in HOURS:
            lines = market("BTCUSDT", hour, 1000 + 20 * HOURS.index(hour), 20)
            write_part(layout, "BTCUSDT", hour, hour.hour + 1, lines[: len(lines) // 2 + 4 * first])
        settle(layout)
        lakes.append(layout)
    one, two = lakes
    upload(one, store, clock=At(NOW))
    assert not publish(store, layout=one, clock=At(NOW)).problem
    # What `two` saw is not in it yet: its own bars stay.
    upload(two, store, clock=At(NOW))
    clean(two, store, NOW)
    assert set(codes(clean(two, store, NOW + 30 * DAY_NS)).values()) == {"not_published"}
    assert not publish(store, layout=two, clock=At(NOW)).problem
    assert not publish(store, layout=one, clock=At(NOW)).problem
    for layout in lakes:
        clean(layout, store, NOW + 8 * DAY_NS)
        assert raw_names(layout) == set()
        assert bars_files(layout) == {}
