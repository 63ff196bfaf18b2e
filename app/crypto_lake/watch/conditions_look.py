"""What conditions are judged by, and what a check finds."""

from __future__ import annotations

from typing import Any

import msgspec

from crypto_lake.capture.snapshot import CollectorSnapshot
from crypto_lake.model.alerting import Severity
from crypto_lake.model.market import NS_PER_SECOND
from crypto_lake.watch.status import Limits, Observation

MINUTE_NS = 60 * NS_PER_SECOND
_FRESH_SECONDS = Limits().snapshot_age_seconds


class Look(msgspec.Struct, frozen=True):
    """What there is to see at a moment.

    now_ns: real time. expected_tasks: tasks that run here, so that one which never reported is late, too.
    quarantined: entries that were put into quarantine since the look before; `quarantine_last` the newest's reason.
    """

    seen: Observation
    now_ns: int
    expected_tasks: tuple[str, ...] = ()
    quarantined: int = 0
    quarantine_last: str = ""

    @property
    def running(self) -> CollectorSnapshot | None:
        """The snapshot of a collector that runs and reports; None where there is none."""
        seen = self.seen
        fresh = seen.locked is not False and seen.snapshot_age_seconds <= _FRESH_SECONDS
        return seen.snapshot if fresh else None


class Finding(msgspec.Struct, frozen=True):
    """A condition that holds now.

    started_ns: since when, in real time, as far as the evidence says; 0: since it was first found.
    hold_seconds: how long it must have been found before it fires: what mends itself in that time is no alert.
    """

    subject: str
    message: str
    severity: Severity
    started_ns: int = 0
    hold_seconds: float = 0.0
    details: dict[str, Any] = {}
