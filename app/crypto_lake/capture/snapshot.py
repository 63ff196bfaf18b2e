"""What a collector says of itself: one value, taken at a moment, that status, metrics and alerts read.

Counters count since the process started. Times are nanoseconds or microseconds of the lake's clock, 0 where
something has not happened yet. It is served as JSON at /status and written to `state/collector.json`; fields are
added, never renamed.
"""

from __future__ import annotations

import msgspec


class Latency(msgspec.Struct, frozen=True):
    """Receive time minus event time of the last 2,048 messages, corrected by the measured clock offset.

    None where no message bore an event time (bookTicker has none).
    """

    p50_ms: float
    p95_ms: float
    max_ms: float
    samples: int


class StreamSnapshot(msgspec.Struct, frozen=True):
    name: str
    symbol: str
    kind: str
    messages: int
    bytes: int
    last_received_ns: int
    last_event_time_us: int
    latency: Latency | None
    lost_messages: int = 0  # received and let go, because they could not be written
    lost_bytes: int = 0
    live: bool | None = None  # acknowledged on a connection that stands; None: an older program does not say
    # What is thought of its silence (completeness.liveness), since when, and what that rests on; "": not looked at yet.
    liveness: str = ""
    liveness_since_ns: int = 0
    evidence: str = ""


class SymbolSnapshot(msgspec.Struct, frozen=True):
    """Ids are 0 where none was seen."""

    symbol: str
    last_id: int  # greatest trade id received
    durable_id: int  # greatest trade id fsynced: the acknowledged one
    last_trade_time_us: int
    holes_open: int  # holes known and not filled
    ids_missing: int  # trades in them
    holes_total: int
    duplicates: int
    holes_healed: int = 0  # of holes_total, those that were filled


class ConnectionSnapshot(msgspec.Struct, frozen=True):
    name: str
    state: str  # connecting, subscribing, live, closing
    streams: int
    connected_ns: int
    messages: int
    bytes: int
    exchange_time_us: int


class WriterSnapshot(msgspec.Struct, frozen=True):
    queue_bytes: int  # received and not yet fsynced
    queue_limit_bytes: int
    queue_full_total: int  # how often reading had to pause
    bytes_written: int
    frames: int
    parts: int
    fsyncs: int
    fsync_interval_ms: float  # the real one: greatest of the last minute
    fsync_last_ms: float  # how long the last took
    receive_to_durable_p99_ms: float
    last_fsync_ns: int
    write_errors: int  # failed writes and fsyncs since the start
    trouble: str = ""  # why nothing is acknowledged now: disk_full, write_error; empty: all is well
    trouble_since_ns: int = 0
    last_error: str = ""  # of the latest trouble, also when it is over
    last_error_ns: int = 0
    troubles: int = 0  # how often it came to that
    lost_messages: int = 0  # received and let go, of all streams
    lost_bytes: int = 0
    reserve_bytes: int = 0  # room on the disk that is held for what must be written when it is full


class HealingSnapshot(msgspec.Struct, frozen=True):
    """What healing does and did since the start, and the account of REST weight that this lake's processes share.

    state: `off`, `idle` (nothing to do now), `healing`, `waiting` (its share of the weight is used), `blocked` (the
    exchange said 429 or 418), `unreachable`. gaps_waiting: that it works on; oldest_gap_seconds: how long ago the oldest of
    them was, by the lake's clock. problem: why something could not be done.
    blocked_seconds: so long nothing is asked, for `blocked_by`; refusals: answers 429 and 418, of all processes.
    """

    state: str = "off"
    gaps_waiting: int = 0
    trades_healed: int = 0
    trades_aggregated: int = 0  # of these, known by sums alone
    files: int = 0
    trades_never_existed: int = 0
    trades_unavailable: int = 0
    requests: dict[str, int] = {}  # by status, "0": no answer
    weight_used: int = 0  # counted now
    weight_share: int = 0  # a minute
    blocked_seconds: float = 0.0
    blocked_by: int = 0
    refusals: int = 0
    problem: str = ""
    oldest_gap_seconds: float = 0.0


class Configuration(msgspec.Struct, frozen=True):
    """What the collector goes by. `sha256`: of the bytes of the file that is applied, "" where it has none.

    `problem`: why the file as it is now is not applied, or not all of it; "" where it is. `applied_ns`: real time.
    """

    sha256: str = ""
    problem: str = ""
    applied_ns: int = 0


class CollectorSnapshot(msgspec.Struct, frozen=True):
    """`idle`: it has no symbols, and is meant to have none."""

    version: str
    collector: str
    exchange: str
    pid: int
    started_ns: int
    taken_ns: int
    clock: str
    clock_speed: float
    clock_offset_us: int | None  # the exchange's clock minus ours; None: not measured yet
    clock_round_trip_us: int | None
    streams: list[StreamSnapshot]
    symbols: list[SymbolSnapshot]
    connections: list[ConnectionSnapshot]
    outcomes: dict[str, int]  # ended connections by reason
    reconnects: int
    quarantined: dict[str, int]
    writer: WriterSnapshot
    port: int = -1  # where /metrics and /status are served
    idle: bool = False
    configuration: Configuration | None = None  # None: an older program does not say
    healing: HealingSnapshot | None = None  # None: an older program does not say
    replacements: dict[str, int] = {}  # connections replaced because a stream was dead, by what was found
    liveness_requests: int = 0  # to the exchange, about streams that say nothing
