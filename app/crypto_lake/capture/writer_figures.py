"""What the writer counts, and how it is told to other threads."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from crypto_lake.capture.raw_files import RawFigures
from crypto_lake.capture.snapshot import WriterSnapshot
from crypto_lake.completeness.entries import Cause

_SAMPLES = 4096


@dataclass
class Trouble:
    """Why something can not be written, and when it is tried again."""

    cause: Cause
    since_ns: int
    since_monotonic: float
    text: str
    retry_at: float


@dataclass
class Figures:
    fsyncs: int = 0
    fsync_last_ms: float = 0.0
    last_fsync_ns: int = 0
    write_errors: int = 0
    troubles: int = 0
    last_error: str = ""
    last_error_ns: int = 0
    reserve_bytes: int = 0
    intervals: deque[tuple[float, float]] = field(
        default_factory=lambda: deque[tuple[float, float]](maxlen=120)
    )
    to_durable: deque[float] = field(default_factory=lambda: deque[float](maxlen=_SAMPLES))


def tell(
    figures: Figures,
    raw: RawFigures,
    trouble: Trouble | None,
    queue_bytes: int,
    queue_limit_bytes: int,
    queue_full_total: int,
) -> WriterSnapshot:
    since = time.monotonic() - 60
    intervals = [interval for at, interval in list(figures.intervals) if at >= since]
    samples = sorted(figures.to_durable.copy())
    return WriterSnapshot(
        queue_bytes,
        queue_limit_bytes,
        queue_full_total,
        raw.bytes_written,
        raw.frames,
        raw.parts,
        figures.fsyncs,
        max(intervals, default=0.0) * 1000,
        figures.fsync_last_ms,
        samples[int(0.99 * (len(samples) - 1))] * 1000 if samples else 0.0,
        figures.last_fsync_ns,
        figures.write_errors,
        trouble.cause if trouble else "",
        trouble.since_ns if trouble else 0,
        figures.last_error,
        figures.last_error_ns,
        figures.troubles,
        reserve_bytes=figures.reserve_bytes,
    )
