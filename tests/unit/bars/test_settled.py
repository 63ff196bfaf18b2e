"""Days that a transformation passes over: it does what it does where it looks at all of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crypto_lake.bars import hours, table
from crypto_lake.bars import symbol as rim
from crypto_lake.bars.transform import transform
from crypto_lake.lake import deletions
from crypto_lake.lake.deletions import DeletionRecord
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import read_bars_manifest
from crypto_lake.model.clock import Hour
from support.lakes import EXCHANGE, At, market, write_part

SYMBOL = "BTCUSDT"
DAY_NS = 86400 * 10**9
DAYS = [f"2024-08-{n:02d}" for n in range(1, 9)]
NOON_NS = Hour(DAYS[0], 12).start_ns
NOW = Hour(DAYS[-1], 23).end_ns + 3 * DAY_NS
TRADES = 3  # a day


def add(layout: Layout, hour: Hour, first_id: int, trades: int = TRADES, number: int = 9) -> Path:
    """Trades within a second, so that there are few rows: before and after them ids are missing."""
    return write_part(layout, SYMBOL, hour, number, market(SYMBOL, hour, first_id, trades, end=0.0003))


def add_day(layout: Layout, at: int) -> None:
    add(layout, Hour.of_ns(NOON_NS + at * DAY_NS), 1000 + 10 * at)


def make(layout: Layout, *, rebuild: bool = False) -> Any:
    report = transform(layout, EXCHANGE, clock=At(NOW), workers=1, rebuild=rebuild)
    assert not report.failed
    return report


def grow_old(layout: Layout) -> None:
    for folder in ("parquet", "manifests", "state/deletions"):
        for path in (layout.root / folder).rglob("*.*"):
            os.utime(path, ns=(1, 1))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = Layout(tmp_path_factory.mktemp("settled"))
    for at in range(len(DAYS)):
        add_day(layout, at)
    make(layout)
    for day in DAYS[:-1]:
        shutil.rmtree(layout.raw_day(EXCHANGE, SYMBOL, day))
    make(layout)  # which finds that their raw has gone
    grow_old(layout)
    make(layout)
    assert (layout.state / "bars" / EXCHANGE / SYMBOL / "settled.json").exists()
    return layout.root


@pytest.fixture
def layout(template: Path, tmp_path: Path) -> Layout:
    """A copy is other files; they are looked at once."""
    shutil.copytree(template, tmp_path / "data")
    made = Layout(tmp_path / "data")
    make(made)
    return made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Days whose manifests are read."""
    found: list[str] = []

    def told(layout: Layout, path: Path) -> Any:
        found.append("-".join(part.partition("=")[2] for part in path.parts[-4:-1]))
        return read_bars_manifest(layout, path)

    monkeypatch.setattr(rim, "read_bars_manifest", told)
    return found


def test_of_days_that_can_not_change_nothing_is_read(layout: Layout, read: list[str]) -> None:
    assert make(layout).days == []
    assert read == DAYS[-3:]
    read.clear()
    # A day more: what it needs is read, and then one more is settled.
    add(layout, Hour.of_ns(NOON_NS + len(DAYS) * DAY_NS), 2000)
    shutil.rmtree(layout.raw_day(EXCHANGE, SYMBOL, DAYS[-1]))
    assert [day.day for day in make(layout).days] == ["2024-08-08", "2024-08-09"]
    assert read == DAYS[-3:]
    grow_old(layout)
    make(layout)
    read.clear()
    make(layout)
    assert read == [*DAYS[-2:], "2024-08-09"]


def manifest_of(layout: Layout, at: int) -> Path:
    return layout.manifest(layout.bars(EXCHANGE, SYMBOL, DAYS[at]))


def nothing(layout: Layout) -> None:
    pass


def trades_come_late(layout: Layout) -> None:
    add(layout, Hour.of_ns(NOON_NS + DAY_NS), 1012, 1)


def trades_of_an_old_hour_come_in_a_new_part(layout: Layout) -> None:
    lines = market(SYMBOL, Hour.of_ns(NOON_NS + 2 * DAY_NS), 1021, 4, end=0.0003)
    write_part(layout, SYMBOL, Hour(DAYS[-1], 20), 99, lines)


def the_trade_that_follows_is_another(layout: Layout) -> None:
    add(layout, Hour.of_ns(NOON_NS + 5 * DAY_NS - 3600 * 10**9), 1045, 2)


def raw_comes_right_behind(layout: Layout) -> None:
    add(layout, Hour(DAYS[5], 0), 1046, 1)


def a_day_before_all_comes(layout: Layout) -> None:
    add_day(layout, -2)


def a_manifest_is_lost(layout: Layout) -> None:
    manifest_of(layout, 2).unlink()


