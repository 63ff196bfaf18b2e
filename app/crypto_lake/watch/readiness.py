"""Whether a collector is ready: it is subscribed, and what comes is being written. Pure but for the clock it is given.

An exchange that is away for a moment is no reason to take a collector out of service and in again: who was ready stays
so for a while. Who was never ready, or can't write, is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.watch.reasons import Reason
from crypto_lake.watch.status import running_reasons

# A lost connection is made good within some seconds, a symbol that is added subscribed within one.
GRACE_SECONDS = 30.0
# Gaps and a clock that is off are reasons to look; taking the collector out of service would mend neither.
NOT_READY = frozenset({"not_subscribed", "not_writing", "write_errors", "disk_full"})


class Readiness:
    """Ask `judge` every few seconds, so that it knows since when a subscription is missing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._subscribed_at: float | None = None  # None: never yet

    def judge(self, snapshot: CollectorSnapshot) -> list[Reason]:
        """Why it is not ready; nothing where it is."""
        now = self._clock()
        reasons = [reason for reason in running_reasons(snapshot) if reason.code in NOT_READY]
        if all(reason.code != "not_subscribed" for reason in reasons):
            self._subscribed_at = now
        elif self._subscribed_at is not None and now - self._subscribed_at < GRACE_SECONDS:
            reasons = [reason for reason in reasons if reason.code != "not_subscribed"]
        return reasons
