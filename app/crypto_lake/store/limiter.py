"""A limit on bandwidth, shared by threads: a token bucket that may go into debt.

A take is never refused or split: it is let through at once and the next ones wait for it, so that the rate holds over
time and a single take may be larger than the bucket.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many bytes may pass: `tokens_bytes` at `at_seconds`, growing by `rate` a second up to `burst`."""

    rate_bytes_per_second: float
    burst_bytes: float
    tokens_bytes: float
    at_seconds: float


def full_bucket(rate_bytes_per_second: float, burst_bytes: float, now_seconds: float) -> Bucket:
    return Bucket(rate_bytes_per_second, burst_bytes, burst_bytes, now_seconds)


def take(bucket: Bucket, amount_bytes: int, now_seconds: float) -> tuple[Bucket, float]:
    """The bucket after `amount_bytes` were taken, and how many seconds the taker has to wait before using them.

    A clock that goes back adds nothing and takes nothing.
    """
    passed = max(0.0, now_seconds - bucket.at_seconds)
    tokens = (
        min(bucket.burst_bytes, bucket.tokens_bytes + passed * bucket.rate_bytes_per_second) - amount_bytes
    )
    after = Bucket(
        bucket.rate_bytes_per_second, bucket.burst_bytes, tokens, max(now_seconds, bucket.at_seconds)
    )
    return after, max(0.0, -tokens / bucket.rate_bytes_per_second)


class Limiter:
    """Bytes a second for all who share it. The burst is a quarter of a second's worth."""

    def __init__(
        self,
        bytes_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not bytes_per_second > 0:
            raise ValueError(f"a bandwidth limit is above 0 bytes a second, not {bytes_per_second}")
        self.bytes_per_second = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._bucket = full_bucket(bytes_per_second, bytes_per_second / 4, clock())

    def take(self, amount_bytes: int) -> None:
        """Wait until this many bytes may be sent. Callers are served in the order in which they came."""
        with self._lock:
            self._bucket, wait_seconds = take(self._bucket, amount_bytes, self._clock())
        if wait_seconds > 0:
            self._sleep(wait_seconds)