def a_manifest_is_damaged(layout: Layout) -> None:
    manifest_of(layout, 2).write_bytes(b"{")


def bars_are_cut(layout: Layout) -> None:
    path = layout.bars(EXCHANGE, SYMBOL, DAYS[1])
    path.write_bytes(path.read_bytes()[:-9])


def bars_are_lost(layout: Layout) -> None:
    layout.bars(EXCHANGE, SYMBOL, DAYS[1]).unlink()


def bars_are_deleted(layout: Layout) -> None:
    for day in DAYS[:2]:
        path = layout.bars(EXCHANGE, SYMBOL, day)
        record = DeletionRecord(str(path.relative_to(layout.root)), path.stat().st_size, "", "expired", NOW)
        deletions.append(layout, EXCHANGE, SYMBOL, day, [record])
        path.unlink()


def all_bars_of_late_are_lost(layout: Layout) -> None:
    shutil.rmtree(layout.raw_day(EXCHANGE, SYMBOL, DAYS[-1]))
    for day in DAYS[-3:]:
        layout.bars(EXCHANGE, SYMBOL, day).unlink()


def what_is_kept_is_damaged(layout: Layout) -> None:
    (layout.state / "bars" / EXCHANGE / SYMBOL / "settled.json").write_bytes(b"{}")


HARMS = [
    nothing,
    trades_come_late,
    trades_of_an_old_hour_come_in_a_new_part,
    the_trade_that_follows_is_another,
    raw_comes_right_behind,
    a_day_before_all_comes,
    a_manifest_is_lost,
    a_manifest_is_damaged,
    bars_are_cut,
    bars_are_lost,
    bars_are_deleted,
    all_bars_of_late_are_lost,
    what_is_kept_is_damaged,
]


def outcome(layout: Layout) -> tuple[Any, Any, dict[str, bytes]]:
    report = make(layout)
    files = {
        str(path.relative_to(layout.root)): path.read_bytes()
        for folder in ("parquet", "manifests")
        for path in sorted((layout.root / folder).rglob("*.*"))
        if path.is_file()
    }
    return report.days, report.lag_seconds, files


@pytest.mark.parametrize("harm", HARMS)
def test_the_outcome_is_that_of_a_run_that_looks_at_all_days(
    layout: Layout, tmp_path: Path, read: list[str], harm: Callable[[Layout], None]
) -> None:
    make(layout)
    assert DAYS[0] not in read
    harm(layout)
    other = Layout(tmp_path / "other")
    shutil.copytree(layout.root, other.root)
    (other.state / "bars" / EXCHANGE / SYMBOL / "settled.json").unlink()
    read.clear()
    found = outcome(layout)
    assert (DAYS[0] in read) == (harm is not nothing)
    assert found == outcome(other)
    grow_old(layout)
    grow_old(other)
    assert outcome(layout) == outcome(other)
    assert outcome(layout)[0] == []


def test_by_other_rules_of_a_bar_they_are_looked_at(
    layout: Layout, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(layout)
    assert DAYS[0] not in read
    monkeypatch.setattr(hours, "KEY_VERSION", hours.KEY_VERSION + 1)
    make(layout)
    assert DAYS[0] in read


def test_a_run_of_one_day_looks_at_it_where_raw_of_it_came(layout: Layout, read: list[str]) -> None:
    trades_come_late(layout)
    report = transform(layout, EXCHANGE, clock=At(NOW), workers=1, days=[DAYS[0]])
    assert (report.days, report.failed) == ([], {})
    report = transform(layout, EXCHANGE, clock=At(NOW), workers=1, days=[DAYS[1]])
    assert [(day.day, day.trades) for day in report.days] == [(DAYS[1], TRADES)]
    assert report.days[0].hours_kept_without_raw == 1


def write_otherwise(layout: Layout, at: int) -> None:
    """The same rows in another file."""
    path = layout.bars(EXCHANGE, SYMBOL, DAYS[at])
    read = table.read(path, trusted=True)
    assert read is not None
    table.write(path, read[0], {})


def test_what_a_day_was_made_of_outlives_its_raw_and_a_file_that_is_another(layout: Layout) -> None:
    path = layout.bars(EXCHANGE, SYMBOL, DAYS[5])
    before, data = read_bars_manifest(layout, path), path.read_bytes()
    assert before is not None
    assert before.inputs
    write_otherwise(layout, 5)
    assert path.read_bytes() != data
    assert [day.day for day in make(layout).days] == [DAYS[5]]
    assert path.read_bytes() == data
    assert read_bars_manifest(layout, path) == before


def test_a_rebuild_passes_over_none(layout: Layout, read: list[str]) -> None:
    make(layout, rebuild=True)
    assert read == DAYS
