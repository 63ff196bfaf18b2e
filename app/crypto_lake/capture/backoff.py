"""When to try again. Pure: time and chance are handed in.

Seconds here are of real, monotonic time.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from crypto_lake.capture.outcome import Ending, Outcome

# What the exchange's documents say of these without a Retry-After: 418 bans for two minutes at least, 403 is
# the web application firewall's (no figure given).
_COOL_DOWN_SECONDS = {429: 60.0, 418: 120.0, 403: 300.0}
# A header that says years is an error of somebody; three days is the longest ban documented.
_LONGEST_COOL_DOWN_SECONDS = 3 * 86400.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: any moment up to a ceiling that doubles with each failure.

    A connection that stood for `healthy_seconds` starts the count anew.
    """

    base_seconds: float = 0.5
    ceiling_seconds: float = 60.0
    healthy_seconds: float = 60.0

    def ceiling(self, failures: int) -> float:
        """`failures` in a row before this attempt, at least 1."""
        # The exponent is bounded so that a week of failures does not overflow a float.
        return min(self.ceiling_seconds, self.base_seconds * 2.0 ** min(failures - 1, 60))

    def delay(self, failures: int, chance: random.Random) -> float:
        return chance.uniform(0.0, self.ceiling(failures))

    def failures_after(self, failures: int, outcome: Outcome) -> int:
        """The count of failures in a row, now that a connection has ended so."""
        if outcome.connected_seconds >= self.healthy_seconds:
            failures = 0
        return failures + 1


def cool_down_seconds(ending: Ending) -> float:
    """How long no connection at all may be tried from this address, 0 where nothing forbids it.

    429, 418 and 403 concern the address, so they stop every connection of ours and not only the one refused.
    """
    if ending.http_status not in _COOL_DOWN_SECONDS:
        # A server that is busy (503) may say when to come back; that, too, is obeyed.
        return min(ending.retry_after_seconds or 0.0, _LONGEST_COOL_DOWN_SECONDS)
    asked = ending.retry_after_seconds
    return min(_COOL_DOWN_SECONDS[ending.http_status] if asked is None else asked, _LONGEST_COOL_DOWN_SECONDS)


class AttemptBudget:
    """At most `attempts` in any `window_seconds`, over all connections of this address."""

    def __init__(self, attempts: int, window_seconds: float) -> None:
        if attempts < 1:
            raise ValueError(f"a budget of {attempts} attempts allows no connection")
        self._attempts = attempts
        self._window_seconds = window_seconds
        self._spent: deque[float] = deque()
        self._closed_until = float("-inf")

    def free_at(self, now: float) -> float:
        """The earliest moment, `now` or later, at which an attempt is allowed."""
        while self._spent and self._spent[0] + self._window_seconds <= now:
            self._spent.popleft()
        at = max(now, self._closed_until)
        if len(self._spent) >= self._attempts:
            at = max(at, self._spent[-self._attempts] + self._window_seconds)
        return at

    def spend(self, now: float) -> None:
        """An attempt is made now; `free_at` allowed it."""
        self._spent.append(now)

    def close_until(self, at: float) -> None:
        """The exchange forbids attempts until then."""
        self._closed_until = max(self._closed_until, at)


class MessagePace:
    """Spaces our own messages on one connection, so that with the answers to the server's pings they stay under
    the exchange's limit: two a second are left to those."""

    def __init__(self, messages_per_second: int) -> None:
        self._spacing_seconds = 1.0 / max(1, messages_per_second - 2)
        self._next_at = float("-inf")

    def wait_seconds(self, now: float) -> float:
        """How long to wait before the next message."""
        return max(0.0, self._next_at - now)

    def sent(self, now: float) -> None:
        """A message has gone: later than it might have where the event loop was held up, and the next one with it."""
        self._next_at = now + self._spacing_seconds
