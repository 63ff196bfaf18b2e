"""What collectors say of themselves, put together: the worst of each, and what is not known is not zero."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from crypto_lake.dashboard.status import Answer, Status, ask, own_url, together
from crypto_lake.dashboard.words import figures_of

TOLD = {
    "schema": 1,
    "collector": "c-1",
    "health": "degraded",
    "taken_ns": 1_723_161_254_000_000_000,
    "reasons": [{"code": "gaps", "message": "2 gaps", "do": "wait for healing"}],
    "disk": {"used_percent": 61.4, "free_bytes": 5, "something_new": 1},
    "disk_full_in_seconds": 7200,
    "streams": [
        {
            "symbol": "BTCUSDT",
            "live": True,
            "latency": {"p50_ms": 3, "p95_ms": 12.5, "max_ms": 40, "samples": 9},
        },
        {
            "symbol": "ETHUSDT",
            "live": True,
            "latency": {"p50_ms": 3, "p95_ms": 900, "max_ms": 40, "samples": 9},
        },
        {"symbol": "BTCUSDT", "live": False, "latency": None},
    ],
    "symbols": [
        {
            "symbol": "BTCUSDT",
            "last_trade_time_us": 1_723_161_252_000_000,
            "holes_open": 2,
            "ids_missing": 7,
            "holes_healed": 3,
        },
        {"symbol": "ETHUSDT", "last_trade_time_us": 0, "holes_open": 1, "ids_missing": 1, "holes_healed": 0},
    ],
}


def told(**changes: object) -> Answer:
    return Answer("http://a/status", msgspec.convert({**TOLD, **changes}, type=Status))


def test_only_the_symbols_that_are_shown_count() -> None:
    live = together([told()], ["BTCUSDT"])
    assert (live.gaps_open, live.ids_missing, live.gaps_healed) == (2, 7, 3)
    assert (live.latency_p95_ms, live.lag_seconds, live.disk_percent) == (12.5, 2.0, 61.4)
    assert live.problems == ("c-1: 2 gaps — wait for healing",)
    shown = {name: value for name, value, _ in figures_of([], live)}
    assert (shown["Open gaps"], shown["Latency p95"], shown["Lag"], shown["Disk"]) == (
        "2",
        "12 ms",
        "2 s",
        "61 %",
    )


def test_several_collectors_give_the_worst_and_the_sum() -> None:
    other = told(collector="c-2", disk={"used_percent": 90}, disk_full_in_seconds=60, reasons=[])
    live = together([told(), other, Answer("http://b/status", None, "no answer")], ["BTCUSDT", "ETHUSDT"])
    assert (live.asked, live.answered, live.gaps_open, live.disk_percent) == (3, 2, 6, 90)
    assert (live.latency_p95_ms, live.disk_full_in_seconds) == (900, 60)
    assert "http://b/status: no answer" in live.problems


def test_what_nobody_tells_is_not_known() -> None:
    for answers in (
        [],
        [Answer("http://b/status", None, "no answer")],
        [told(symbols=[], streams=[], disk=None)],
    ):
        shown = {name: value for name, value, _ in figures_of([], together(answers, ["BTCUSDT"]))}
        assert [shown[name] for name in ("Open gaps", "Latency p95", "Lag", "Disk")] == ["–"] * 4


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/status"
        server.shutdown()


def test_a_collector_is_asked_and_one_that_does_not_answer_is_named() -> None:
    with (
        answering(200, json.dumps(TOLD).encode()) as good,
        answering(404, b"") as other,
        answering(200, b"<p>") as page,
    ):
        found = ask([good, other, page])
    gone = ask([good])
    assert found[0].status is not None
    assert found[0].status.collector == "c-1"
    assert [answer.status for answer in found[1:] + gone] == [None] * 3
    for answer, word in zip(found[1:] + gone, ("404", "no status", "no collector"), strict=True):
        assert word in answer.problem


@pytest.mark.parametrize(
    ("snapshot", "url"),
    [
        (b'{"port": 9464, "x": 1}', "http://127.0.0.1:9464/status"),
        (b'{"port": -1}', None),
        (b"torn", None),
        (None, None),
    ],
)
def test_a_directory_tells_where_its_collector_answers(
    tmp_path: Path, snapshot: bytes | None, url: str | None
) -> None:
    (tmp_path / "state").mkdir()
    if snapshot is not None:
        (tmp_path / "state" / "collector.json").write_bytes(snapshot)
    assert own_url(str(tmp_path)) == own_url(f"file://{tmp_path}") == url
    assert own_url("gs://bucket/x") is None
