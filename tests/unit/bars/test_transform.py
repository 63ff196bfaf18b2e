"""The transformer over small lakes on a real disk: what is read, made, kept and put aside."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import msgspec
import polars as pl
import pytest

from crypto_lake.bars.rows import BAR_SCHEMA
from crypto_lake.bars.transform import transform
from crypto_lake.lake import locks
from crypto_lake.lake.control import Alive, Disconnected, Subscribed
from crypto_lake.lake.frames import FrameCompressor
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.manifests import read_bars_manifest, sha256_of
from crypto_lake.model.clock import Hour
from crypto_lake.upkeep.seal import compact


def _load(name: str):
    full = f"bars_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


lake = _load("lake")
BASE = 1_723_200_000  # 2024-08-09 10:40:00
NS = 10**9


class At:
    """A clock that stands."""

    speed = 0.0

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def now_ns(self) -> int:
        return self.seconds * NS

    def observe(self, exchange_ns: int) -> None:
        pass


def trade(id_: int, second: float, price: int = 100, connection: str = "c-1") -> bytes:
    us = int((BASE + second) * 10**6)
    return lake.trade_line(id_, us, price * 10**8, 10**8, False, us * 1000 + 5_000_000, connection)


def part(layout: Layout, number: int, lines: list[bytes], second: int = 0) -> Path:
    return lake.write_part(layout, Hour.of_ns((BASE + second) * NS), number, lines)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def states(layout: Layout) -> dict[int, str]:
    return {second - BASE: row["state"] for second, row in lake.rows_of(layout).items()}


def test_an_empty_second_is_a_bar_and_a_hole_is_none(layout: Layout) -> None:
    part(layout, 1, [trade(1, 0), trade(2, 3, 101), trade(5, 6, 102), trade(6, 7, 103)])
    report = transform(layout, "binance")
    rows = lake.rows_of(layout)
    assert states(layout) == {
        0: "incomplete",
        1: "complete",
        2: "complete",
        3: "incomplete",
        6: "incomplete",
        7: "incomplete",
    }
    empty = rows[BASE + 2]
    assert {empty[k] for k in ("open", "high", "low", "close")} == {100 * 10**8}
    assert (empty["trade_count"], empty["volume_base"], empty["first_trade_id"]) == (0, 0, None)
    assert (report.holes, report.missing_ids) == (1, 2)


def test_a_healed_file_fills_the_hole(layout: Layout) -> None:
    part(layout, 1, [trade(1, 0), trade(2, 1), trade(4, 5), trade(5, 6)])
    transform(layout, "binance")
    hour = Hour.of_ns(BASE * NS)
    line = lake.rest_line(3, (BASE + 3) * 10**6, 7 * 10**8, 10**8, True, (BASE + 9000) * NS)
    path = layout.raw_day("binance", lake.SYMBOL, hour.day) / f"healed_{hour.hour:02d}_3-3.jsonl.zst"
    path.write_bytes(FrameCompressor().frame(line))
    report = transform(layout, "binance")
    assert report.hours_made == 1
    assert states(layout) == {
        0: "incomplete",
        1: "complete",
        2: "complete",
        3: "healed",
        4: "complete",
        5: "complete",
        6: "incomplete",
    }


def test_what_is_unreadable_costs_only_itself_and_is_put_aside_once(layout: Layout) -> None:
    whole = [trade(n, n) for n in range(1, 9)]
    bad = [
        b'{"received_ns":1,"connection":"c","message":{"stream":"btcusdt@trade","data":{"e":"tra\n',
        b"\x00\x00\x00\n",
        b"\xff\xfe\n",
        whole[3].replace(b'"p":"100.00000000"', b'"p":"100.000000001"').replace(b'"t":4', b'"t":99'),
        whole[3].replace(b'"s":"BTCUSDT"', b'"s":"ETHUSDT"'),
        whole[3].replace(b'"q":"1.00000000"', b'"q":"1' + b"0" * 40 + b'.00000000"'),
        whole[3].replace(b'"t":4,', b'"t":40000000000000000000,'),
    ]
    mixed = [whole[0], bad[0], whole[1], bad[1], whole[2], bad[2], *bad[3:], whole[3], *whole[4:]]
    path = part(layout, 1, mixed)
    with path.open("ab") as file:
        file.write(b"\x00" * 100)
    (path.parent / "part_10_0002.jsonl.zst").write_bytes(b"")
    report = transform(layout, "binance")
    assert not report.failed
    assert report.unreadable == len(bad) + 1
    assert list(states(layout)) == list(range(1, 9))
    assert sum(row["trade_count"] for row in lake.rows_of(layout).values()) == 8
    index = (layout.quarantine / "index.jsonl").read_text().splitlines()
    kept = b"".join(p.read_bytes() for p in layout.quarantine.glob("*.unreadable"))
    assert all(line.strip() in kept for line in bad)
    part(layout, 3, [trade(9, 9)])
    again = transform(layout, "binance", rebuild=True)
    assert again.unreadable == 0
    assert (layout.quarantine / "index.jsonl").read_text().splitlines() == index
    assert lake.rows_of(layout)[BASE + 9]["trade_count"] == 1


def test_a_frame_that_is_damaged_costs_its_lines_only(layout: Layout) -> None:
    path = lake.write_part(layout, Hour.of_ns(BASE * NS), 1, [trade(n, n) for n in range(1, 5)], frames=4)
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 8] ^= 0xFF
    path.write_bytes(data)
    report = transform(layout, "binance")
    assert report.unreadable == 1
    assert sum(row["trade_count"] for row in lake.rows_of(layout).values()) == 3


def test_another_shape_of_the_line_reads_the_same(layout: Layout, tmp_path: Path) -> None:
    lines = [trade(n, n / 3, 100 + n) for n in range(1, 20)]
    part(layout, 1, lines)
    transform(layout, "binance")
    other = Layout(tmp_path / "other")
    part(
        other,
        1,
        [
            msgspec.json.format(line.strip(), indent=-1).replace(b":", b": ") + b"\n" if n % 2 else line
            for n, line in enumerate(lines)
        ],
    )
    transform(other, "binance")
    assert lake.bars_files(layout) == lake.bars_files(other)


def test_copies_are_counted_once_and_conflicts_told(layout: Layout) -> None:
    part(layout, 1, [trade(1, 0), trade(2, 1), trade(2, 1), trade(3, 2), trade(3, 2, 999)])
    report = transform(layout, "binance")
    assert (report.duplicates, report.conflicts) == (2, 1)
    assert lake.rows_of(layout)[BASE + 2]["close"] == 100 * 10**8


def test_only_what_changed_is_made_again(layout: Layout) -> None:
    part(layout, 1, [trade(1, 0), trade(2, 1)])
    part(layout, 1 + 1, [trade(3, 3600), trade(4, 3601)], 3600)
    part(layout, 3, [trade(5, 7200), trade(6, 7201)], 7200)
    assert transform(layout, "binance").hours_made == 3
    nothing = transform(layout, "binance")
    assert (nothing.hours_made, nothing.files_read) == (0, 0)
    part(layout, 4, [trade(7, 7202)], 7200)
    assert transform(layout, "binance").hours_made == 1


def test_a_late_trade_finds_its_hour(layout: Layout) -> None:
    part(layout, 1, [trade(1, 0), trade(3, 4)])
    transform(layout, "binance")
    part(layout, 2, [trade(2, 2), trade(4, 3 * 3600)], 3 * 3600)
    transform(layout, "binance")
    assert lake.rows_of(layout)[BASE + 2]["trade_count"] == 1
    assert states(layout)[4] == "complete"


def test_seconds_after_the_last_trade_reach_as_far_as_a_live_connection(layout: Layout) -> None:
    part(layout, 1, [trade(1, 0), trade(2, 1)])
    stream = ("btcusdt@trade",)

    def at(second: float, connection: str, event) -> tuple[int, str, object]:
        return int((BASE + second) * NS), connection, event

    lake.write_control(
        layout,
        [
            at(-5, "c-1", Subscribed(stream)),
            at(5, "c-1", Alive((BASE + 5) * 10**6, 1)),
            at(9, "c-2", Subscribed(stream)),
            at(10, "c-1", Disconnected("closed", "", (BASE + 10) * 10**6, 15.0, 2)),
            at(14, "c-2", Alive((BASE + 14) * 10**6, 1)),
            # After a break: it may not add anything.
            at(20, "c-2", Disconnected("closed", "", (BASE + 16) * 10**6, 11.0, 2)),
            at(30, "c-3", Subscribed(stream)),
            at(40, "c-3", Alive((BASE + 40) * 10**6, 1)),
        ],
    )
    transform(layout, "binance")
    assert states(layout) == {0: "incomplete"} | dict.fromkeys(range(1, 14), "incomplete")
    # The next trade shows that nothing happened: the same seconds, complete.
    part(layout, 2, [trade(3, 45)])
    transform(layout, "binance")
    assert states(layout) == {0: "incomplete", 45: "incomplete"} | dict.fromkeys(range(1, 45), "complete")


def test_rows_whose_raw_has_gone_are_kept(layout: Layout) -> None:
    first = part(layout, 1, [trade(1, 0), trade(2, 1)])
    second = part(layout, 2, [trade(3, 2)])
    part(layout, 3, [trade(4, 3600)], 3600)
    transform(layout, "binance")
    before = lake.bars_files(layout)
    first.unlink()
    for rebuild in (False, True):
        report = transform(layout, "binance", rebuild=rebuild)
        assert not report.failed
        assert lake.bars_files(layout) == before
    second.unlink()
    transform(layout, "binance")
    assert lake.bars_files(layout) == before


def test_a_damaged_or_lost_file_of_bars_is_made_again(layout: Layout) -> None:
    part(layout, 1, [trade(n, n) for n in range(1, 9)])
    transform(layout, "binance")
    (path,) = (layout.root / "parquet").rglob("*.parquet")
    right = path.read_bytes()
    path.write_bytes(right[:-50])
    transform(layout, "binance")
    assert path.read_bytes() == right
    path.unlink()
    transform(layout, "binance")
    assert path.read_bytes() == right
    layout.manifest(path).unlink()
    transform(layout, "binance")
    assert path.read_bytes() == right


def test_the_manifest_says_what_the_file_is_and_came_from(layout: Layout) -> None:
    raw = part(layout, 1, [trade(n, n) for n in range(1, 9)])
    transform(layout, "binance", clock=At(BASE + 60))
    (path,) = (layout.root / "parquet").rglob("*.parquet")
    manifest = read_bars_manifest(layout, path)
    assert manifest is not None
    assert (manifest.sha256, manifest.bytes) == (sha256_of(path), path.stat().st_size)
    assert (manifest.rows, manifest.trades, manifest.first_trade_id, manifest.last_trade_id) == (8, 8, 1, 8)
    (source,) = manifest.inputs
    assert (source.path, source.sha256) == (str(raw.relative_to(layout.root)), sha256_of(raw))
    assert pl.read_parquet_schema(path) == dict(BAR_SCHEMA)
    metadata = pl.read_parquet_metadata(path)
    assert json.loads(metadata["crypto_lake.hours"]) == {
        str(hour): record.digest for hour, record in manifest.hours.items()
    }


def test_a_day_is_final_when_it_ended_without_a_hole_or_after_two_days(layout: Layout) -> None:
    day_end = BASE - BASE % 86400 + 86400

    def final(at: int) -> bool:
        transform(layout, "binance", clock=At(at))
        (path,) = (layout.root / "parquet").rglob("day=09/*.parquet")
        manifest = read_bars_manifest(layout, path)
        assert manifest is not None
        return manifest.final

    part(layout, 1, [trade(1, 0), trade(3, 4)])
    part(layout, 2, [trade(4, 86400)], 86400)
    assert not final(day_end - 1)
    assert not final(day_end + 3600)  # an id is missing
    assert final(day_end + 48 * 3600)
    part(layout, 3, [trade(2, 2)])
    assert final(day_end + 3600)


def test_a_day_is_not_final_while_the_hole_at_its_end_is_open(layout: Layout) -> None:
    day_end = BASE - BASE % 86400 + 86400
    to_midnight = day_end - BASE

    def final() -> bool:
        transform(layout, "binance", clock=At(day_end + 3600))
        manifest = read_bars_manifest(layout, layout.bars("binance", "BTCUSDT", "2024-08-09"))
        assert manifest is not None
        return manifest.final

    part(layout, 1, [trade(1, 0), trade(2, to_midnight - 600)], to_midnight - 600)
    part(layout, 2, [trade(5, to_midnight + 600), trade(6, to_midnight + 601)], to_midnight + 600)
    assert not final()
    part(layout, 3, [trade(4, to_midnight + 5)], to_midnight + 5)
    assert not final()
    part(layout, 4, [trade(3, to_midnight - 5)], to_midnight - 5)
    assert final()


def test_a_day_is_final_by_what_the_hour_behind_it_is_now_and_not_by_what_it_was(layout: Layout) -> None:
    """The lake begins after midnight; then the day before is brought, all but its last trade."""
    day_end = BASE - BASE % 86400 + 86400
    to_midnight = day_end - BASE

    def run() -> bool | None:
        transform(layout, "binance", clock=At(day_end + 3 * 3600), workers=1)
        manifest = read_bars_manifest(layout, layout.bars("binance", "BTCUSDT", "2024-08-09"))
        return manifest.final if manifest is not None else None

    part(layout, 1, [trade(9, to_midnight + 60), trade(10, to_midnight + 61)], to_midnight + 60)
    assert run() is None
    part(layout, 2, [trade(6, to_midnight - 60), trade(7, to_midnight - 1)], to_midnight - 60)
    assert run() is False
    part(layout, 3, [trade(8, to_midnight - 0.5)], to_midnight - 1)
    assert run() is True


def test_a_hole_of_the_next_day_alone_does_not_keep_a_day_open(layout: Layout) -> None:
    day_end = BASE - BASE % 86400 + 86400
    to_midnight = day_end - BASE
    part(layout, 1, [trade(1, 0), trade(2, to_midnight - 600)], to_midnight - 600)
    part(layout, 2, [trade(3, to_midnight + 600), trade(6, to_midnight + 601)], to_midnight + 600)
    transform(layout, "binance", clock=At(day_end + 3600))
    manifest = read_bars_manifest(layout, layout.bars("binance", "BTCUSDT", "2024-08-09"))
    assert manifest is not None
    assert manifest.final


def test_one_symbol_that_fails_does_not_stop_the_others(layout: Layout) -> None:
    part(layout, 1, [trade(1, 0)])
    line = trade(1, 0).replace(b"BTCUSDT", b"ETHUSDT").replace(b"btcusdt", b"ethusdt")
    lake.write_part(layout, Hour.of_ns(BASE * NS), 1, [line], symbol="ETHUSDT")
    blocked = layout.root / "parquet" / "binance" / "BTCUSDT"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder should be")
    report = transform(layout, "binance")
    assert list(report.failed) == ["BTCUSDT"]
    assert lake.rows_of(layout, "ETHUSDT")[BASE]["trade_count"] == 1


def test_a_part_left_open_by_a_crash_is_closed_first_unless_a_collector_runs(layout: Layout) -> None:
    path = part(layout, 1, [trade(1, 0), trade(2, 1)])
    path.rename(path.with_name(path.name + ".open"))
    with locks.hold(layout.locks, "capture"):
        assert transform(layout, "binance").salvaged_parts == 0
        assert lake.rows_of(layout) == {}
    assert transform(layout, "binance").salvaged_parts == 1
    assert len(lake.rows_of(layout)) == 2


def test_a_second_run_at_once_is_refused(layout: Layout) -> None:
    with locks.hold(layout.locks, "transform"), pytest.raises(locks.LockHeldError, match="transform"):
        transform(layout, "binance")


# Sealed hours

SEALED_AT = 3 * 3600


def bar_bytes(layout: Layout) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (layout.root / "parquet").rglob("*.parquet")}


def sealable(layout: Layout) -> None:
    """Two hours, with a trade of the first received in the second, and a hole."""
    part(layout, 1, [trade(1, 0), trade(2, 1)])
    part(layout, 2, [trade(4, 900, 101)])
    late = trade(5, 1199.9, 102).replace(b'"c-1"', b'"c-2"')
    part(layout, 3, [late, trade(6, 1201, 103)], 1200)
    part(layout, 4, [trade(7, 2000, 104)], 1200)


def test_sealing_makes_no_bar_anew_and_reads_nothing_again(layout: Layout) -> None:
    sealable(layout)
    assert transform(layout, "binance", clock=At(BASE + SEALED_AT)).files_read == 4
    before = bar_bytes(layout)
    assert [hour.parts for hour in compact(layout, clock=At(BASE + SEALED_AT)).sealed] == [2, 2]
    assert not list((layout.root / "raw").rglob("part_*"))
    for _ in range(2):
        report = transform(layout, "binance", clock=At(BASE + SEALED_AT))
        assert (report.hours_made, report.files_read) == (0, 0)
    assert bar_bytes(layout) == before
    report = transform(layout, "binance", clock=At(BASE + SEALED_AT), rebuild=True)
    assert (report.hours_made, report.files_read) == (2, 2)
    assert bar_bytes(layout) == before


def test_raw_that_was_sealed_unread_gives_the_same_bars(layout: Layout, tmp_path: Path) -> None:
    other = Layout(tmp_path / "other")
    for at in (layout, other):
        sealable(at)
    transform(layout, "binance", clock=At(BASE + SEALED_AT))
    compact(other, clock=At(BASE + SEALED_AT))
    transform(other, "binance", clock=At(BASE + SEALED_AT))
    assert list(bar_bytes(layout).values()) == list(bar_bytes(other).values())


def test_a_lost_index_reads_sealed_hours_again_to_the_same_bars(layout: Layout) -> None:
    sealable(layout)
    transform(layout, "binance", clock=At(BASE + SEALED_AT))
    before = bar_bytes(layout)
    compact(layout, clock=At(BASE + SEALED_AT))
    shutil.rmtree(layout.state / "bars")
    report = transform(layout, "binance", clock=At(BASE + SEALED_AT))
    assert (report.files_read, report.hours_made) == (2, 2)
    assert bar_bytes(layout) == before


def test_a_late_part_of_a_sealed_hour_makes_its_hour_anew(layout: Layout) -> None:
    sealable(layout)
    transform(layout, "binance", clock=At(BASE + SEALED_AT))
    compact(layout, clock=At(BASE + SEALED_AT))
    part(layout, 5, [trade(3, 2)])
    report = transform(layout, "binance", clock=At(BASE + SEALED_AT))
    assert (report.trades, report.holes, report.files_read) == (7, 0, 3)
    before = bar_bytes(layout)
    compact(layout, clock=At(BASE + SEALED_AT))
    assert transform(layout, "binance", clock=At(BASE + SEALED_AT)).files_read == 0
    assert bar_bytes(layout) == before


def test_a_damaged_day_is_made_anew_whatever_it_does_to_who_reads_it(layout: Layout) -> None:
    sealable(layout)
    transform(layout, "binance")
    before = bar_bytes(layout)
    path = next(Path(name) for name in before)
    for at in range(4, len(before[str(path)]), 997):
        damaged = bytearray(before[str(path)])
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        part(layout, 10 + at, [trade(7, 2000, 104, f"c-{at}")], 1200)  # a copy: the day is looked at again
        assert not transform(layout, "binance").failed
        assert bar_bytes(layout) == before


def test_raw_that_was_damaged_where_it_lies_takes_no_bar_away(layout: Layout) -> None:
    sealable(layout)
    transform(layout, "binance")
    before = bar_bytes(layout)
    path = layout.part("binance", lake.SYMBOL, Hour.of_ns(BASE * NS), 1)
    path.write_bytes(path.read_bytes()[:-9] + b"damaged")
    report = transform(layout, "binance")
    assert [day.hours_kept_without_raw for day in report.days] == [1]
    assert report.unreadable == 1
    assert bar_bytes(layout) == before
    assert transform(layout, "binance").hours_made == 0
