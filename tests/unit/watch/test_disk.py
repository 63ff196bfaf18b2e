"""Looks at a lake that is old: what is read of each day, and how often all of its files are looked at."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import BarsHour, BarsManifest, Input, write_bars_manifest
from crypto_lake.watch.disk import DiskScanner, Seldom, lake_bytes_of, usage_of
from crypto_lake.watch.heartbeat import HeartbeatWriter


def manifest_of(inputs: int) -> BarsManifest:
    """As a transformation each few minutes leaves it: with each part that it read."""
    names = [f"2024-08-08/part_{n // 60 % 24:02d}_{n:04d}.jsonl.zst" for n in range(inputs)]
    hour = BarsHour("key", "digest", 7, 7, 7, inputs=tuple(names))
    return BarsManifest(
        exchange="binance",
        symbol="BTCUSDT",
        day="2024-08-08",
        path="parquet/x",
        schema=1,
        program="1",
        bytes=4,
        sha256="0" * 64,
        rows=86400,
        trades=1,
        first_trade_id=1,
        last_trade_id=1,
        final=True,
        inputs=tuple(Input(name, 1, "0" * 64) for name in names),
        hours={1: hour},
    )


def test_of_a_manifest_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    bars = layout.bars("binance", "BTCUSDT", "2024-08-08")
    bars.parent.mkdir(parents=True)
    bars.write_bytes(b"bars")
    write_bars_manifest(layout, bars, manifest_of(1440))
    assert layout.manifest(bars).stat().st_size > 200_000
    read: list[int] = []

    class Told(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            read.append(len(data))
            return data

    data = layout.manifest(bars).read_bytes()
    monkeypatch.setattr(Path, "open", lambda *_: Told(data))
    monkeypatch.setattr(Path, "read_bytes", lambda _: Told(data).read())
    assert DiskScanner(layout).scan().parquet_rows == 86400
    assert 0 < sum(read) < 5000


@pytest.mark.parametrize("indent", [0, 1, 2])
def test_a_manifest_of_another_shape_tells_its_rows_all_the_same(tmp_path: Path, indent: int) -> None:
    layout = Layout(tmp_path)
    bars = layout.bars("binance", "BTCUSDT", "2024-08-08")
    for path in (bars, layout.manifest(bars)):
        path.parent.mkdir(parents=True)
    bars.write_bytes(b"bars")
    told = {"hours": {"1": {"rows": 7}}, "inputs": ["x" * 3000], "rows": 8}
    data = msgspec.json.encode(told)
    layout.manifest(bars).write_bytes(msgspec.json.format(data, indent=indent) if indent else data)
    assert DiskScanner(layout).scan().parquet_rows == 8


@pytest.mark.parametrize("digits_read", range(8))
def test_a_number_is_told_whole_wherever_the_beginning_ends(tmp_path: Path, digits_read: int) -> None:
    layout = Layout(tmp_path)
    bars = layout.bars("binance", "BTCUSDT", "2024-08-08")
    for path in (bars, layout.manifest(bars)):
        path.parent.mkdir(parents=True)
    bars.write_bytes(b"bars")
    before, behind = b'{\n "path": "', b'",\n "rows": '
    path = b"x" * (2048 - len(before) - len(behind) - digits_read)
    layout.manifest(bars).write_bytes(before + path + behind + b"654321,\n" + b' "trades": 1\n}\n')
    assert DiskScanner(layout).scan().parquet_rows == 654321


def test_a_look_that_takes_long_is_made_seldom() -> None:
    now, looks = [1000.0], [0]

    def look() -> int:
        looks[0] += 1
        now[0] += cost
        return looks[0]

    cost = 0.9
    seldom = Seldom(look, lambda: now[0])
    assert [seldom(), seldom()] == [1, 2], "a short one is made each time"
    cost = 5.0
    spent, began = 0.0, now[0]
    for _ in range(1000):
        before = now[0]
        seldom()
        spent += now[0] - before
        now[0] += 10.0
    assert 0 < spent / (now[0] - began) < 1 / 30 + 0.001
    cost = 0.1
    now[0] += 200.0
    assert seldom() + 1 == seldom(), "it has become short again"


def test_what_is_told_of_a_slow_disk_is_not_older_than_ten_minutes() -> None:
    now, looked = [0.0], list[float]()

    def look() -> None:
        looked.append(now[0])
        now[0] += 90.0

    seldom = Seldom(look, lambda: now[0])
    while now[0] < 5000.0:
        seldom()
        now[0] += 10.0
    assert len(looked) > 5
    assert all(later - before <= 610.0 for before, later in pairwise(looked))


def test_between_two_looks_the_disk_is_told_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "data")
    layout.root.mkdir()
    (layout.root / "file").write_bytes(b"x" * 1000)
    clock = iter([0.0, 5.0, 20.0])  # a look of five seconds, and one asked for soon after
    seldom = Seldom(lambda: lake_bytes_of(layout.root), lambda: next(clock))
    assert usage_of(layout.root, 0, seldom).lake_bytes == 0, "nobody asked"
    assert usage_of(layout.root, 4000, seldom).used_percent >= 25.0
    (layout.root / "file").write_bytes(b"x" * 2000)
    told = usage_of(layout.root, 2000, seldom)
    assert (told.lake_bytes, told.limit_bytes) == (1000, 2000)
    assert told.used_percent >= 50.0
    assert told.total_bytes > told.free_bytes > 0


def test_a_heartbeat_has_the_limit_of_now(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "data")
    layout.root.mkdir()
    (layout.root / "file").write_bytes(b"x" * 1000)
    writer = HeartbeatWriter(layout)
    assert writer.beat(limit_bytes=0).disk.limit_bytes == 0
    disk = writer.beat(limit_bytes=1000).disk
    assert disk.limit_bytes == 1000
    assert disk.used_percent >= 100.0
    assert disk.total_bytes > 0
