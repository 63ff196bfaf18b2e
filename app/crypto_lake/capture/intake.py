"""The hot path: from the messages of one read of a socket to lines in a symbol's buffer.

Nothing parses a message here but `exchange.head`, for its stream, id and times; its bytes become the line's. All of it
runs in the event loop's thread and touches no file: buffers are cut into batches for the writer.

What is received and not yet safe is bounded. A disk that is slow for a moment pauses reading; one that takes nothing
(it is full, it fails, it hangs) does not: then messages are counted and let go (see `shedding`), and what was let go
is told by a `messages_lost` event, from which the ledger knows the cause of the gap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterable, Mapping

from crypto_lake.capture.batch import PROCESS, Batch, Item, Rejected
from crypto_lake.capture.intake_protocol import Drained
from crypto_lake.capture.routes import Buffer, Lost, Route, latency_of
from crypto_lake.capture.shedding import Queue, sheds
from crypto_lake.capture.snapshot import StreamSnapshot
from crypto_lake.completeness.entries import Cause, Outcome, Quiet
from crypto_lake.exchanges import Exchange, Head, UnassignableMessageError
from crypto_lake.lake import control, envelope
from crypto_lake.model.clock import Clock, Hour

log = logging.getLogger(__name__)

# Of a flood of bad messages so many a batch are handed on with their bytes; the rest is counted.
REJECTED_KEPT = 1000
# How long reading pauses for a slow disk. An exchange closes a connection that is not read (Binance: after its next
# ping, which comes every 20 s).
PAUSE_SECONDS = 10.0


class StreamIntake:
    """Implements `Intake` for the connections of one collector.

    `deliver` takes each batch; it must not block. `written` tells what of it is safe: between the two lies what
    `queue_bytes` bounds.
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
        self._buffers: dict[str, Buffer] = {}
        self._routes: dict[str, Route] = {}
        self._control = self._buffer(control.CONTROL)
        self._events: list[tuple[int, str, control.AnyEvent]] = []
        self._rejected: list[Rejected] = []
        self._settled: list[tuple[str, Outcome | Quiet]] = []
        self._hour = Hour.of_ns(clock.now_ns())
        self._hour_start_ns, self._hour_end_ns = self._hour.start_ns, self._hour.end_ns
        self._paused_at: float | None = None
        self._trouble: Cause | None = None
        self._overrun = False  # reading paused for as long as it may, and the disk is still behind
        self.quarantined: dict[str, int] = {}
        self.queued_bytes = 0  # received and not yet safe
        self.queue_full_total = 0

    def add_streams(self, names: Iterable[str]) -> None:
        """Accept these streams from now on. They stay accepted: a removed one may still deliver a little."""
        for name in names:
            if name not in self._routes:
                symbol, kind = self._exchange.parse_stream_name(name)
                self._routes[name] = Route(name, kind, self._buffer(symbol))

    def _buffer(self, symbol: str) -> Buffer:
        return self._buffers.setdefault(symbol, Buffer(symbol))

    # Intake
    @property
    def paused(self) -> bool:
        if self._paused_at is None:
            return False
        if time.monotonic() - self._paused_at <= PAUSE_SECONDS:
            return True
        self._paused_at, self._overrun = None, True
        log.error(
            "the disk has not kept up for %.0f s: %d bytes wait; reading goes on so that the connections stay, and "
            "what there is no room for is let go and becomes a gap",
            PAUSE_SECONDS,
            self.queued_bytes,
        )
        return False

    def drain(self, connection: str, received_ns: int, messages: list[bytes]) -> Drained:
        if not self._hour_start_ns <= received_ns < self._hour_end_ns:
            self._turn_hour(received_ns)
        prefix = envelope.line_prefix(received_ns, connection)
        received_us = received_ns // 1000
        now = time.monotonic()
        read_head, routes = self._exchange.head, self._routes
        controls: list[Head] = []
        greatest_us = trades = taken = 0
        full: Buffer | None = None
        shedding = self._shedding(received_ns) if self._trouble or self._overrun else None
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
            if head.trade_id > route.greatest_id:
                route.greatest_id, route.greatest_time_us = head.trade_id, head.trade_time_us
            else:
                route.last_message = message
            if shedding and buffer in shedding:
                route.let_go(message, head.trade_id)
                route.last_received_ns = received_ns
                continue
            lines = buffer.lines
            if not lines:
                buffer.oldest_monotonic = now
            size = len(lines)
            lines += prefix
            lines += message
            lines += b"}\n"
            size = len(lines) - size
            taken += size
            buffer.queued_bytes += size
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
        if self.queued_bytes > self._queue_bytes and self._paused_at is None:
            self._pause()
        return Drained(controls, greatest_us, trades)

    def event(self, connection: str, event: control.AnyEvent) -> None:
        self.answer(event, connection)

    def answer(self, event: control.AnyEvent, connection: str = PROCESS) -> int:
        """The same; returns when it was received, for who refers to it."""
        received_ns = self._clock.now_ns()
        if not self._hour_start_ns <= received_ns < self._hour_end_ns:
            self._turn_hour(received_ns)
        self._event(received_ns, connection, event)
        return received_ns

    def settle(self, symbol: str, outcomes: Iterable[Outcome | Quiet]) -> None:
        """What healing did, for the ledger: it goes with the next batch, behind what was told before."""
        self._settled += [(symbol, outcome) for outcome in outcomes]

    def _event(self, received_ns: int, connection: str, event: control.AnyEvent) -> None:
        self._events.append((received_ns, connection, event))
        # A full queue still takes what explains the gaps to come, up to a limit of its own; figures it does without.
        room = self._queue_bytes * (1 if isinstance(event, control.Alive | control.ClockOffset) else 2)
        if self.queued_bytes > room:
            return
        buffer = self._control
        if not buffer.lines:
            buffer.oldest_monotonic = time.monotonic()
        line = envelope.encode(received_ns, connection, control.encode_event(event))
        buffer.lines += line
        buffer.queued_bytes += len(line)
        self.queued_bytes += len(line)

    # to the writer
    def cut(self, *, sync: bool = False) -> None:
        """Hand everything received so far to the writer, as one batch. Empty batches go too: they tell the time."""
        buffers = [b for b in self._buffers.values() if b.lines]
        self._send(buffers, self._clock.now_ns(), whole=True, sync=sync)

    def written(self, sizes: Mapping[str, int]) -> None:
        """So many bytes of each symbol are safe: called in the event loop's thread."""
        for symbol, size in sizes.items():
            self._buffers[symbol].queued_bytes -= size
            self.queued_bytes -= size
        if self.queued_bytes < self._queue_bytes // 2:
            if self._paused_at is not None:
                self._paused_at = None
                log.warning("reading goes on: %d bytes wait to be written", self.queued_bytes)
            if self._overrun:
                self._end_shedding()
                self._overrun = False

    def trouble(self, cause: Cause | None) -> None:
        """The disk takes nothing, and why; None: it does again. Called in the event loop's thread."""
        if cause is None:
            self._end_shedding()
        else:
            self._paused_at = None
        self._trouble = cause

    def _shedding(self, received_ns: int) -> frozenset[Buffer]:
        """The symbols whose messages are let go now. Of those that are taken again it is told what was lost."""
        now: list[Buffer] = []
        for buffer in self._buffers.values():
            queue = Queue(self.queued_bytes, self._queue_bytes, len(self._buffers))
            before, buffer.shedding = (
                buffer.shedding,
                sheds(queue, buffer.queued_bytes, shedding=buffer.shedding),
            )
            if buffer.shedding:
                now.append(buffer)
            elif before:
                self._tell_lost(buffer, received_ns)
        return frozenset(now)

    def _end_shedding(self) -> None:
        received_ns = self._clock.now_ns()
        for buffer in self._buffers.values():
            if buffer.shedding:
                buffer.shedding = False
                self._tell_lost(buffer, received_ns)

    def _tell_lost(self, buffer: Buffer, received_ns: int) -> None:
        cause: Cause = self._trouble or "write_error"
        for route in buffer.routes:
            lost, route.lost = route.lost, Lost()
            if lost.messages:
                event = control.MessagesLost(
                    buffer.symbol,
                    route.name,
                    lost.messages,
                    cause,
                    lost.bytes,
                    max(lost.first_id, 0),
                    max(lost.last_id, 0),
                )
                self._event(received_ns, PROCESS, event)

    def finish(self) -> None:
        """Hand over the last of it, and what was let go of and not told yet."""
        self._end_shedding()
        self.cut()

    def _cut_full(self) -> None:
        full = [b for b in self._buffers.values() if len(b.lines) >= self._flush_bytes]
        self._send(full, self._clock.now_ns(), whole=False)

    def _send(self, buffers: list[Buffer], cut_ns: int, *, whole: bool, sync: bool = False) -> None:
        items: list[Item] = []
        for buffer in buffers:
            items.append(
                Item(
                    buffer.symbol,
                    buffer.lines,
                    buffer.runs.take(),
                    buffer.oldest_monotonic,
                    self._hour,
                    cut_ns,
                )
            )
            buffer.lines = bytearray()
        events, self._events = self._events, []
        rejected, self._rejected = self._rejected, []
        settled, self._settled = self._settled, []
        self._deliver(Batch(self._hour, items, cut_ns, whole, sync, events, rejected, settled))

    def _turn_hour(self, received_ns: int) -> None:
        """The hour ended (or the clock stepped): what was received in it goes on its way as one batch."""
        cut_ns = max(self._hour_start_ns, min(received_ns, self._hour_end_ns))
        self._send([b for b in self._buffers.values() if b.lines], cut_ns, whole=True)
        self._hour = Hour.of_ns(received_ns)
        self._hour_start_ns, self._hour_end_ns = self._hour.start_ns, self._hour.end_ns

    def _pause(self) -> None:
        if self._trouble or self._overrun:
            return
        self._paused_at = time.monotonic()
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
    @property
    def routes(self) -> Mapping[str, Route]:
        """By the stream's name."""
        return self._routes

    def stream_snapshots(self, offset_us: int, live: Container[str] = ()) -> list[StreamSnapshot]:
        """Latency is corrected by `offset_us`, the exchange's clock minus ours. `live`: names of streams."""
        return [
            StreamSnapshot(
                route.name,
                route.buffer.symbol,
                route.kind.value,
                route.messages,
                route.bytes,
                route.last_received_ns,
                route.last_event_time_us,
                latency_of(route.latencies_us, offset_us),
                route.lost_messages,
                route.lost_bytes,
                route.name in live,
            )
            for route in self._routes.values()
        ]
