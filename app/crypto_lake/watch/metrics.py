"""A collector's snapshot as Prometheus metrics, made when they are scraped: nothing is counted twice. Pure.

Labels are exchange, symbol and stream, and the outcomes and states of connections: sets that are bounded by the
configuration and the program. Every series is there from the start, at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from crypto_lake.capture.outcome import Reason
from crypto_lake.capture.snapshot import CollectorSnapshot, StreamSnapshot, SymbolSnapshot, WriterSnapshot
from crypto_lake.watch.metrics_healing import healing_families
from crypto_lake.watch.metrics_liveness import liveness_families

CONNECTION_STATES = ("connecting", "subscribing", "live", "closing")

# name, help, value; `_total` is added to counters.
_STREAM_COUNTERS: tuple[tuple[str, str, Callable[[StreamSnapshot], float]], ...] = (
    ("stream_messages", "Messages received.", lambda s: s.messages),
    ("stream_bytes", "Bytes of messages received, as the exchange sent them.", lambda s: s.bytes),
    (
        "stream_lost_messages",
        "Messages received that could not be written; the ledger has the ids of the trades.",
        lambda s: s.lost_messages,
    ),
    ("stream_lost_bytes", "Bytes of these messages.", lambda s: s.lost_bytes),
)
_STREAM_GAUGES: tuple[tuple[str, str, Callable[[StreamSnapshot], float]], ...] = (
    ("stream_live", "1 while it is subscribed on a connection that stands.", lambda s: float(bool(s.live))),
    (
        "stream_last_received_timestamp_seconds",
        "When the last message came, by the lake's clock; 0: none yet.",
        lambda s: s.last_received_ns / 1e9,
    ),
    (
        "stream_last_event_timestamp_seconds",
        "The exchange's time in the last message that bore one; 0: none yet.",
        lambda s: s.last_event_time_us / 1e6,
    ),
)
_LATENCY_GAUGES: tuple[tuple[str, str, Callable[[StreamSnapshot], float | None]], ...] = (
    (
        "stream_latency_median_seconds",
        "Receive time minus exchange time, median of the last minute; 0: no sample.",
        lambda s: s.latency and s.latency.p50_ms / 1e3,
    ),
    (
        "stream_latency_p95_seconds",
        "Receive time minus exchange time, 95th percentile of the last minute; 0: no sample.",
        lambda s: s.latency and s.latency.p95_ms / 1e3,
    ),
    (
        "stream_latency_max_seconds",
        "Receive time minus exchange time, greatest of the last minute; 0: no sample.",
        lambda s: s.latency and s.latency.max_ms / 1e3,
    ),
)
_SYMBOL_COUNTERS: tuple[tuple[str, str, Callable[[SymbolSnapshot], float]], ...] = (
    ("gaps", "Gaps in the trade ids, found since the start.", lambda s: s.holes_total),
    ("duplicate_trades", "Trades that came more than once.", lambda s: s.duplicates),
)
_SYMBOL_GAUGES: tuple[tuple[str, str, Callable[[SymbolSnapshot], float]], ...] = (
    ("gaps_open", "Gaps in the trade ids that are known and not filled.", lambda s: s.holes_open),
    ("gaps_healed", "Gaps found since the start that were filled.", lambda s: s.holes_healed),
    ("missing_trades", "Trades in the open gaps.", lambda s: s.ids_missing),
    ("last_trade_id", "Greatest trade id received; 0: none yet.", lambda s: s.last_id),
    ("durable_trade_id", "Greatest trade id on the disk, fsynced; 0: none yet.", lambda s: s.durable_id),
    (
        "last_trade_timestamp_seconds",
        "The exchange's time of the last trade; 0: none yet.",
        lambda s: s.last_trade_time_us / 1e6,
    ),
)
_WRITER_COUNTERS: tuple[tuple[str, str, Callable[[WriterSnapshot], float]], ...] = (
    (
        "writer_queue_full",
        "How often reading paused because the disk was too slow.",
        lambda w: w.queue_full_total,
    ),
    ("writer_written_bytes", "Compressed bytes written to parts.", lambda w: w.bytes_written),
    ("writer_frames", "Frames written to parts.", lambda w: w.frames),
    ("writer_parts", "Parts begun.", lambda w: w.parts),
    ("writer_fsyncs", "Rounds of fsync.", lambda w: w.fsyncs),
    ("writer_errors", "Writes or fsyncs that failed.", lambda w: w.write_errors),
    ("writer_troubles", "How often nothing could be written or fsynced for a while.", lambda w: w.troubles),
)
_WRITER_GAUGES: tuple[tuple[str, str, Callable[[WriterSnapshot], float]], ...] = (
    ("writer_queue_bytes", "Received and not yet fsynced.", lambda w: w.queue_bytes),
    ("writer_queue_limit_bytes", "Where reading pauses.", lambda w: w.queue_limit_bytes),
    ("writer_in_trouble", "1 while nothing can be written or fsynced.", lambda w: float(bool(w.trouble))),
    ("writer_reserve_bytes", "Room held for what must be written to a full disk.", lambda w: w.reserve_bytes),
    (
        "writer_fsync_interval_max_seconds",
        "Greatest time between two rounds of fsync in the last minute: what a power loss may cost.",
        lambda w: w.fsync_interval_ms / 1e3,
    ),
    (
        "writer_fsync_duration_seconds",
        "How long the last round of fsync took.",
        lambda w: w.fsync_last_ms / 1e3,
    ),
    (
        "writer_receive_to_durable_p99_seconds",
        "From receipt to fsync, 99th percentile of the last minute.",
        lambda w: w.receive_to_durable_p99_ms / 1e3,
    ),
    (
        "writer_last_fsync_timestamp_seconds",
        "When the last round of fsync ended, by the lake's clock; 0: none yet.",
        lambda w: w.last_fsync_ns / 1e9,
    ),
)


def families(snapshot: CollectorSnapshot) -> Iterator[Metric]:
    """The snapshot as metrics. Pure."""
    exchange = snapshot.exchange
    yield gauge_of("collector_info", "Which collector this is.", ["collector", "version"], [
        ([snapshot.collector, snapshot.version], 1.0)
    ])  # fmt: skip
    yield single(
        "collector_start_timestamp_seconds",
        "When it started, by the lake's clock.",
        snapshot.started_ns / 1e9,
    )
    yield single(
        "clock_offset_seconds",
        "The exchange's clock minus ours; 0: not measured yet.",
        (snapshot.clock_offset_us or 0) / 1e6,
    )
    yield single(
        "clock_round_trip_seconds",
        "Round trip of that measurement.",
        (snapshot.clock_round_trip_us or 0) / 1e6,
    )
    yield single("idle", "1 while it has no symbols, and is meant to have none.", float(snapshot.idle))
    configuration = snapshot.configuration
    yield single(
        "configuration_applied",
        "1 while it goes by its file as it is; 0: that is wrong, or needs a restart (/status says why).",
        float(configuration is None or not configuration.problem),
    )
    yield single(
        "configuration_applied_timestamp_seconds",
        "When the configuration was last read and taken over.",
        configuration.applied_ns / 1e9 if configuration else 0.0,
    )
    stream_labels = ["exchange", "symbol", "stream"]
    for name, text, value in _STREAM_COUNTERS:
        rows = [([exchange, s.symbol, s.kind], value(s)) for s in snapshot.streams]
        yield counter_of(name, text, stream_labels, rows)
    for name, text, value in (*_STREAM_GAUGES, *_LATENCY_GAUGES):
        rows = [([exchange, s.symbol, s.kind], float(value(s) or 0)) for s in snapshot.streams]
        yield gauge_of(name, text, stream_labels, rows)
    for name, text, value in _SYMBOL_COUNTERS:
        yield counter_of(
            name, text, ["exchange", "symbol"], [([exchange, s.symbol], value(s)) for s in snapshot.symbols]
        )
    for name, text, value in _SYMBOL_GAUGES:
        yield gauge_of(
            name, text, ["exchange", "symbol"], [([exchange, s.symbol], value(s)) for s in snapshot.symbols]
        )
    states: dict[str, int] = dict.fromkeys(CONNECTION_STATES, 0)
    for connection in snapshot.connections:
        states[connection.state] = states.get(connection.state, 0) + 1
    yield gauge_of(
        "connections",
        "Connections by state.",
        ["exchange", "state"],
        [([exchange, s], n) for s, n in states.items()],
    )
    ends: dict[str, int] = dict.fromkeys((reason.value for reason in Reason), 0) | snapshot.outcomes
    yield counter_of(
        "connection_ends",
        "Connections that ended, by outcome.",
        ["exchange", "outcome"],
        [([exchange, o], n) for o, n in ends.items()],
    )
    yield counter_of(
        "reconnects",
        "Connections opened again after an unplanned end.",
        ["exchange"],
        [([exchange], snapshot.reconnects)],
    )
    # Reasons of the quarantine are free text: the sum alone is bounded.
    yield counter_of(
        "quarantined_messages",
        "Messages put into quarantine.",
        ["exchange"],
        [([exchange], sum(snapshot.quarantined.values()))],
    )
    yield from liveness_families(snapshot)
    yield from healing_families(snapshot.healing)
    for name, text, value in _WRITER_COUNTERS:
        yield counter_of(name, text, [], [([], value(snapshot.writer))])
    for name, text, value in _WRITER_GAUGES:
        yield single(name, text, value(snapshot.writer))


Rows = list[tuple[list[str], float]]


def gauge_of(name: str, text: str, labels: list[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(f"crypto_lake_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def single(name: str, text: str, number: float) -> Metric:
    return gauge_of(name, text, [], [([], number)])


def counter_of(name: str, text: str, labels: list[str], rows: Rows) -> Metric:
    family = CounterMetricFamily(f"crypto_lake_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
