"""The status, the heartbeat and what is read for them."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import START_NS, connection, snapshot, snapshots, stream, symbol, writer

from crypto_lake.capture.snapshot import CollectorSnapshot, Configuration
from crypto_lake.cli.progress import Rate, live_line
from crypto_lake.cli.status import text
from crypto_lake.lake import locks
from crypto_lake.lake.layout import Layout
from crypto_lake.lake.tasks import TaskReport
from crypto_lake.watch.alerts import AlertsState
from crypto_lake.watch.alerts_file import alerts_path
from crypto_lake.watch.conditions import Alert, ConditionState, Tracked
from crypto_lake.watch.disk import NOTHING, DiskScanner
from crypto_lake.watch.heartbeat import HeartbeatWriter, heartbeat
from crypto_lake.watch.page import markdown
from crypto_lake.watch.read import observe, read_transform, transform_path, write_snapshot
from crypto_lake.watch.status import AlertStatus, Limits, Observation, judge, judge_running

ROOMY = msgspec.structs.replace(NOTHING, total_bytes=100, free_bytes=50)


def seen(taken: CollectorSnapshot | None = None, **changes: Any) -> Observation:
    values: dict[str, Any] = {
        "taken_at": "2024-08-09T00:00:00Z",
        "data": "data",
        "locked": True,
        "snapshot": taken,
        "snapshot_age_seconds": 1.0,
        "transform": None,
        "transform_age_seconds": None,
        "disk": ROOMY,
    }
    return Observation(**values | changes)


def codes(observation: Observation, limits: Limits = Limits()) -> tuple[str, list[str]]:  # noqa: B008
    status = judge(observation, limits)
    return status.health, [reason.code for reason in status.reasons]


def test_a_well_lake_is_ok() -> None:
    assert codes(seen(snapshot())) == ("ok", [])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbols": [symbol("BTCUSDT", holes_open=2, ids_missing=7)]}, "gaps"),
        ({"connections": [connection(state="subscribing")]}, "not_subscribed"),
        ({"connections": [connection(streams=3)]}, "not_subscribed"),
        ({"connections": []}, "not_subscribed"),
        ({"streams": [], "connections": []}, "not_subscribed"),
        ({"clock_offset_us": -1_500_000}, "clock_offset"),
        ({"writer": writer(write_errors=1, trouble="write_error", trouble_since_ns=START_NS)}, "write_errors"),
        ({"configuration": Configuration("", "needs a restart: collector.port")}, "configuration"),
        ({"writer": writer(queue_bytes=900)}, "queue"),
        ({"writer": writer(last_fsync_ns=START_NS - 5_000_000_000), "streams": [stream("BTCUSDT", "trade", last_received_ns=START_NS + 11_000_000_000)], "connections": [connection(1)]}, "not_writing"),
    ],
)  # fmt: skip
def test_each_reason_degrades(changes: dict[str, Any], code: str) -> None:
    assert codes(seen(snapshot(**changes))) == ("degraded", [code])


def test_a_full_disk_has_a_code_of_its_own_beside() -> None:
    full = writer(write_errors=1, trouble="disk_full", trouble_since_ns=START_NS)
    assert codes(seen(snapshot(writer=full))) == ("degraded", ["write_errors", "disk_full"])


def test_who_is_meant_to_be_idle_is_well() -> None:
    idle = {"streams": [], "symbols": [], "connections": []}
    assert codes(seen(snapshot(**idle, idle=True))) == ("ok", [])
    assert codes(seen(snapshot(**idle))) == ("degraded", ["not_subscribed"])


def test_streams_that_say_whether_they_are_live_are_believed() -> None:
    """A connection that takes up one more stream carries the others meanwhile."""
    streams = [stream("BTCUSDT", "trade", live=True), stream("BTCUSDT", "bookTicker", live=True)]
    joining = snapshot(streams=streams, connections=[connection(2, "subscribing")])
    assert codes(seen(joining)) == ("ok", [])
    one_dead = snapshot(streams=[streams[0], stream("BTCUSDT", "bookTicker", live=False)])
    assert codes(seen(one_dead)) == ("degraded", ["not_subscribed"])


def test_a_silent_market_is_not_a_fault_of_the_writer() -> None:
    quiet = snapshot(taken_ns=START_NS + 3600 * 10**9)
    assert codes(seen(quiet)) == ("ok", [])


def test_a_fast_clock_has_its_own_seconds() -> None:
    late = {"writer": writer(last_fsync_ns=START_NS), "streams": [stream("BTCUSDT", "trade", last_received_ns=START_NS + 50 * 10**9)], "connections": [connection(1)]}  # fmt: skip
    assert codes(seen(snapshot(**late)))[1] == ["not_writing"]
    assert codes(seen(snapshot(**late, clock_speed=10.0)))[1] == []
    assert codes(seen(snapshot(**late, clock_speed=0.0)))[1] == []


def test_two_connections_during_a_handover_count_once() -> None:
    both = judge(seen(snapshot(connections=[connection(), connection()])))
    assert both.collector is not None
    assert (both.collector.streams_live, both.collector.connections_live) == (4, 2)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"locked": False}, "not_running"),
        ({"snapshot_age_seconds": 16.0}, "stale"),
        ({"snapshot_age_seconds": 16.0, "locked": None}, "stale"),
        ({"snapshot": None, "locked": False}, "not_running"),
        ({"snapshot": None, "locked": True}, "no_status"),
        ({"snapshot": None, "snapshot_problem": "broken"}, "no_status"),
    ],
)
def test_no_collector_is_down(changes: dict[str, Any], code: str) -> None:
    assert codes(
        seen(**{"taken": snapshot()} | changes) if "snapshot" not in changes else seen(**changes)
    ) == (
        "down",
        [code],
    )


def test_gaps_are_told_when_the_collector_is_down_too() -> None:
    taken = snapshot(symbols=[symbol("BTCUSDT", holes_open=1, ids_missing=5)])
    assert codes(seen(taken, locked=False)) == ("down", ["not_running", "gaps"])


def test_disk_and_transformer_are_judged() -> None:
    assert codes(seen(snapshot(), transform={"failed": {}})) == ("ok", [])
    assert codes(seen(snapshot(), transform={"failed": {"BTCUSDT": "why"}})) == (
        "degraded",
        ["transform_failed"],
    )
    full = msgspec.structs.replace(ROOMY, free_bytes=5)
    assert codes(seen(snapshot(), disk=full)) == ("degraded", ["disk"])
    late = seen(snapshot(), transform={}, transform_age_seconds=100.0)
    assert codes(late) == ("ok", [])
    assert codes(late, Limits(transform_age_seconds=99.0)) == ("degraded", ["transform_late"])


@given(snapshots(), st.booleans() | st.none(), st.floats(0, 100), st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none() | st.lists(st.integers())))  # fmt: skip
def test_whatever_is_seen_can_be_judged_and_printed(
    taken: CollectorSnapshot, locked: bool | None, age: float, report: dict[str, Any]
) -> None:
    status = judge(seen(taken, locked=locked, snapshot_age_seconds=age, transform=report))
    assert (status.health == "ok") == (not status.reasons)
    assert (status.health == "down") == (locked is False or age > 15.0)
    assert msgspec.json.decode(msgspec.json.encode(status), type=type(status)) == status
    beat = heartbeat(status)
    assert beat.status == status.health
    assert beat.ids_missing == sum(s.ids_missing for s in taken.symbols)
    assert len(text(status)) > 3
    page = markdown(status)
    assert all(f"| {s.symbol} |" in page for s in taken.symbols)
    assert "\n" not in live_line(status, 1.0, 20.0, None, 0.0)
    health, reasons = judge_running(taken)
    assert (health == "ok") == (not reasons)


def test_an_observation_of_the_disk(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    day = layout.raw_day("binance", "BTCUSDT", "2024-08-08")
    day.mkdir(parents=True)
    (day / "part_13_0001.jsonl.zst").write_bytes(b"x" * 100)
    (day / "part_13_0002.jsonl.zst.open").write_bytes(b"x" * 10)
    (day / "notes.txt").write_bytes(b"x")
    bars = [layout.bars("binance", "BTCUSDT", f"2024-08-0{n}") for n in (7, 8, 9)]
    for number, path in enumerate(bars):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"bars")
        manifest = layout.manifest(path)
        manifest.parent.mkdir(parents=True)
        manifest.write_text(["{", '{"rows": 40}', '{"rows": 2, "more": 1}'][number])
    scanner = DiskScanner(layout)
    figures = scanner.scan()
    assert (figures.raw_files, figures.raw_open_files, figures.raw_bytes) == (2, 1, 110)
    assert (figures.parquet_files, figures.parquet_rows, figures.parquet_files_uncounted) == (3, 42, 1)
    everything = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert figures.lake_bytes == everything
    assert 0 <= figures.used_percent <= 100
    assert figures.last_bars_ns == max(path.stat().st_mtime_ns for path in bars)
    layout.manifest(bars[1]).write_text('{"rows": 41, "x": 0}')
    assert scanner.scan().parquet_rows == 43
    assert DiskScanner(Layout(tmp_path / "not" / "there")).scan().lake_bytes == 0


def test_a_heartbeat_is_written_and_follows_the_lock(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    beats = HeartbeatWriter(layout)
    assert beats.beat().health == "down"
    write_snapshot(layout, snapshot())
    with locks.hold(layout.locks, "capture"):
        beats.beat()
        told = json.loads((layout.health / "heartbeat.json").read_text())
        assert told["status"] == "ok"
        assert {"timestamp", "status", "raw_files", "parquet_rows", "disk_usage_gb"} <= told.keys()
        assert told["messages"] == 200
        assert (layout.health / "health.md").read_text().startswith(f"# Lake {tmp_path}: ok\n")
        past = time.time() - 60
        os.utime(layout.state / "collector.json", (past, past))
        assert [reason.code for reason in beats.beat().reasons] == ["stale"]
    assert [reason.code for reason in beats.beat().reasons] == ["not_running"]
    assert sorted(path.name for path in layout.health.iterdir()) == ["health.md", "heartbeat.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"\xff"])
def test_what_can_not_be_read_is_told(tmp_path: Path, content: bytes) -> None:
    layout = Layout(tmp_path)
    layout.state.mkdir()
    (layout.state / "collector.json").write_bytes(content)
    transform_path(layout).write_bytes(content)
    status = judge(observe(layout, ROOMY))
    assert status.health == "down"
    assert status.reasons[0].code == "no_status"
    assert str(layout.state / "collector.json") in status.reasons[0].message
    assert isinstance(read_transform(layout)[0], dict)


def test_the_rate_follows_the_counter_and_a_new_start() -> None:
    rate = Rate()
    assert rate.update(100, 10.0) == 0.0
    assert rate.update(300, 12.0) == 100.0
    assert rate.update(310, 12.5) == 100.0  # too soon to tell anything else
    assert rate.update(5, 20.0) == 0.0  # a collector that started anew
    assert rate.update(15, 21.0) == 10.0


def test_looking_at_a_lock_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    done = threading.Event()
    looks: list[bool] = []

    def look() -> None:
        while not done.is_set():
            looks.append(locks.is_held(tmp_path, "capture"))
            time.sleep(0.001)

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(100):
            with locks.hold(tmp_path, "capture"):
                pass
    finally:
        done.set()
        for watcher in watchers:
            watcher.join()
    assert looks
    with locks.hold(tmp_path, "capture"):
        assert locks.is_held(tmp_path, "capture")
        with pytest.raises(locks.LockHeldError, match=f"process {os.getpid()} holds"):
            locks.hold(tmp_path, "capture").__enter__()
    assert not locks.is_held(tmp_path, "capture")


def test_the_page_says_in_its_first_lines_what_is_wrong_and_what_to_do() -> None:
    report = TaskReport("upload", START_NS, START_NS, ok=False, problem="no | bucket\nhere", failures=2)
    alert = AlertStatus("upload_failed", "upload_failed", "warning", "the upload failed.", START_NS, 0)
    observed = seen(
        snapshot(symbols=[symbol("BTCUSDT", holes_open=1, ids_missing=7)]),
        tasks={"upload": report},
        alerts=(alert,),
        disk_full_in_seconds=7200.0,
    )
    status = judge(observed)
    assert (status.health, [r.code for r in status.reasons]) == ("degraded", ["gaps", "upload_failed"])
    assert all(reason.do for reason in status.reasons if reason.code == "gaps")
    page = markdown(status)
    head = page.split("## Symbols")[0]
    assert "7 trades are missing in 1 gap (BTCUSDT)" in head
    assert "the ledger" in head
    assert head.count("the upload failed.") == 1
    assert "told nobody yet" in head
    assert r"**failed** 2 times in a row: no \| bucket here" in page
    assert "full in 2 h" in page
    beat = heartbeat(status)
    assert (beat.alerts, beat.disk_full_in_seconds) == (["upload_failed"], 7200.0)
    assert (beat.tasks["upload"].state, beat.tasks["upload"].failures) == ("failed", 2)
    well = markdown(judge(seen(snapshot())))
    assert "Nothing needs to be done." in well


def test_alerts_that_nobody_has_looked_at_since_are_not_told_as_of_now(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.state.mkdir()
    tracked = {"x": Tracked(Alert("x", "data_gap", "", "critical", "m.", 1, 1), 1)}
    for age_seconds, there in ((10, 1), (600, 0)):
        state = AlertsState(
            updated_ns=time.time_ns() - age_seconds * 10**9, conditions=ConditionState(tracked=tracked)
        )
        alerts_path(layout).write_bytes(msgspec.json.encode(state))
        assert len(observe(layout, ROOMY).alerts) == there
