"""Metrics and the pages that serve them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given, settings
from prometheus_client.parser import text_string_to_metric_families
from snapshots import connection, snapshot, snapshots, stream, symbol, writer

from crypto_lake.capture.outcome import Reason
from crypto_lake.capture.snapshot import CollectorSnapshot, HealingSnapshot
from crypto_lake.completeness.liveness import Liveness
from crypto_lake.lake import tasks
from crypto_lake.lake.layout import Layout
from crypto_lake.watch.alerts import AlertsState, Channel
from crypto_lake.watch.alerts_file import alerts_path
from crypto_lake.watch.conditions import Alert, ConditionState, Tracked
from crypto_lake.watch.exposition import text_of
from crypto_lake.watch.lookout import Around, Files, Lookout, Uploads, Watched
from crypto_lake.watch.metrics import families
from crypto_lake.watch.metrics_state import state_families
from crypto_lake.watch.serve import Server

DOCS = Path(__file__).parents[3] / "docs/metrics.md"
BASE_UNITS = ("_seconds", "_bytes")
# What Prometheus' own check of metrics refuses in names.
OTHER_UNITS = re.compile(
    r"_(milliseconds|microseconds|nanoseconds|ms|us|ns|minutes|hours|days|kilobytes|megabytes|kb|mb|gb|percent)(_|$)"
)
BOUNDED_LABELS = {
    *("exchange", "symbol", "stream", "state", "outcome", "collector", "version", "type", "task"),
    *("liveness", "verdict", "status"),
}


def samples(
    taken: CollectorSnapshot, around: Around | None = None
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = text_of(taken, around, is_ready=True).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@settings(max_examples=50)
@given(snapshots())
def test_every_snapshot_renders_by_the_rules_of_names(taken: CollectorSnapshot) -> None:
    read = samples(taken)
    assert len(read) == len(set(read))
    for family in (*families(taken), *state_families(Around(), taken)):
        assert family.name.startswith("crypto_lake_")
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert not OTHER_UNITS.search(family.name)
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))  # added, or of other types
        assert family.documentation.endswith(".")
        assert {label for sample in family.samples for label in sample.labels} <= BOUNDED_LABELS


def test_figures_are_the_snapshots() -> None:
    taken = snapshot(
        symbols=[symbol("BTCUSDT", holes_open=2, ids_missing=7, holes_total=9, duplicates=3)],
        quarantined={"a": 1, "b": 2},
        outcomes={"reset": 4},
        writer=writer(fsync_interval_ms=1250.0),
    )
    read = samples(taken)
    of = (("exchange", "binance"), ("symbol", "BTCUSDT"))
    assert read["crypto_lake_gaps_open", of] == 2
    assert read["crypto_lake_missing_trades", of] == 7
    assert read["crypto_lake_gaps_total", of] == 9
    assert read["crypto_lake_duplicate_trades_total", of] == 3
    assert read["crypto_lake_durable_trade_id", of] == 110
    stream = (("exchange", "binance"), ("stream", "trade"), ("symbol", "BTCUSDT"))
    assert read["crypto_lake_stream_messages_total", stream] == 50
    assert read["crypto_lake_stream_latency_p95_seconds", stream] == 0.002
    assert read["crypto_lake_quarantined_messages_total", (("exchange", "binance"),)] == 3
    assert read["crypto_lake_writer_fsync_interval_max_seconds", ()] == 1.25
    assert read["crypto_lake_clock_offset_seconds", ()] == 0.0015
    assert read["crypto_lake_connection_ends_total", (("exchange", "binance"), ("outcome", "reset"))] == 4


def test_what_is_thought_of_streams_is_counted_and_of_each_is_told_whether_it_is_dead() -> None:
    taken = snapshot(
        streams=[
            stream("BTCUSDT", "trade", liveness="live"),
            stream("BTCUSDT", "bookTicker", liveness="stream_silent"),
            stream("ETHUSDT", "trade", liveness="quiet"),
            stream("ETHUSDT", "bookTicker", liveness="live"),
        ],
        replacements={"stream_silent": 3},
        liveness_requests=17,
    )
    read = samples(taken)

    def of(name: str, liveness: str) -> float:
        return read[name, (("exchange", "binance"), ("liveness", liveness))]

    counted = {kind: of("crypto_lake_streams", kind) for kind in Liveness}
    assert {kind: count for kind, count in counted.items() if count} == {
        "live": 2,
        "stream_silent": 1,
        "quiet": 1,
    }
    dead = {labels: value for (name, labels), value in read.items() if name == "crypto_lake_stream_dead"}
    assert [labels for labels, value in dead.items() if value] == [
        (("exchange", "binance"), ("stream", "bookTicker"), ("symbol", "BTCUSDT"))
    ]
    assert len(dead) == 4
    assert of("crypto_lake_stream_replacements_total", "stream_silent") == 3
    assert of("crypto_lake_stream_replacements_total", "behind") == 0
    assert read["crypto_lake_liveness_requests_total", ()] == 17


@pytest.mark.parametrize(
    ("by", "seconds", "told"),
    [(418, 100.0, {"418": 1, "429": 0}), (429, 9.5, {"418": 0, "429": 1}), (418, 0.0, {"418": 0, "429": 0})],
)
def test_what_stops_healing_is_told_by_the_exchanges_answer(
    by: int, seconds: float, told: dict[str, int]
) -> None:
    healing = HealingSnapshot("blocked", 4, blocked_by=by, blocked_seconds=seconds, oldest_gap_seconds=7200.5)
    read = samples(snapshot(healing=healing))
    assert {s: read["crypto_lake_rest_blocked", (("status", s),)] for s in ("418", "429")} == told
    assert read["crypto_lake_healing_gaps_waiting", ()] == 4
    assert read["crypto_lake_healing_oldest_gap_seconds", ()] == 7200.5


def test_what_the_last_check_found_is_told_in_seconds(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    figures = {
        "bars_verified": 86000,
        "bars_mismatched": 12,
        "bars_unexplained": 5,
        "bars_unverifiable": 388,
    }
    tasks.end(layout, tasks.begin(layout, "check", 1), 2, "", figures)
    read = samples(snapshot(), asyncio.run(Lookout(layout, snapshot).look()))
    told = {
        labels[0][1]: value for (name, labels), value in read.items() if name == "crypto_lake_checked_seconds"
    }
    assert told == {"verified": 86000, "explained": 7, "unexplained": 5, "unverifiable": 388}


def test_what_the_state_says_is_in_the_metrics(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    report = tasks.begin(layout, "upload", 5 * 10**9)
    tasks.end(layout, report, 7 * 10**9, "", {})
    tasks.end(layout, tasks.begin(layout, "upload", 8 * 10**9), 9 * 10**9, "no bucket", {})
    alert = Alert("data_gap:x", "data_gap", "x", "critical", "m.", 1, 1)
    state = AlertsState(
        conditions=ConditionState(tracked={"data_gap:x": Tracked(alert, 1)}),
        channel=Channel(sent_total=3, failures_total=4),
    )
    alerts_path(layout).write_bytes(msgspec.json.encode(state))
    read = samples(snapshot(), asyncio.run(Lookout(layout, snapshot).look()))
    assert read["crypto_lake_alerts_firing", (("type", "data_gap"),)] == 1
    assert read["crypto_lake_alerts_firing", (("type", "holes"),)] == 0
    assert read["crypto_lake_alerts_sent_total", ()] == 3
    assert read["crypto_lake_webhook_failures_total", ()] == 4
    assert read["crypto_lake_task_last_ok_timestamp_seconds", (("task", "upload"),)] == 7
    assert read["crypto_lake_task_consecutive_failures", (("task", "upload"),)] == 1
    assert read["crypto_lake_task_last_ok_timestamp_seconds", (("task", "verify"),)] == 0


def test_prometheus_own_check_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    text = text_of(snapshot(), Around(), is_ready=False)
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_documented_metrics_are_those_that_are_served() -> None:
    """docs/metrics.md: name, type, labels and meaning of each, and nothing else."""
    rows = re.findall(
        r"^\| `(crypto_lake_\w+)` \| (\w+) \| ([a-z, ]*) \| (.+) \|$", DOCS.read_text(), re.MULTILINE
    )
    served = [
        (
            f"{family.name}_total" if family.type == "counter" else family.name,
            family.type,
            ", ".join(sorted({label for sample in family.samples for label in sample.labels})),
            family.documentation,
        )
        for family in text_string_to_metric_families(text_of(snapshot(), Around(), is_ready=True).decode())
        if family.name.startswith("crypto_lake_")
    ]
    assert served
    assert sorted(rows) == sorted(served)


def test_every_series_is_there_before_anything_has_happened() -> None:
    """With the same names as in a lake that has seen it all: an increase from nothing is one, too."""
    nothing = samples(snapshot(), Around())
    everything = samples(
        snapshot(outcomes={reason.value: 1 for reason in Reason}, quarantined={"x": 1}),
        Around(
            Watched("file:///bucket", 10),
            Files({task: tasks.TaskReport(task, 1, 2, ok=True, last_ok_ns=2) for task in tasks.TASKS}),
            uploads=Uploads("file:///bucket", 1, 1, 0),
        ),
    )
    assert nothing.keys() == everything.keys()


def test_series_are_there_at_zero() -> None:
    read = samples(snapshot())
    assert read["crypto_lake_connection_ends_total", (("exchange", "binance"), ("outcome", "silent"))] == 0
    assert read["crypto_lake_connections", (("exchange", "binance"), ("state", "closing"))] == 0
    assert read["crypto_lake_gaps_total", (("exchange", "binance"), ("symbol", "ETHUSDT"))] == 0
    assert read["crypto_lake_writer_errors_total", ()] == 0
    assert any(name == "process_resident_memory_bytes" for name, _ in read)


def serving(
    source: Callable[[], CollectorSnapshot],
    body: Callable[[aiohttp.ClientSession, str], Awaitable[None]],
    layout: Layout | None = None,
) -> None:
    async def run() -> None:
        server = Server(source, "127.0.0.1", 0, Lookout(layout, source) if layout else None)
        await server.start()
        try:
            async with aiohttp.ClientSession() as session:
                await body(session, f"http://127.0.0.1:{server.port}")
        finally:
            await server.close()
        assert server.port == -1

    asyncio.run(run())


def test_the_pages() -> None:
    async def body(session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(f"{url}/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert b"crypto_lake_gaps_open" in await answer.read()
        async with session.get(f"{url}/status") as answer:
            document = json.loads(await answer.read())
            assert document["schema"] == 1
            assert document["health"] == "ok"
            assert document["symbols"][0]["durable_id"] == 110
        async with session.get(f"{url}/healthz") as answer:
            assert answer.status == 200
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 200

    serving(snapshot, body)


def test_the_pages_of_a_lake_tell_of_its_tasks(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    tasks.end(layout, tasks.begin(layout, "verify", 1), 2, "a.jsonl.zst differs at byte 7", {})

    async def body(session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(f"{url}/status") as answer:
            document = json.loads(await answer.read())
            assert document["tasks"]["verify"]["problem"] == "a.jsonl.zst differs at byte 7"
            assert document["alerts"] == []
        async with session.get(f"{url}/metrics") as answer:
            assert b'crypto_lake_task_consecutive_failures{task="verify"} 1.0' in await answer.read()

    serving(snapshot, body, layout)


@pytest.mark.parametrize(
    ("changes", "ready"),
    [
        ({"connections": [connection(state="connecting")]}, False),
        ({"writer": writer(write_errors=1, trouble="write_error")}, False),
        ({"symbols": [symbol("BTCUSDT", holes_open=1, ids_missing=1)]}, True),
        ({"clock_offset_us": 5_000_000}, True),
    ],
)
def test_ready_means_subscribed_and_writing(changes: dict[str, Any], ready: bool) -> None:
    async def body(session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(f"{url}/readyz") as answer:
            assert (answer.status == 200) == ready
            assert await answer.text() != ""

    serving(lambda: snapshot(**changes), body)


def test_a_port_in_use_is_replaced_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            server = Server(snapshot, "127.0.0.1", port)
            await server.start()
            assert server.port not in (-1, port)
            await server.close()
        assert str(port) in caplog.text

    asyncio.run(run())


def test_an_address_that_is_not_ours_is_an_error_and_no_port_is_none() -> None:
    async def run() -> None:
        with pytest.raises(OSError, match=r"192\.0\.2\.1"):
            await Server(snapshot, "192.0.2.1", 0).start()
        off = Server(snapshot, "127.0.0.1", -1)
        await off.start()
        assert off.port == -1
        await off.close()

    asyncio.run(run())
