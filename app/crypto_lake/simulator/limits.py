"""What the exchange allows a client, decided on times that are passed in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal


class SlidingRate:
    """At most `limit` events in any `window_seconds`."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self.limit, self.window_seconds = limit, window_seconds
        self._times: deque[float] = deque()

    def allow(self, now: float) -> bool:
        """Count an event at `now` (seconds, never decreasing); False where it is one too many."""
        while self._times and self._times[0] <= now - self.window_seconds:
            self._times.popleft()
        self._times.append(now)
        return len(self._times) <= self.limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a REST request: its status, the weight used in this minute, seconds to wait."""

    status: Literal[200, 429, 418]
    used_weight: int
    retry_after_seconds: int = 0


class WeightWindow:
    """REST weight of one address, by the minute: over the limit 429, and who goes on is banned with 418.

    ban_after: how many requests are answered with 429 before the ban.
    """

    def __init__(self, limit: int, *, ban_after: int = 3, ban_seconds: float = 120.0) -> None:
        self.limit, self.ban_after, self.ban_seconds = limit, ban_after, ban_seconds
        self._minute = -1
        self._used = 0
        self._refused = 0
        self._banned_until = 0.0

    def charge(self, weight: int, now: float) -> Verdict:
        """Charge a request at `now`, in seconds; minutes are those of that clock."""
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._used, self._refused = minute, 0, 0
        if now < self._banned_until:
            return Verdict(418, self._used, int(self._banned_until - now) + 1)
        if self._used + weight <= self.limit:
            self._used += weight
            return Verdict(200, self._used)
        self._refused += 1
        if self._refused > self.ban_after:
            self._banned_until = now + self.ban_seconds
            return Verdict(418, self._used, int(self.ban_seconds) + 1)
        return Verdict(429, self._used, int((minute + 1) * 60 - now) + 1)
