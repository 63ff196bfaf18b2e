"""Where a stream's messages go on their way to the writer, and what is counted of them."""

from __future__ import annotations

from collections import deque

from crypto_lake.capture.snapshot import Latency
from crypto_lake.completeness.runs import RunBuilder
from crypto_lake.model.market import Stream

LATENCY_SAMPLES = 2048


class Buffer:
    """Lines of one symbol that wait for the next cut. `queued_bytes`: these, and those that the writer has."""

    __slots__ = ("lines", "oldest_monotonic", "queued_bytes", "routes", "runs", "shedding", "symbol")

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.lines = bytearray()
        self.runs = RunBuilder()
        self.oldest_monotonic = 0.0
        self.queued_bytes = 0
        self.routes: list[Route] = []
        self.shedding = False


class Route:
    """A stream: where its messages go, and what is counted of them."""

    __slots__ = (
        "buffer",
        "bytes",
        "greatest_id",
        "greatest_time_us",
        "kind",
        "last_event_time_us",
        "last_message",
        "last_received_ns",
        "latencies_us",
        "lost",
        "lost_bytes",
        "lost_messages",
        "messages",
        "name",
    )

    def __init__(self, name: str, kind: Stream, buffer: Buffer) -> None:
        self.name = name
        self.kind = kind
        self.buffer = buffer
        self.messages = 0
        self.bytes = 0
        self.last_received_ns = 0
        self.last_event_time_us = 0
        self.latencies_us: deque[int] = deque(maxlen=LATENCY_SAMPLES)
        self.lost_messages = 0
        self.lost_bytes = 0
        self.lost = Lost()  # of the gap that is open now
        self.greatest_id = self.greatest_time_us = 0
        self.last_message = b""  # of a stream without ids; else of one that brought no greater id
        buffer.routes.append(self)

    def let_go(self, message: bytes, trade_id: int) -> None:
        """Count a message that is not kept."""
        lost = self.lost
        lost.messages += 1
        lost.bytes += len(message)
        if trade_id >= 0:
            lost.first_id = min(trade_id, lost.first_id) if lost.first_id >= 0 else trade_id
            lost.last_id = max(trade_id, lost.last_id)
        self.lost_messages += 1
        self.lost_bytes += len(message)


class Lost:
    """Messages of a stream that were let go, one after the other. Ids: of the trades among them, -1 for none."""

    __slots__ = ("bytes", "first_id", "last_id", "messages")

    def __init__(self) -> None:
        self.messages = self.bytes = 0
        self.first_id = self.last_id = -1


def latency_of(samples_us: deque[int], offset_us: int) -> Latency | None:
    if not samples_us:
        return None
    ordered = sorted(samples_us)
    last = len(ordered) - 1

    def at(share: float) -> float:
        return (ordered[min(last, int(share * len(ordered)))] + offset_us) / 1000

    return Latency(at(0.5), at(0.95), at(1.0), len(ordered))
