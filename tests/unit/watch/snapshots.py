"""Snapshots for tests: a well collector, and any collector."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from crypto_lake.capture.outcome import Reason
from crypto_lake.capture.snapshot import (
    CollectorSnapshot,
    ConnectionSnapshot,
    Latency,
    StreamSnapshot,
    SymbolSnapshot,
    WriterSnapshot,
)

START_NS = 1_723_161_254_000_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT")
KINDS = ("trade", "bookTicker")


def writer(**changes: Any) -> WriterSnapshot:
    values: dict[str, Any] = {
        "queue_bytes": 0,
        "queue_limit_bytes": 1000,
        "queue_full_total": 0,
        "bytes_written": 500,
        "frames": 9,
        "parts": 2,
        "fsyncs": 8,
        "fsync_interval_ms": 1000.0,
        "fsync_last_ms": 3.0,
        "receive_to_durable_p99_ms": 900.0,
        "last_fsync_ns": START_NS + 9_000_000_000,
        "write_errors": 0,
    }
    return WriterSnapshot(**values | changes)


def symbol(name: str, **changes: Any) -> SymbolSnapshot:
    values: dict[str, Any] = {
        "last_id": 120,
        "durable_id": 110,
        "last_trade_time_us": START_NS // 1000,
        "holes_open": 0,
        "ids_missing": 0,
        "holes_total": 0,
        "duplicates": 0,
    }
    return SymbolSnapshot(symbol=name, **values | changes)


def stream(name: str, kind: str, **changes: Any) -> StreamSnapshot:
    values: dict[str, Any] = {
        "messages": 50,
        "bytes": 5000,
        "last_received_ns": START_NS + 9_000_000_000,
        "last_event_time_us": START_NS // 1000 if kind == "trade" else 0,
        "latency": Latency(1.0, 2.0, 3.0, 50) if kind == "trade" else None,
    }
    return StreamSnapshot(name=f"{name.lower()}@{kind}", symbol=name, kind=kind, **values | changes)


def connection(streams: int = 4, state: str = "live") -> ConnectionSnapshot:
    return ConnectionSnapshot("c-1", state, streams, START_NS, 100, 1000, START_NS // 1000)


def snapshot(**changes: Any) -> CollectorSnapshot:
    """A collector that is well, ten seconds after its start."""
    values: dict[str, Any] = {
        "version": "1.2.3",
        "collector": "test-0001",
        "exchange": "binance",
        "pid": 4242,
        "started_ns": START_NS,
        "taken_ns": START_NS + 10_000_000_000,
        "clock": "system",
        "clock_speed": 1.0,
        "clock_offset_us": 1500,
        "clock_round_trip_us": 3000,
        "streams": [stream(name, kind) for name in SYMBOLS for kind in KINDS],
        "symbols": [symbol(name) for name in SYMBOLS],
        "connections": [connection()],
        "outcomes": {},
        "reconnects": 0,
        "quarantined": {},
        "writer": writer(),
    }
    return CollectorSnapshot(**values | changes)


counts = st.integers(0, 2**53)
times_ns = st.just(0) | st.integers(START_NS, START_NS * 2)
milliseconds = st.floats(0, 1e6)
latencies = st.none() | st.builds(Latency, milliseconds, milliseconds, milliseconds, counts)


@st.composite
def snapshots(draw: st.DrawFn) -> CollectorSnapshot:
    """Any collector: none of its figures need fit the others."""
    names = draw(st.lists(st.from_regex(r"[A-Z0-9]{1,8}", fullmatch=True), max_size=3, unique=True))
    return CollectorSnapshot(
        version="1",
        collector=draw(st.text(max_size=8)),
        exchange="binance",
        pid=draw(st.integers(1, 2**22)),
        started_ns=draw(times_ns),
        taken_ns=draw(times_ns),
        clock=draw(st.sampled_from(["system", "exchange"])),
        clock_speed=draw(st.sampled_from([0.0, 1.0, 10.0])),
        clock_offset_us=draw(st.none() | st.integers(-(10**9), 10**9)),
        clock_round_trip_us=draw(st.none() | counts),
        streams=[
            StreamSnapshot(f"{name.lower()}@{kind}", name, kind, draw(counts), draw(counts), draw(times_ns), draw(times_ns) // 1000, draw(latencies))
            for name in names
            for kind in KINDS
        ],
        symbols=[SymbolSnapshot(name, *(draw(counts) for _ in range(7))) for name in names],
        connections=[
            ConnectionSnapshot(f"c-{n}", draw(st.sampled_from(["connecting", "subscribing", "live", "closing"])), draw(counts), draw(times_ns), draw(counts), draw(counts), 0)
            for n in range(draw(st.integers(0, 2)))
        ],
        outcomes=draw(st.dictionaries(st.sampled_from([reason.value for reason in Reason]), counts)),
        reconnects=draw(counts),
        quarantined=draw(st.dictionaries(st.text(max_size=5), counts, max_size=3)),
        writer=WriterSnapshot(
            draw(counts), draw(counts), draw(counts), draw(counts), draw(counts), draw(counts), draw(counts),
            draw(milliseconds), draw(milliseconds), draw(milliseconds), draw(times_ns), draw(counts),
        ),
    )  # fmt: skip
