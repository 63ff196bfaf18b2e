"""The hot path: from the messages of one read of a socket to lines in a symbol's buffer.

Nothing parses a message here but `exchange.head`, for its stream, id and times; its bytes become the line's. All of it
runs in the event loop's thread and touches no file: buffers are cut into batches for the writer.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

from crypto_lake.capture.batch import Batch, Item, Rejected
from crypto_lake.capture.intake_protocol import Drained
from crypto_lake.capture.snapshot import Latency, StreamSnapshot
from crypto_lake.completeness.runs import RunBuilder
from crypto_lake.exchanges import Exchange, Head, UnassignableMessageError
from crypto_lake.lake import control, envelope
from crypto_lake.model.clock import Clock, Hour
from crypto_lake.model.market import Stream

log = logging.getLogger(__name__)

LATENCY_SAMPLES = 2048
# Of a flood of bad messages so many a batch are handed on with their bytes; the rest is counted.
REJECTED_KEPT = 1000


class _Buffer:
    """Lines of one symbol that wait for the next cut."""

    __slots__ = ("lines", "oldest_monotonic", "runs", "symbol")

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.lines = bytearray()
        self.runs = RunBuilder()
        self.oldest_monotonic = 0.0


class _Route:
    """A stream: where its messages go, and what is counted of them."""

    __slots__ = (
        "buffer",
        "bytes",
        "kind",
        "last_event_time_us",
        "last_received_ns",
        "latencies_us",
        "messages",
        "name",
    )

    def __init__(self, name: str, kind: Stream, buffer: _Buffer) -> None:
        self.name = name
        self.kind = kind
        self.buffer = buffer
        self.messages = 0
        self.bytes = 0
        self.last_received_ns = 0
        self.last_event_time_us = 0
        self.latencies_us: deque[int] = deque(maxlen=LATENCY_SAMPLES)


class StreamIntake:
    """Implements `Intake` for the connections of one collector.

    `deliver` takes each batch; it must not block. `written(bytes)` tells that so many bytes of batches have left the
    queue: between the two lies what `queue_bytes` bounds.
    """

    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        deliver: Callable[[Batch], None],
        *,
        queue_bytes: int,
        flush_bytes: int,
    ) -> None:
        self._exchange = exchange
        self._clock = clock
        self._deliver = deliver
        self._queue_bytes = queue_bytes
        self._flush_bytes = flush_bytes
        self._buffers: dict[str, _Buffer] = {}
        self._routes: dict[str, _Route] = {}
        self._control = self._buffer(control.CONTROL)
        self._events: list[tuple[int, str, control.AnyEvent]] = []
        self._rejected: list[Rejected] = []
        self._hour = Hour.of_ns(clock.now_ns())
        self._hour_start_ns, self._hour_end_ns = self._hour.start_ns, self._hour.end_ns
        self._paused = False
        self.quarantined: dict[str, int] = {}
        self.queued_bytes = 0  # received and not yet written
        self.queue_full_total = 0

    def add_streams(self, names: Iterable[str]) -> None:
        """Accept these streams from now on. They stay accepted: a removed one may still deliver a little."""
        for name in names:
            if name not in self._routes:
                symbol, kind = self._exchange.parse_stream_name(name)
                self._routes[name] = _Route(name, kind, self._buffer(symbol))

    def _buffer(self, symbol: str) -> _Buffer:
        return self._buffers.setdefault(symbol, _Buffer(symbol))

    # Intake
    @property
    def paused(self) -> bool:
        return self._paused

    def drain(self, connection: str, received_ns: int, messages: list[bytes]) -> Drained:
        if not self._hour_start_ns <= received_ns < self._hour_end_ns:
            self._turn_hour(received_ns)
        prefix = envelope.line_prefix(received_ns, connection)
        received_us = received_ns // 1000
        now = time.monotonic()
        read_head, routes = self._exchange.head, self._routes
        controls: list[Head] = []
        greatest_us = trades = taken = 0
        full: _Buffer | None = None
        for message in messages:
            try:
                head = read_head(message)
            except UnassignableMessageError as error:
                self._reject(message, str(error), connection, received_ns)
                continue
            stream = head.stream
            if stream is None:
                controls.append(head)
                continue
            route = routes.get(stream)
            reason = envelope.refusal(message) if route else f"unknown stream {stream[:64]!r}"
            if route is None or reason is not None:
                self._reject(message, reason or "", connection, received_ns)
                continue
            buffer = route.buffer
            lines = buffer.lines
            if not lines:
                buffer.oldest_monotonic = now
            size = len(lines)
            lines += prefix
            lines += message
            lines += b"}\n"
            taken += len(lines) - size
            route.messages += 1
            route.bytes += len(message)
            route.last_received_ns = received_ns
            if head.trade_id >= 0:
                trades += 1
                buffer.runs.add(head.trade_id, head.trade_time_us, received_ns)
            event_time_us = head.event_time_us
            if event_time_us:
                route.last_event_time_us = event_time_us
                route.latencies_us.append(received_us - event_time_us)
                if event_time_us > greatest_us:
                    greatest_us = event_time_us
            if len(lines) >= self._flush_bytes:
                full = buffer
        if greatest_us:
            self._clock.observe(greatest_us * 1000)
        self.queued_bytes += taken
        if full is not None:
            self._cut_full()
        if not self._paused and self.queued_bytes > self._queue_bytes:
            self._pause()
        return Drained(controls, greatest_us, trades)

    def event(self, connection: str, event: control.AnyEvent) -> None:
        received_ns = self._clock.now_ns()
        if not self._hour_start_ns <= received_ns < self._hour_end_ns:
            self._turn_hour(received_ns)
        buffer = self._control
        if not buffer.lines:
            buffer.oldest_monotonic = time.monotonic()
        line = envelope.encode(received_ns, connection, control.encode_event(event))
        buffer.lines += line
        self.queued_bytes += len(line)
        self._events.append((received_ns, connection, event))

    # to the writer
    def cut(self, *, sync: bool = False) -> None:
        """Hand everything received so far to the writer, as one batch. Empty batches go too: they tell the time."""
        buffers = [b for b in self._buffers.values() if b.lines]
        self._send(buffers, self._clock.now_ns(), whole=True, sync=sync)

    def written(self, size: int) -> None:
        """So many bytes are written: called in the event loop's thread."""
        self.queued_bytes -= size
        if self._paused and self.queued_bytes < self._queue_bytes // 2:
            self._paused = False
            log.warning("reading goes on: %d bytes wait to be written", self.queued_bytes)

    def _cut_full(self) -> None:
        full = [b for b in self._buffers.values() if len(b.lines) >= self._flush_bytes]
        self._send(full, self._clock.now_ns(), whole=False)

    def _send(self, buffers: list[_Buffer], cut_ns: int, *, whole: bool, sync: bool = False) -> None:
        items: list[Item] = []
        size = 0
        for buffer in buffers:
            items.append(Item(buffer.symbol, buffer.lines, buffer.runs.take(), buffer.oldest_monotonic))
            size += len(buffer.lines)
            buffer.lines = bytearray()
        events, self._events = self._events, []
        rejected, self._rejected = self._rejected, []
        self._deliver(Batch(self._hour, items, size, cut_ns, whole, sync, events, rejected))

    def _turn_hour(self, received_ns: int) -> None:
        """The hour ended (or the clock stepped): what was received in it goes on its way as one batch."""
        cut_ns = max(self._hour_start_ns, min(received_ns, self._hour_end_ns))
        self._send([b for b in self._buffers.values() if b.lines], cut_ns, whole=True)
        self._hour = Hour.of_ns(received_ns)
        self._hour_start_ns, self._hour_end_ns = self._hour.start_ns, self._hour.end_ns

    def _pause(self) -> None:
        self._paused = True
        self.queue_full_total += 1
        log.warning(
            "the disk does not keep up: %d bytes wait to be written (limit %d); reading pauses until half is written",
            self.queued_bytes,
            self._queue_bytes,
        )

    def _reject(self, message: bytes, reason: str, connection: str, received_ns: int) -> None:
        key = reason.partition(":")[0].partition("'")[0].strip()
        self.quarantined[key] = self.quarantined.get(key, 0) + 1
        if len(self._rejected) < REJECTED_KEPT:
            self._rejected.append(Rejected(message, reason, connection, received_ns))

    # what is told
    def stream_snapshots(self, offset_us: int) -> list[StreamSnapshot]:
        """Latency is corrected by `offset_us`, the exchange's clock minus ours."""
        return [
            StreamSnapshot(
                route.name,
                route.buffer.symbol,
                route.kind.value,
                route.messages,
                route.bytes,
                route.last_received_ns,
                route.last_event_time_us,
                _latency(route.latencies_us, offset_us),
            )
            for route in self._routes.values()
        ]


def _latency(samples_us: deque[int], offset_us: int) -> Latency | None:
    if not samples_us:
        return None
    ordered = sorted(samples_us)
    last = len(ordered) - 1

    def at(share: float) -> float:
        return (ordered[min(last, int(share * len(ordered)))] + offset_us) / 1000

    return Latency(at(0.5), at(0.95), at(1.0), len(ordered))
