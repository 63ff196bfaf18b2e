"""How long to go on trying: exponential waits with jitter, ended by a time without progress."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from crypto_lake.store.base import StoreSettings
from crypto_lake.store.errors import Unavailable


def wait_seconds(attempt: int, first_seconds: float, longest_seconds: float, chance: float) -> float:
    """The wait before the attempt after `attempt` failures (from 1): doubled each time, the upper half at random.

    `chance` is in [0, 1).
    """
    ceiling = min(longest_seconds, first_seconds * 2.0 ** min(attempt - 1, 60))
    return ceiling * (0.5 + chance / 2)


class Patience:
    """The tries of one call. `pause` sleeps before the next one, or raises Unavailable when time is up."""

    def __init__(
        self,
        settings: StoreSettings,
        at: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._at = at
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._failures = 0
        self._since = clock()

    def progressed(self) -> None:
        """Something got through: the time without progress begins anew."""
        self._failures = 0
        self._since = self._clock()

    def excuse(self, seconds: float) -> None:
        """This much of the time was spent waiting for leave to send, and does not count."""
        self._since += seconds

    def pause(self, why: str, cause: BaseException | None = None) -> None:
        """Wait before another try. Unavailable, with the last reason, where the deadline would pass meanwhile."""
        self._failures += 1
        settings = self._settings
        wait = wait_seconds(
            self._failures, settings.first_wait_seconds, settings.longest_wait_seconds, self._chance()
        )
        if self._clock() + wait - self._since > settings.deadline_seconds:
            tries = "1 try" if self._failures == 1 else f"{self._failures} tries"
            raise Unavailable(
                f"no success within {settings.deadline_seconds:g} s and {tries}; at last: {why}",
                at=self._at,
                hint="Nothing local was changed. Try again later; the same call finds out what the store has.",
            ) from cause
        self._sleep(wait)
