"""When a task runs: as spec says, to the letter, or else at a time of its own, which follows from its CronJob's name. Pure.

Lakes that say nothing would otherwise all begin in one minute: ask one exchange from one address, and want room of one
cluster. A name's time never changes while these windows stay, whoever renders it.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from crypto_lake_operator import cron, naming
from crypto_lake_operator.api import CryptoLakeSpec

DAY_MINUTES: Final = 24 * 60
HOUR_MINUTES: Final = 60


class Window(NamedTuple):
    """One of these minutes is a task's own, in each period of so many minutes: first and last, both included."""

    period_minutes: int
    first: int
    last: int


# Of an hour: it is sealed, goes to the bucket, is published, and may be deleted, in this order.
# Of a day: none begins before the day before is over, sealed and healed.
WINDOWS: Final = {
    "transform": Window(5, 0, 4),
    "upload": Window(HOUR_MINUTES, 10, 29),
    naming.PUBLISH: Window(HOUR_MINUTES, 30, 44),
    "cleanup": Window(HOUR_MINUTES, 45, 59),
    naming.CHECK: Window(DAY_MINUTES, 3 * 60, 7 * 60 - 1),
    naming.MACRO: Window(DAY_MINUTES, 6 * 60, 8 * 60 - 1),
}


def given(spec: CryptoLakeSpec, task: str) -> str | None:
    """What spec says of it."""
    if task == naming.CHECK:
        return spec.check.schedule
    if task == naming.MACRO:
        return spec.macro.schedule if spec.macro is not None else None
    schedule: str | None = getattr(spec.schedules, task)
    return schedule


def schedule(spec: CryptoLakeSpec, task: str, namespace: str, name: str) -> str:
    """As cron in UTC. name: the CronJob's."""
    return given(spec, task) or own(task, namespace, name)


def own(task: str, namespace: str, name: str) -> str:
    """The CronJob's own time."""
    window = WINDOWS[task]
    # Not hash(): that is another one in each process.
    digest = hashlib.sha256(f"{namespace}/{name}".encode()).digest()
    minute = window.first + int.from_bytes(digest[:8]) % (window.last - window.first + 1)
    if window.period_minutes == DAY_MINUTES:
        return f"{minute % 60} {minute // 60} * * *"
    if window.period_minutes == HOUR_MINUTES:
        return f"{minute} * * * *"
    return f"{minute}-59/{window.period_minutes} * * * *"


def longest_period_minutes(spec: CryptoLakeSpec, task: str) -> int:
    """The greatest time between two runs: the same for all CronJobs of a task, whatever minute is their own."""
    text = given(spec, task)
    return WINDOWS[task].period_minutes if text is None else cron.longest_period_minutes(text)
