"""What became of the tasks that have no volume: publish, macro. Pure.

Their pods are gone an hour after their end; what they left stays in the status.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from crypto_lake_operator import naming
from crypto_lake_operator.api import CryptoLake
from crypto_lake_operator.api_status import Status, TaskStatus
from crypto_lake_operator.observed import Ended, Observed

LONGEST_PROBLEM: Final = 1000


def wanted(lake: CryptoLake) -> Iterator[str]:
    if lake.spec.bucket:
        yield naming.PUBLISH
        if lake.spec.macro is not None:
            yield naming.MACRO


def of_lake(lake: CryptoLake, observed: Observed, previous: Status) -> tuple[TaskStatus, ...]:
    """Of those that spec asks for and that have run. An end that is older than what is known changes nothing."""
    found: list[TaskStatus] = []
    for name in wanted(lake):
        before, end = previous.task(name), observed.ends.get(name)
        if end is not None and (before is None or _iso(end.at) > before.ended):
            found.append(_made(end, before))
        elif before is not None:
            found.append(before)
    return tuple(found)


def _made(end: Ended, before: TaskStatus | None) -> TaskStatus:
    last_ok = _iso(end.at) if end.ok else before.last_ok if before else None
    return TaskStatus(
        name=end.task, ok=end.ok, ended=_iso(end.at), last_ok=last_ok, problem=end.problem[:LONGEST_PROBLEM]
    )


def last_published_day(lake: CryptoLake, observed: Observed, previous: Status) -> str | None:
    """As the last run says that saw all; empty text there: no day is."""
    if not lake.spec.bucket:
        return None
    end = observed.ends.get(naming.PUBLISH)
    if end is None or end.last_published_day is None:
        return previous.last_published_day
    return end.last_published_day or None


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
