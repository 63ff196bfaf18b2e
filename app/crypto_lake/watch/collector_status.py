"""What a status says of a collector and of its symbols, from the collector's snapshot. Pure."""

from __future__ import annotations

import msgspec

from crypto_lake.capture.snapshot import CollectorSnapshot


class CollectorStatus(msgspec.Struct, frozen=True):
    """What the collector said last. `age_seconds`: how long ago, in real time."""

    running: bool
    age_seconds: float
    version: str
    name: str
    exchange: str
    pid: int
    port: int
    started_ns: int
    taken_ns: int
    symbols: int
    streams: int
    streams_live: int
    connections_live: int
    messages: int
    bytes: int
    reconnects: int
    latency_p50_ms: float | None  # the worst stream's, of the last minute
    latency_p95_ms: float | None
    clock_offset_us: int | None
    holes_open: int
    ids_missing: int
    quarantined: int
    fsync_interval_ms: float
    receive_to_durable_p99_ms: float
    healing: str = ""  # its state; "": an older program does not say
    trades_healed: int = 0
    rest_weight_used: int = 0


class SymbolStatus(msgspec.Struct, frozen=True):
    symbol: str
    messages: int
    last_id: int
    durable_id: int
    last_trade_time_us: int
    holes_open: int
    ids_missing: int
    gaps_healed: int = 0
    last_trade_age_seconds: float | None = None  # by the lake's clock, when the collector last reported
    lag_p95_ms: float | None = None  # receipt minus exchange time, of the last minute


def streams_live(snapshot: CollectorSnapshot) -> int:
    """Streams that are acknowledged on a connection that stands. Where the streams do not say it (an older program's
    snapshot) the live connections do: while one takes over from another both have them.
    """
    told = [stream.live for stream in snapshot.streams if stream.live is not None]
    if len(told) == len(snapshot.streams):
        return sum(told)
    live = sum(connection.streams for connection in snapshot.connections if connection.state == "live")
    return min(live, len(snapshot.streams))


def collector_status(snapshot: CollectorSnapshot, age_seconds: float, *, running: bool) -> CollectorStatus:
    latencies = [stream.latency for stream in snapshot.streams if stream.latency is not None]
    return CollectorStatus(
        running=running,
        age_seconds=round(age_seconds, 1),
        version=snapshot.version,
        name=snapshot.collector,
        exchange=snapshot.exchange,
        pid=snapshot.pid,
        port=snapshot.port,
        started_ns=snapshot.started_ns,
        taken_ns=snapshot.taken_ns,
        symbols=len(snapshot.symbols),
        streams=len(snapshot.streams),
        streams_live=streams_live(snapshot),
        connections_live=sum(connection.state == "live" for connection in snapshot.connections),
        messages=sum(stream.messages for stream in snapshot.streams),
        bytes=sum(stream.bytes for stream in snapshot.streams),
        reconnects=snapshot.reconnects,
        latency_p50_ms=max((latency.p50_ms for latency in latencies), default=None),
        latency_p95_ms=max((latency.p95_ms for latency in latencies), default=None),
        clock_offset_us=snapshot.clock_offset_us,
        holes_open=sum(symbol.holes_open for symbol in snapshot.symbols),
        ids_missing=sum(symbol.ids_missing for symbol in snapshot.symbols),
        quarantined=sum(snapshot.quarantined.values()),
        fsync_interval_ms=snapshot.writer.fsync_interval_ms,
        receive_to_durable_p99_ms=snapshot.writer.receive_to_durable_p99_ms,
        healing=snapshot.healing.state if snapshot.healing else "",
        trades_healed=snapshot.healing.trades_healed if snapshot.healing else 0,
        rest_weight_used=snapshot.healing.weight_used if snapshot.healing else 0,
    )


def symbol_statuses(snapshot: CollectorSnapshot) -> list[SymbolStatus]:
    messages: dict[str, int] = {}
    lags_ms: dict[str, float] = {}
    for stream in snapshot.streams:
        messages[stream.symbol] = messages.get(stream.symbol, 0) + stream.messages
        if stream.latency is not None:
            lags_ms[stream.symbol] = max(stream.latency.p95_ms, lags_ms.get(stream.symbol, 0.0))
    return [
        SymbolStatus(
            symbol=symbol.symbol,
            messages=messages.get(symbol.symbol, 0),
            last_id=symbol.last_id,
            durable_id=symbol.durable_id,
            last_trade_time_us=symbol.last_trade_time_us,
            holes_open=symbol.holes_open,
            ids_missing=symbol.ids_missing,
            gaps_healed=symbol.holes_healed,
            last_trade_age_seconds=round(
                max(0.0, snapshot.taken_ns / 1e9 - symbol.last_trade_time_us / 1e6), 1
            )
            if symbol.last_trade_time_us
            else None,
            lag_p95_ms=lags_ms.get(symbol.symbol),
        )
        for symbol in snapshot.symbols
    ]
